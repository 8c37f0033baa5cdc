"""Names of classes and preprocessing for files that hold neither: `load(…, labels=, mean=, std=, transforms=)`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Net

import fastconv
from fastconv.graph import Graph
from fastconv.graph.preprocessing import Preprocessing

FIELDS = {"resize_size": 14, "crop_size": [12, 12], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
LABELS = ["cat", "dog", "a fish"]
TIMM = {"input_size": [3, 12, 12], "interpolation": "bicubic", "mean": [0.5], "std": [0.25], "crop_pct": 0.875}


def classifier(*, described: bool = False) -> Graph:
    """Return a small classifier of images 3x12x12."""
    net = Net(3, 12, 12)
    net.conv(5)
    net.add("flatten")
    net.linear(len(LABELS))
    graph = net.graph()
    return graph.replace(labels=("x", "y", "z"), preprocessing=Preprocessing(mean=(0.1,) * 3)) if described else graph


@pytest.fixture(params=[False, True], ids=["silent", "described"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that says nothing, and one that says something else."""
    fastconv.Model(classifier(described=request.param)).save(tmp_path / "net.npz")
    return tmp_path / "net.npz"


def test_load_takes_what_the_file_does_not_say(file: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 17, 3), np.uint8)
    model = fastconv.load(file, labels=LABELS, transforms=FIELDS)
    assert (model.labels, model.preprocessing) == (tuple(LABELS), Preprocessing(**FIELDS))
    expected = fastconv.Model(classifier().replace(labels=LABELS, preprocessing=Preprocessing(**FIELDS)))
    np.testing.assert_array_equal(model.predict_proba(image), expected.predict_proba(image))
    assert model.predict(image) == expected.predict(image) in LABELS
    model.save(tmp_path / "again.npz")
    assert fastconv.load(tmp_path / "again.npz").preprocessing == model.preprocessing


def test_each_alone_leaves_the_other(file: Path) -> None:
    before = fastconv.load(file)
    named = fastconv.load(file, labels=LABELS)
    assert (named.labels, named.preprocessing) == (tuple(LABELS), before.preprocessing)
    normalised = fastconv.load(file, mean=(0.5, 0.5, 0.5), std=[0.2] * 3)
    assert (normalised.labels, normalised.preprocessing) == (
        before.labels, Preprocessing(mean=(0.5,) * 3, std=(0.2,) * 3),
    )  # fmt: skip
    assert fastconv.load(file, transforms=before.preprocessing).preprocessing == before.preprocessing
    assert fastconv.load(file, transforms=TIMM).preprocessing == Preprocessing(
        13, 12, "bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "abc"}, "labels must be a list of strings, one for each class, got 'abc'"),
        ({"labels": 5}, "labels must be a list of strings, one for each class, got 5"),
        ({"labels": ["a"]}, "labels"),
        ({"mean": [0.5] * 2}, "mean"),
        ({"mean": [0.5] * 3, "transforms": FIELDS}, "leave one out"),
        ({"transforms": {**FIELDS, "crop": 3}}, r"unknown key 'crop'; it takes resize_size, crop_size"),
        ({"transforms": {"crop_size": 13}}, "crop_size"),
        ({"transforms": {"std": [0, 0, 0]}}, "std"),
        ({"transforms": 3}, "is not supported"),
        ({"transforms": {**TIMM, "mean": "half"}}, "mean and std must be numbers, got 'half'"),
        ({"transforms": {**TIMM, "std": None}}, "mean and std|std must"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str, file: Path) -> None:
    with pytest.raises(fastconv.FastconvError, match=message):
        fastconv.load(file, **options)


def test_an_onnx_file_is_given_them(tmp_path: Path) -> None:
    """torchvision's own object for its weights, with the network through ONNX and from the module."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from torchvision_import import import_transforms

    transforms = import_transforms()
    steps = [transforms.Resize(14), transforms.CenterCrop(12), transforms.ToTensor(), transforms.Normalize(0.5, 0.2)]
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(400, 3)).eval()
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 12, 12),), path, dynamo=False, input_names=["x"],
                      dynamic_axes={"x": {0: "n"}})  # fmt: skip
    how = {"labels": LABELS, "transforms": transforms.Compose(steps)}
    model, expected = fastconv.load(path, **how), fastconv.from_torch(net, (3, 12, 12), **how)
    assert (model.labels, model.preprocessing) == (expected.labels, expected.preprocessing)
    image = np.random.default_rng(0).integers(0, 256, (30, 21, 3), np.uint8)
    np.testing.assert_allclose(model.predict_proba(image), expected.predict_proba(image), atol=1e-6)


# --- fastconv convert -----------------------------------------------------------------------------


def convert(source: Path, *options: str) -> Any:
    """Convert a file to one beside it."""
    testing, cli = pytest.importorskip("click.testing"), pytest.importorskip("fastconv.cli.commands").cli
    return testing.CliRunner().invoke(cli, ["convert", str(source), str(source.with_name("out.npz")), *options])


@pytest.mark.parametrize(
    "text", ["cat\ndog\n a fish \n\n", json.dumps(LABELS), json.dumps(dict(enumerate(LABELS)))], ids=repr
)
def test_the_command_line_converts_with_them(text: str, file: Path) -> None:
    labels, transforms = file.with_name("labels"), file.with_name("transforms.json")
    labels.write_text(text, encoding="utf-8")
    transforms.write_text(json.dumps(FIELDS), encoding="utf-8")
    done = convert(file, "--labels", str(labels), "--transforms", str(transforms), "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["labels"], record["preprocessing"]) == (3, FIELDS)
    model = fastconv.load(file.with_name("out.npz"))
    assert (model.labels, model.preprocessing) == (tuple(LABELS), Preprocessing(**FIELDS))


def test_the_command_line_takes_mean_and_std(file: Path) -> None:
    done = convert(file, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.5")
    assert done.exit_code == 0, done.output
    assert "images: " in done.output
    assert fastconv.load(file.with_name("out.npz")).preprocessing == Preprocessing(
        mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5)
    )


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--labels", "a\nb\n", "labels"),
        ("--labels", '{"1": "a", "2": "b", "3": "c"}', "indices, 0 to 2"),
        ("--labels", '["a", "b", 3]', "a string"),
        ("--labels", "[1,", "is not JSON"),
        ("--labels", b"\xff\xfe\n", "UTF-8"),
        ("--transforms", "[1]", "no JSON object, but list"),
        ("--transforms", "{", "is not JSON"),
        ("--transforms", '{"size": 3}', "unknown key 'size'"),
    ],
)
def test_the_command_line_refuses_other_files(option: str, text: str | bytes, message: str, file: Path) -> None:
    given = file.with_name("given")
    given.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = convert(file, option, str(given))
    assert done.exit_code == 2
    assert message in done.output
    assert not file.with_name("out.npz").exists()


def test_the_command_line_refuses_other_numbers(file: Path) -> None:
    for value, message in (("a,b", "write it like"), ("0.5,0.5", "mean")):
        done = convert(file, "--mean", value)
        assert done.exit_code == 2
        assert message in done.output
    assert convert(file, "--labels", str(file.with_name("none"))).exit_code == 2
