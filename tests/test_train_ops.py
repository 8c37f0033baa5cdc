"""Operators in training: each computes what the oracle does, and its gradient tells how that changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import random_graphs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from interpreter import run_node

from fastconv.errors import FastconvError, UnsupportedOperatorError
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.ops import OPS
from fastconv.train.ops import backward, calls_of, forward

RNG = np.random.default_rng(0)
REFUSED = {
    *("argmax", "argmin", "eq", "ge", "grid_sample", "gru", "gt", "isnan", "le", "logical_and", "logical_not"),
    *("logical_or", "logical_xor", "lstm", "lt", "ne", "rnn"),
}
CONSTANT = {"constant"}  # never computed in training: see Trainer
ROUNDING = {"ceil", "floor", "fmod", "remainder", "round", "sign", "trunc", "threshold", "hardshrink", "topk"}  # jumps
POSITIVE = {"log", "sqrt", "rsqrt", "pow", "float_power"}


@st.composite
def graphs_of(draw: st.DrawFn, op: str) -> Graph:
    """Draw a network of one node, which reads an image."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(5, 7)), draw(st.integers(5, 7)))
    node = random_graphs.draw_node(draw, op, op, INPUT, {INPUT: shape}, np.random.default_rng(0))
    try:
        return Graph(shape, (node,), (op,), dtype=np.float32)
    except FastconvError:
        return draw(graphs_of(op))


def loss_of(node: Node, weights: dict[str, Any], x: Any, g: Any) -> float:
    """Return the sum of g times what the oracle makes of x and of weights."""
    with np.errstate(all="ignore"):
        y = run_node(node.replace(weights=weights), *([x] * len(node.inputs)))
    return float((g * y).sum())


def check(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    (node,) = graph.nodes
    try:
        calls = calls_of(node, False, rng)
    except UnsupportedOperatorError:
        assert node.op in REFUSED or _uneven(node) or node.attrs.get("indices")
        return
    x = (
        rng.uniform(0.5, 2, (2, *graph.input_shape))
        if node.op in POSITIVE
        else rng.normal(size=(2, *graph.input_shape))
    )
    weights = {role: array.astype(np.float64) for role, array in node.weights.items()}
    y, pullbacks = forward(calls, [x] * len(node.inputs), weights)
    with np.errstate(all="ignore"):
        expected = run_node(node, *([x] * len(node.inputs)))
    np.testing.assert_allclose(y, expected, rtol=1e-7, atol=1e-9)
    if node.op in ROUNDING or not y.size or not np.isfinite(expected).all():
        return
    g = rng.normal(size=y.shape)
    roles = [role for role in weights if role.startswith(("weight", "bias"))]
    wanted = [True] * len(node.inputs)
    of_inputs, of_weights = backward(calls, pullbacks, g, wanted, roles)
    assert of_weights.keys() == set(roles)
    along = {role: rng.normal(size=weights[role].shape) for role in roles}
    step = rng.normal(size=x.shape)
    slope = sum(float((part * step).sum()) for part in of_inputs if part is not None)
    slope += sum(float((of_weights[role] * along[role]).sum()) for role in roles)
    small = 1e-6
    up, down = (
        loss_of(
            node, {**weights, **{r: weights[r] + sign * small * along[r] for r in roles}}, x + sign * small * step, g
        )
        for sign in (1, -1)
    )
    scale = max(1.0, abs(slope), float(np.abs(g * expected).sum()))
    assert abs((up - down) / (2 * small) - slope) < 1e-6 * scale


def _uneven(node: Node) -> bool:
    """Whether pixels are shuffled by factors that differ."""
    return any(len(set(node.attrs.get(name, ()))) > 1 for name in ("upscale_factor", "downscale_factor"))


@pytest.mark.parametrize("op", sorted(set(OPS) - CONSTANT))
def test_an_operator_computes_what_it_should_and_so_does_its_gradient(op: str) -> None:
    every = settings(
        max_examples=6,
        phases=[Phase.generate],
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    every(given(graphs_of(op))(check))()


@pytest.mark.parametrize("op", sorted(REFUSED))
def test_what_has_no_gradient_is_refused(op: str) -> None:
    node = Node("its name", op, (INPUT,), {"dim": 1})
    with pytest.raises(UnsupportedOperatorError, match=f"its name: {op} has no gradient; freeze what has weights"):
        calls_of(node, True, RNG)


@pytest.mark.parametrize("padding", [(0, 1, 2, 3), (1, 1, 2, 2), (0, 1, 1, 1)])
@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d"])
def test_padding_that_differs_between_the_ends_of_an_axis(op: str, padding: tuple[int, ...]) -> None:
    weights = {"weight": RNG.normal(size=(3, 3, 4, 5)).astype(np.float32), "bias": np.ones(3, np.float32)}
    check(Graph((3, 7, 8), (Node(op, op, (INPUT,), {"padding": padding}, weights),), (op,)))
