"""GraphBuilder: names, what nodes continue from, and the recipes against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graphs import random
from interpreter import run_graph

from fastconv.errors import ArgumentError, FastconvError, ModelFormatError, ShapeError
from fastconv.graph import INPUT
from fastconv.graph.builder import GraphBuilder
from fastconv.graph.preprocessing import Preprocessing

Recipe = Callable[[GraphBuilder], str]


def run(shape: tuple[int, ...], recipe: Recipe, x: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the operators that a recipe adds, and what they compute."""
    builder = GraphBuilder(shape, dtype=np.float64)
    name = recipe(builder)
    graph = builder.graph([name])
    return [node.op for node in graph.nodes], run_graph(graph, x)[0]


def test_every_node_has_a_name_of_its_own() -> None:
    builder = GraphBuilder((3, 4, 5))
    names = [builder.add("relu"), builder.add("relu"), builder.add("tanh", name="relu"), builder.add("relu", name="a")]
    assert names == ["relu", "relu#2", "relu#3", "a"]
    assert builder.add("identity", name=INPUT) == "input#2"
    assert [node.inputs for node in builder.graph().nodes] == [(INPUT,), *[(name,) for name in names]]


def test_names_may_come_from_the_caller() -> None:
    builder = GraphBuilder((3,), naming=lambda op: f"block.{op}")
    assert builder.add("relu") == "block.relu"
    assert builder.add("relu") == "block.relu#2"
    assert builder.add("relu", name="last") == "last"


def test_shapes_follow_the_nodes() -> None:
    builder = GraphBuilder((3, 8, 9))
    assert builder.shape(INPUT) == (3, 8, 9)
    pool = builder.add("max_pool2d", kernel_size=2)
    assert builder.shape(pool) == (3, 4, 4)
    assert builder.shape(builder.add("flatten")) == (48,)
    assert builder.shape(pool) == (3, 4, 4)
    with pytest.raises(ModelFormatError, match="no node 'x'"):
        builder.shape("x")


def test_a_graph_has_what_is_given_to_it() -> None:
    builder = GraphBuilder((2, 4, 4))
    first = builder.add("relu")
    builder.add("flatten")
    before = Preprocessing(mean=[0.5, 0.25], std=[1, 2])
    graph = builder.graph(labels=[str(i) for i in range(32)], preprocessing=before)
    assert (graph.outputs, graph.labels[-1], graph.mean, graph.std) == (("flatten",), "31", (0.5, 0.25), (1, 2))
    assert builder.graph([first, "flatten"]).outputs == (first, "flatten")
    assert graph.dtype == np.float32


def test_errors_name_the_node() -> None:
    builder = GraphBuilder((2, 4, 4))
    builder.add("max_pool2d", name="features.0", kernel_size=9)
    with pytest.raises(ShapeError, match=r"^features\.0: the window spans 9x9"):
        builder.shape("features.0")
    with pytest.raises(ShapeError, match=r"^features\.0: the window spans 9x9"):
        builder.graph()
    with pytest.raises(FastconvError, match="input_shape"):
        GraphBuilder((2, -4)).shape(INPUT)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 5, 4)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_affine(shape: tuple[int, ...], per_channel: bool) -> None:
    x = random(2, *shape)
    ones = [1] * (len(shape) - 1)
    scale, shift = (random(1, 3, *ones, seed=1), random(3, *ones, seed=2)) if per_channel else (-1.5, 0.25)
    ops, y = run(shape, lambda builder: builder.affine(INPUT, scale, shift), x)
    assert ops == ["batch_norm"]
    np.testing.assert_allclose(y, x * scale + shift, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("shape", [(4,), (3, 1), (1, 3, 5, 1), (2, 3, 1, 1), (1, 1, 1, 1, 1)])
def test_what_is_no_number_per_channel_is_refused(shape: tuple[int, ...]) -> None:
    builder = GraphBuilder((3, 5, 4))
    with pytest.raises(ArgumentError, match="one for each of 3 channels"):
        builder.affine(INPUT, np.ones(shape))


@pytest.mark.parametrize(
    ("limits", "op"),
    [((0, None), "relu"), ((None, 6), "hardtanh"), ((0.5, None), "hardtanh"), ((-1, 2), "hardtanh")],
)
def test_clamp(limits: tuple[Any, Any], op: str) -> None:
    x = 3 * random(2, 3, 5, 4)
    ops, y = run((3, 5, 4), lambda builder: builder.clamp(INPUT, *limits), x)
    assert ops == [op]
    np.testing.assert_array_equal(y, np.clip(x, *limits))


def test_clamp_with_the_limits_the_wrong_way_round_gives_the_upper_one() -> None:
    _, y = run((3,), lambda builder: builder.clamp(INPUT, 2, -1), random(2, 3))
    np.testing.assert_array_equal(y, np.full((2, 3), -1.0))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4)])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["mean", "amax", "sum"])
def test_reductions_over_all_pixels(shape: tuple[int, ...], keepdim: bool, name: str) -> None:
    x = random(2, *shape)
    axes = tuple(range(2, x.ndim))
    ops, y = run(shape, lambda builder: builder.reduce(name, INPUT, [-axis for axis in axes[:-1]] + [-1], keepdim), x)
    pool = {"mean": "adaptive_avg_pool2d", "amax": "adaptive_max_pool2d"}.get(name, name)
    assert ops[0] == (pool if len(shape) == 3 else name)
    np.testing.assert_allclose(y, getattr(np, name)(x, axis=axes, keepdims=keepdim), rtol=1e-14, atol=1e-15)


def test_reductions_over_other_axes() -> None:
    x = random(2, 3, 5, 4)
    ops, y = run((3, 5, 4), lambda builder: builder.reduce("mean", INPUT, (1, 3)), x)
    assert ops == ["mean"]
    np.testing.assert_allclose(y, x.mean((1, 3)), rtol=1e-14)


def test_reshape_and_flatten() -> None:
    x = random(2, 3, 4, 5)
    for target, expected in (
        ((12, 5), ["reshape"]),
        ((60,), ["flatten"]),
        ((-1,), ["flatten"]),
        ((3, 4, -1), ["reshape"]),
    ):
        ops, y = run((3, 4, 5), lambda builder, target=target: builder.reshape(INPUT, target), x)
        assert ops == expected
        np.testing.assert_array_equal(y, x.reshape(2, *target))
    builder = GraphBuilder((60,))
    assert builder.reshape(INPUT, (60,)) == builder.flatten(INPUT) == INPUT
