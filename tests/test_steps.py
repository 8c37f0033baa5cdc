"""Functions with steps, compiled, on the input itself: exactly what PyTorch gives, whatever the layout and the size."""

from __future__ import annotations

import numpy as np
import pytest
import random_graphs
import reference
from compiling import assert_equals_interpreter, batch_of, in_float64, outputs_of
from graphs import op as node
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import run_graph

from fastconv.compile import compile_graph
from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Graph, Node


@st.composite
def networks(draw: st.DrawFn, name: str) -> Graph:
    """Draw a network of one such operator, or of one behind a copy into another layout."""
    shape = (draw(st.sampled_from(random_graphs.CHANNELS)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    shape = shape[: draw(st.integers(1, 3))]
    first = Node("first", draw(st.sampled_from(["identity", "relu"])), (INPUT,))
    shapes = {INPUT: shape, "first": shape}
    rng = np.random.default_rng(0)
    step = random_graphs.draw_node(draw, name, name, draw(st.sampled_from([INPUT, "first"])), shapes, rng)
    try:
        return Graph(shape, (first, step), (name,), dtype=np.float32)
    except FastconvError:
        return draw(networks(name))


@pytest.mark.parametrize("name", sorted(random_graphs.DISCONTINUOUS))
def test_steps_are_where_they_are(name: str) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(networks(name))
    def check(graph: Graph) -> None:
        x = batch_of(graph, 3)
        x[1] = np.round(2 * x[1]) / 2  # steps, and equal elements
        for version, given_x in ((graph, x), (in_float64(graph), x.astype(np.float64))):
            assert_equals_interpreter(version, given_x)
            (got,), (want,) = outputs_of(compile_graph(version, threads=1), given_x), run_graph(version, given_x)
            np.testing.assert_array_equal(got, want.astype(got.dtype))

    check()


def test_an_index_behind_a_convolution_s_layout() -> None:
    """Over every axis of an image that is channels last."""
    x = np.random.default_rng(0).standard_normal((2, 21, 9, 7)).astype(np.float32)
    for dim in (1, 2, 3):
        for keepdim in (False, True):
            graph = Graph(
                (21, 9, 7), (node("r", "relu", INPUT), node("a", "argmax", "r", dim=dim, keepdim=keepdim)), ("a",)
            )
            (y,) = outputs_of(compile_graph(graph, threads=1), x)
            np.testing.assert_array_equal(y, np.maximum(x, 0).argmax(dim, keepdims=keepdim))


SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e30, -1e30, 3.5, -3.5, 2.0, -2.0, 0.5, 1.0, -1.0, 7.0, -3.0, 0.25]


@pytest.mark.parametrize("name", random_graphs.ARITHMETIC)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_of_what_is_no_ordinary_number(name: str, dtype: type) -> None:
    """Every pair, of two values and with a constant."""
    x, y = (values.reshape(-1).astype(dtype) for values in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        want = getattr(reference, name)(x, y).astype(dtype)
    size = len(x)
    of_two = Graph((2, size), (
        Node("a", "slice", (INPUT,), {"dim": 1, "start": 0, "end": 1}),
        Node("b", "slice", (INPUT,), {"dim": 1, "start": 1, "end": 2}),
        Node("y", name, ("a", "b")),
    ), ("y",), dtype=dtype)  # fmt: skip
    (got,) = outputs_of(compile_graph(of_two, threads=1), np.stack([x, y])[np.newaxis])
    np.testing.assert_allclose(got[0, 0], want, rtol=1e-5 if dtype is np.float32 else 1e-13)
    one = Graph((size,), (Node("y", name, (INPUT,), {}, {"other": y}),), ("y",))
    (again,) = outputs_of(compile_graph(one, threads=1), x[np.newaxis])
    np.testing.assert_array_equal(again[0], got[0, 0])


@pytest.mark.parametrize("chosen", [np.nan, np.inf, 2.0])
def test_where_takes_nothing_of_what_it_does_not_choose(chosen: float) -> None:
    x = np.array([[0.0, 1.0, np.nan, -0.0, np.inf]], np.float32)
    constants = {"input": np.float32([chosen]), "other": np.float32([[3, np.inf, np.nan, np.nan, 4]])[0]}
    graph = Graph((5,), (Node("y", "where", (INPUT,), {}, constants),), ("y",))
    (y,) = outputs_of(compile_graph(graph, threads=1), x)
    np.testing.assert_array_equal(y, np.float32([[3, chosen, chosen, np.nan, chosen]]))


def test_where_refuses_what_is_not_three() -> None:
    with pytest.raises(FastconvError, match=r"y: needs condition, input, other, .* got 1 inputs and no constant"):
        Graph((5,), (Node("y", "where", (INPUT,)),), ("y",))
    constants = {"input": np.zeros(4, np.float32), "other": np.zeros(1, np.float32)}
    with pytest.raises(FastconvError, match=r"y: \(5,\) and \(4,\) do not broadcast"):
        Graph((5,), (Node("y", "where", (INPUT,), {}, constants),), ("y",))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 7, 33, 64, 65, 300])
def test_elements_in_order(size: int, dtype: type) -> None:
    """Few and all of them, equal ones and NaN among them, along every axis of memory."""
    rng = np.random.default_rng(size)
    x = rng.choice([0.0, 1.0, 2.5, -1.0, np.nan, np.inf, -np.inf, *rng.standard_normal(9)], (2, 3, size, 5)).astype(
        dtype
    )
    for first in ("identity", "relu"):
        for turned, dim in ((x, 2), (x.transpose(0, 2, 1, 3).copy(), 1), (x.transpose(0, 1, 3, 2).copy(), 3)):
            for k in {1, size // 2, size}:
                for largest in (False, True):
                    nodes = [Node("a", first, (INPUT,))]
                    for indices in (False, True):
                        attrs = {"k": k, "dim": dim, "largest": largest, "indices": indices}
                        nodes.append(Node(f"y{indices:d}", "topk", ("a",), attrs))
                    graph = Graph(turned.shape[1:], nodes, ("y0", "y1"), dtype=dtype)
                    got = outputs_of(compile_graph(graph, threads=1), turned)
                    for one, want in zip(got, run_graph(graph, turned), strict=True):
                        np.testing.assert_array_equal(one, want)


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000])
def test_running_sums_are_kept_in_double(size: int) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (2, size, 3)).astype(np.float32)
    for turned, dim in ((x, 1), (x.transpose(0, 2, 1).copy(), 2)):
        graph = Graph(turned.shape[1:], (Node("y", "cumsum", (INPUT,), {"dim": dim}),), ("y",))
        (y,) = outputs_of(compile_graph(graph, threads=1), turned)
        np.testing.assert_array_equal(y, turned.astype(np.float64).cumsum(dim).astype(np.float32))


REFUSED = {
    "mean over the batch": ("mean", {"dim": (0, 1)}, r"dim=0 is the batch axis"),
    "mean over nothing": ("mean", {"dim": ()}, r"dim must name an axis"),
    "sum twice": ("sum", {"dim": (1, -3)}, r"every axis once"),
    "norm of order 3": ("vector_norm", {"dim": 1, "ord": 3}, r"ord must be 1, 2 or inf"),
    "argmax over two": ("argmax", {"dim": (1, 2)}, r"dim must be an int"),
    "topk of too many": ("topk", {"k": 6, "dim": 2}, r"k=6 must lie in 0\.\.5"),
    "index of none": ("index_select", {"dim": 1, "index": (0, 4)}, r"index 4 is none of the axis 1"),
    "expand of two": ("expand", {"shape": (4, 10, 6)}, r"cannot expand \(4, 5, 6\) to \(4, 10, 6\)"),
    "flip twice": ("flip", {"dims": (1, 1)}, r"every axis once"),
    "cumsum over the batch": ("cumsum", {"dim": 0}, r"dim=0 is the batch axis"),
    "negative lambd": ("softshrink", {"lambd": -1}, r"lambd must be 0 or more"),
}


@pytest.mark.parametrize(("name", "attrs", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(name: str, attrs: dict[str, object], message: str) -> None:
    with pytest.raises(FastconvError, match=f"y: .*{message}"):
        Graph((4, 5, 6), (Node("y", name, (INPUT,), attrs),), ("y",))
