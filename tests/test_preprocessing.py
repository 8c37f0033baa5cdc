"""Preprocessing: the record, its checks, its sizes, and that it travels with a model."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.errors import ArgumentError
from fastconv.formats import npz
from fastconv.formats.npz import model as npz_model
from fastconv.graph import Graph, Node
from fastconv.graph.preprocessing import INTERPOLATIONS, MAX_PIXELS, SCALE, Preprocessing
from fastconv.model import Model

FULL = Preprocessing(
    resize_size=10, crop_size=8, interpolation="bicubic", antialias=False, scale=0.5, mean=(1, 2, 3), std=(4, 5, 6)
)


def network(preprocessing: Preprocessing | None, *shape: int) -> Graph:
    """A network on images whose output is a class per number of the image."""
    return Graph(shape or (3, 8, 8), (Node("flat", "flatten"),), ("flat",), preprocessing=preprocessing)


# --- the record -----------------------------------------------------------------------------------


def test_fields_have_one_spelling_and_defaults() -> None:
    assert npz_model._PREPROCESSING == Preprocessing.FIELDS
    assert Preprocessing(resize_size=[256], crop_size=[224]) == Preprocessing(256, (224, 224))
    assert Preprocessing(resize_size=np.int64(3)).resize_size == 3
    assert Preprocessing(resize_size=[3, 4]).resize_size == (3, 4)
    assert Preprocessing(mean=np.array([1, 2])).mean == (1.0, 2.0)
    assert (Preprocessing().scale, SCALE) == (1 / 255, 1 / 255)
    assert Preprocessing().given() == {}
    assert list(FULL.given()) == list(Preprocessing.FIELDS)
    assert dict(zip(Preprocessing.FIELDS, Preprocessing.DEFAULTS, strict=True)) == {
        name: getattr(Preprocessing(), name) for name in Preprocessing.FIELDS
    }


def test_it_is_a_value() -> None:
    same = FULL.replace()
    assert same == FULL
    assert hash(same) == hash(FULL)
    assert FULL.replace(scale=0.25) != FULL
    assert FULL != "something else"
    assert copy.deepcopy(FULL) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert eval(repr(FULL)) == FULL
    with pytest.raises(FrozenInstanceError, match="'scale'"):
        FULL.scale = 1.0


def test_it_is_shown_in_a_line() -> None:
    assert str(FULL) == (
        "resize shorter side to 10 (bicubic, no antialias), center crop 8x8, scale 0.5, mean 1 2 3, std 4 5 6"
    )
    assert str(Preprocessing((4, 6), mean=(0.485,))) == "resize to 4x6 (bilinear), scale 1/255, mean 0.485"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resize_size": 0}, "resize_size must be at least 1, got 0"),
        ({"resize_size": (4, -1)}, "resize_size must be at least 1"),
        ({"resize_size": True}, "resize_size must be an int"),
        ({"resize_size": 2.5}, "resize_size must be an int"),
        ({"resize_size": ()}, "resize_size must be an int"),
        ({"resize_size": (1, 2, 3)}, "resize_size must be an int"),
        ({"resize_size": MAX_PIXELS}, f"at most {MAX_PIXELS} pixels"),
        ({"crop_size": 0}, "crop_size must be at least 1"),
        ({"crop_size": (1, 2, 3)}, "crop_size must be an int or a pair"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, bilinear, .*, got 'cubic'"),
        ({"interpolation": None}, "interpolation must be one of"),
        ({"antialias": None}, "antialias must be True or False"),
        ({"antialias": False, "interpolation": "box"}, "antialias must be True where interpolation is 'box'"),
        ({"scale": 0}, "scale must be finite and positive, got 0"),
        ({"scale": True}, "scale must be finite and positive"),
        ({"scale": float("nan")}, "scale must be finite and positive"),
        ({"scale": "1"}, "scale must be a number"),
        ({"mean": 0.5}, "mean must be a list of numbers"),
        ({"mean": ("x",)}, "mean must be a number"),
        ({"mean": (float("nan"),)}, "mean must be finite"),
        ({"std": (0.0,)}, "std must be finite and positive"),
        ({"std": (float("inf"),)}, "std must be finite and positive"),
        ({"std": "1"}, "std must be a list"),
    ],
    ids=str,
)
def test_what_is_not_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Preprocessing(**fields)


# --- in a Graph -----------------------------------------------------------------------------------


def test_a_graph_settles_mean_and_std() -> None:
    graph = network(Preprocessing(mean=(1, 2, 3)))
    assert (graph.mean, graph.std) == ((1, 2, 3), (1, 1, 1))
    graph = network(Preprocessing(std=(1, 2, 3)))
    assert (graph.mean, graph.std) == ((0, 0, 0), (1, 2, 3))
    assert network(None).mean is network(None).std is network(None).preprocessing is None
    assert network(FULL).replace(labels=[str(i) for i in range(192)]).preprocessing == FULL


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"mean": (0.5, 0.5)}, (1, 8, 8), "mean must have one number for each of 1 channels, got 2"),
        ({"std": (0.5,)}, (3, 8, 8), "std must have one number for each of 3 channels, got 1"),
        ({"crop_size": 6}, (3, 8, 6), r"crop_size gives 6x6 pixels .* takes 8x6; give the network that input_shape"),
        ({"resize_size": 9, "crop_size": (6, 8)}, (3, 8, 6), "crop_size gives 6x8 pixels"),
        ({"resize_size": (6, 8)}, (3, 8, 6), "resize_size gives 6x8 pixels"),
        ({"resize_size": 8}, (192,), r"resize_size is for images.*\(192,\)"),
        ({"crop_size": 8}, (3, 0, 8), "crop_size is for images"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(fields: dict[str, Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        network(Preprocessing(**fields), *shape)


def test_a_dict_is_no_preprocessing() -> None:
    with pytest.raises(ArgumentError, match=r"preprocessing must be a .*\.Preprocessing, got {'scale': 1}"):
        network({"scale": 1})  # type: ignore[arg-type]


# --- kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preprocessing",
    [
        None,
        FULL,
        Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Preprocessing(resize_size=(8, 8), interpolation="nearest"),
        Preprocessing(crop_size=8, scale=1),
        *(Preprocessing(resize_size=8, crop_size=8, interpolation=name) for name in INTERPOLATIONS),
    ],
    ids=repr,
)
def test_it_is_saved_and_pickled_with_the_model(preprocessing: Preprocessing | None, tmp_path: Path) -> None:
    model = Model(network(preprocessing))
    model.save(tmp_path / "model.npz")
    assert fastconv.load(tmp_path / "model.npz").preprocessing == preprocessing == model.preprocessing
    assert pickle.loads(pickle.dumps(model)).preprocessing == preprocessing


def document_of(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return json.loads(file["fastconv.json"].tobytes())


def test_the_file_holds_what_is_not_the_default(tmp_path: Path) -> None:
    npz.save(network(FULL), tmp_path / "full.npz")
    found = document_of(tmp_path / "full.npz")
    assert {key: found[key] for key in Preprocessing.FIELDS} == {
        "resize_size": 10, "crop_size": [8, 8], "interpolation": "bicubic", "antialias": False,
        "scale": 0.5, "mean": [1, 2, 3], "std": [4, 5, 6],
    }  # fmt: skip
    npz.save(network(Preprocessing(mean=(1, 2, 3))), tmp_path / "mean.npz")
    assert set(document_of(tmp_path / "mean.npz")) == {
        "format", "version", "input_shape", "nodes", "outputs", "labels", "mean", "std",
    }  # fmt: skip


def test_files_without_it_load_as_before(tmp_path: Path) -> None:
    nodes = [{"name": "flat", "op": "flatten", "inputs": ["input"]}]
    document = {"format": "fastconv", "version": 1, "input_shape": [3, 8, 8], "nodes": nodes, "outputs": ["flat"]}
    for more, expected in (
        ({}, None),
        ({"labels": None, "mean": None, "std": None}, None),
        ({"mean": [1, 2, 3], "std": [4, 5, 6]}, Preprocessing(mean=(1, 2, 3), std=(4, 5, 6))),
        (dict.fromkeys(Preprocessing.FIELDS), None),
    ):
        text = json.dumps(document | more).encode()
        np.savez(tmp_path / "model.npz", **{"fastconv.json": np.frombuffer(text, np.uint8)})
        assert npz.load(tmp_path / "model.npz").preprocessing == expected


@pytest.mark.parametrize(
    ("saved", "shape", "expected"),
    [
        (Preprocessing(256, 224), (3, 288, 288), Preprocessing(329, 288)),
        (Preprocessing(256, 224), (3, 224, 224), Preprocessing(256, 224)),
        (Preprocessing(256, 224), (3, 112, 448), Preprocessing(512, (112, 448))),
        (Preprocessing((224, 224)), (3, 100, 50), Preprocessing((100, 50))),
        (Preprocessing((256, 240), 224), (3, 448, 112), Preprocessing((512, 120), (448, 112))),
        (Preprocessing(scale=1, mean=(1, 2, 3)), (3, 5, 5), Preprocessing(scale=1, mean=(1, 2, 3), std=(1, 1, 1))),
        (
            Preprocessing(crop_size=224, std=(1, 2, 3)),
            (3, 5, 6),
            Preprocessing(None, (5, 6), std=(1, 2, 3), mean=(0,) * 3),
        ),
    ],
    ids=str,
)
def test_another_input_shape_keeps_the_share_that_is_cropped(
    saved: Preprocessing, shape: tuple[int, ...], expected: Preprocessing, tmp_path: Path
) -> None:
    npz.save(network(saved, 3, 224, 224), tmp_path / "model.npz")
    assert npz.load(tmp_path / "model.npz", shape).preprocessing == expected


def test_another_input_shape_does_not_hide_what_is_wrong_in_the_file(tmp_path: Path) -> None:
    nodes = [{"name": "flat", "op": "flatten", "inputs": ["input"]}]
    document = {"format": "fastconv", "version": 1, "input_shape": [3, 8, 8], "nodes": nodes, "outputs": ["flat"]}
    text = json.dumps(document | {"crop_size": 7}).encode()
    np.savez(tmp_path / "model.npz", **{"fastconv.json": np.frombuffer(text, np.uint8)})
    with pytest.raises(ArgumentError, match="crop_size gives 7x7"):
        npz.load(tmp_path / "model.npz", (3, 9, 9))


# --- shown ----------------------------------------------------------------------------------------


def test_the_summary_has_it_above_the_table() -> None:
    summary = Model(network(Preprocessing(256, 8, mean=(1, 2, 3)))).summary()
    first, header, *_ = str(summary).splitlines()
    line = "resize shorter side to 256 (bilinear), center crop 8x8, scale 1/255, mean 1 2 3, std 1 1 1"
    assert first == f"images: {line}"
    assert header.split()[0] == "layer"
    assert f"<caption>images: {line}</caption>" in summary._repr_html_()
    plain = Model(network(None)).summary()
    assert str(plain).split()[0] == "layer"
    assert "caption" not in plain._repr_html_()
