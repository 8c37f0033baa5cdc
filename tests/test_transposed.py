"""conv_transpose2d as a layer: both ways to compute it, on every case; what is fused to it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cases
import numpy as np
import pytest
from checks import engine, oracle, torch_call
from compiling import assert_equals_interpreter, batch_of, in_float64, outputs_of
from graphs import build, conv, norm, op, random
from rewriting import assert_untouched, rewritten_by, summary

from fastconv.compile import compile_graph, transposed
from fastconv.errors import ArgumentError, FastconvError, ShapeError
from fastconv.graph import INPUT, Graph, Node
from fastconv.inspect.summary import summarize
from fastconv.rewrite import fold, fuse, optimize

CASES = [case for case in cases.CONV_TRANSPOSE if 0 not in case.shapes[0]]
WAYS = {"apart": 1e12, "together": -1e12}  # what a copied float is said to cost


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(transposed, "_COPIED", WAYS[request.param])
    return request.param


def graph_of(case: cases.Case, activation: str | None = None) -> Graph:
    x, *arrays = case.arrays(np.float32)
    weights = dict(zip(("weight", "bias"), arrays, strict=False))
    node = Node("up", "conv_transpose2d", (INPUT,), case.attrs, weights)
    after = (op("after", activation, "up"),) if activation else ()
    return build(x.shape[-3:], node, *after)


def transposed_node(channels: int, out: int, kernel: int, groups: int = 1, **attrs: Any) -> Node:
    weights = {"weight": random(channels, out, kernel, kernel), "bias": random(out * groups)}
    return Node("up", "conv_transpose2d", (INPUT,), {"groups": groups, **attrs}, weights)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_layer(case: cases.Case, way: str) -> None:
    graph = graph_of(case, "relu")
    assert_equals_interpreter(graph, batch_of(graph, 3))


def test_it_writes_into_the_border_that_the_next_layer_wants(way: str) -> None:
    for kernel, stride in ((2, 2), (4, 2), (3, 2), (3, 1), (2, 3)):
        up = transposed_node(5, 12, kernel, stride=stride)
        graph = in_float64(build((5, 6, 7), up, conv("c", "up", 3, 12, kernel=5)))
        assert_equals_interpreter(graph, batch_of(graph, 2))
        assert [step["label"] for step in compile_graph(graph, threads=1).steps].count("pad with zeros") == 0


@pytest.mark.parametrize("case", CASES[::5], ids=str)
def test_a_layer_of_doubles(case: cases.Case, way: str) -> None:
    graph = in_float64(graph_of(case))
    assert_equals_interpreter(graph, batch_of(graph, 2))


@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_it_spreads_nan_and_infinity_over_their_kernels_only(case: cases.Case, way: str) -> None:
    x, *weights = case.arrays(np.float32)
    flat = x.reshape(-1)
    flat[:: max(1, flat.size // 3)] = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), flat.size)[:1]
    flat[-1] = np.inf
    with np.errstate(all="ignore"):
        expected = np.atleast_1d(oracle("conv_transpose2d", x, *weights, **case.attrs))
    program = compile_graph(graph_of(case), threads=1, algorithm="exact")
    batched = x if x.ndim == 4 else x[np.newaxis]
    for actual in (program(batched).reshape(expected.shape), engine("conv_transpose2d", x, *weights, **case.attrs)):
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_the_interpreter_agrees_with_pytorch(case: cases.Case) -> None:
    pytest.importorskip("torch")
    arrays = case.arrays(np.float64)
    expected = torch_call("conv_transpose2d", *arrays, **case.attrs)
    np.testing.assert_allclose(oracle("conv_transpose2d", *arrays, **case.attrs), expected, atol=1e-12)


def test_weights_that_come_with_the_call_may_change() -> None:
    """The same entry serves other weights: in the order of a kernel, and in that of BLAS."""
    rng = np.random.default_rng(0)
    for size in (3, 40):  # below and above the pixels for which weights are brought into order
        x = rng.standard_normal((2, 5, size, size)).astype(np.float32)
        for _ in range(3):
            w = rng.standard_normal((5, 6, 4, 3)).astype(np.float32)
            b = rng.standard_normal(6).astype(np.float32)
            expected = oracle("conv_transpose2d", x, w, b, stride=2, padding=1)
            actual = engine("conv_transpose2d", x, w, b, stride=2, padding=1)
            np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("weights", [True, False])
def test_weights_that_come_with_the_call_in_both_ways(weights: bool, way: str) -> None:
    for case in CASES:
        x, *arrays = case.arrays(np.float32)
        program = compile_graph(graph_of(case), threads=1, algorithm="exact", weights_in_call=weights)
        x = x if x.ndim == 4 else x[np.newaxis]
        program(np.full_like(x, np.nan), *([np.zeros_like(a) for a in arrays] if weights else []))
        actual = program(x, *(arrays if weights else []))
        expected = oracle("conv_transpose2d", x, *arrays, **case.attrs)
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_2x2_layer_of_a_unet_is_written_in_place() -> None:
    """Two convolutions, one for each parity of the rows; pixels of one row stand side by side as channels do."""
    node = transposed_node(16, 8, 2, stride=2)
    program = compile_graph(build((16, 6, 6), node, op("r", "softmax", "up", dim=1)), threads=1)
    steps = [step for step in program.steps if step["node"] == "up"]
    assert len(steps) == 2
    assert all("conv" in step["kernel"] for step in steps)


def test_one_pixel_is_a_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product with a border of zeros: each of the 4x4 pixels of one takes one tap, not 16."""
    work = []
    emit = transposed._emit_part

    def note(low: Any, node: Node, part: Any, *args: Any) -> None:
        work.append(part.layer.products * np.prod(part.layer.out))
        emit(low, node, part, *args)

    monkeypatch.setattr(transposed, "_emit_part", note)
    graph = build((7, 1, 1), transposed_node(7, 5, 4))
    compile_graph(graph, threads=1)
    assert sum(work) == graph.macs(graph.nodes[0]) == 7 * 5 * 16
    assert_equals_interpreter(in_float64(graph), batch_of(in_float64(graph), 3))


def test_more_phases_than_are_computed_apart() -> None:
    """A kernel of 25 with a stride of 12 has 144 phases, in at most four convolutions."""
    graph = build((2, 3, 2), transposed_node(2, 1, 25, stride=12))
    program = compile_graph(in_float64(graph), threads=1)
    assert sum("conv" in step["kernel"] for step in program.steps) <= 4


def test_summary_and_profile_name_the_layer() -> None:
    graph = build((16, 6, 6), transposed_node(16, 8, 4, stride=2, padding=1), op("r", "relu", "up"))
    optimized = optimize(graph)
    steps = compile_graph(optimized, threads=1).steps
    (row,) = summarize(graph, optimized, steps).rows
    assert (row.name, row.op, row.output_shape) == ("up + r", "conv_transpose2d + relu", (8, 12, 12))
    assert row.macs == 36 * 16 * 8 * 16


# Rewriting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_fold_batch_norm(groups: int, bias: bool) -> None:
    node = transposed_node(4, 6 // groups if groups < 4 else 2, 3, groups, stride=2)
    channels = node.weights["weight"].shape[1] * groups
    if not bias:
        node = node.replace(weights={"weight": node.weights["weight"]})
    graph = rewritten_by(fold.fold_batch_norm, build((4, 5, 6), node, norm("n", "up", channels)))
    assert summary(graph) == ["up + n conv_transpose2d"]


def test_fuse_activation() -> None:
    graph = build((4, 5, 6), transposed_node(4, 3, 2, stride=2), op("a", "leaky_relu", "up", negative_slope=0.2))
    assert summary(rewritten_by(fuse.fuse_activation, graph)) == ["up + a conv_transpose2d"]


def test_it_takes_neither_a_residual_nor_a_pool() -> None:
    up = transposed_node(4, 4, 3, padding=1)
    assert_untouched(fuse.fuse_residual, build((4, 6, 6), up, op("a", "add", "up", INPUT)))
    assert_untouched(fuse.fuse_pool, build((4, 6, 6), up, op("p", "max_pool2d", "up", kernel_size=2)))


@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_fused_and_where_no_tap_reaches(activation: str, stride: int, way: str) -> None:
    """With a stride of 3 some pixels hold the activation of the bias alone."""
    node = transposed_node(5, 9, 2, stride=stride)
    graph = build((5, 4, 7), node, op("a", activation, "up"), op("p", "max_pool2d", "a", kernel_size=2))
    graph = in_float64(graph)
    assert_equals_interpreter(graph, batch_of(graph, 2))
    single = build(
        (5, 4, 7),
        *(n.replace(weights={k: w.astype(np.float32) for k, w in n.weights.items()}) for n in graph.nodes),
    )
    assert_equals_interpreter(single, batch_of(single, 2))


# Refusals ----------------------------------------------------------------------------------------

BASE = ((2, 4, 7, 7), (4, 3, 3, 3), (6,))


def _case(*shapes: tuple[int, ...], **attrs: Any) -> cases.Case:
    return cases.Case("conv_transpose2d", shapes, attrs)


REFUSED = [
    *(_case(*BASE[:2], stride=v) for v in (0, -1, (1, 0), 1.0, "1", None, (), (1, 1, 1), True)),
    *(_case(*BASE[:2], dilation=v) for v in (0, -1, (1, 0), 1.5, None, (), (1, 1, 1))),
    *(_case(*BASE[:2], padding=v) for v in (-1, (0, -1), 1.0, None, (), (1, 1, 1), (1, 1, 1, 1), "same", "valid")),
    *(_case(*BASE[:2], output_padding=v) for v in (-1, 1, (0, 1), 1.0, None, (), (0, 0, 0))),
    *(_case(*BASE[:2], groups=v) for v in (0, -1, 1.0, None, (1,), 3)),
    _case(*BASE[:2], stride=2, output_padding=2),
    _case(*BASE[:2], stride=(1, 2), output_padding=1),
    _case(*BASE[:2], padding=5),
    _case(*BASE[:2], padding=(0, 5)),
    _case(BASE[0], (3, 3, 3, 3)),
    _case(BASE[0], (4, 3, 3, 3), (4,)),
    _case(*BASE, groups=1),
    _case(BASE[0], (4, 3, 0, 3)),
    _case(BASE[0], (4, 3, 3, 0)),
    _case(BASE[0], (4, 0, 3, 3)),
    _case(BASE[0], (4, 3, 3)),
    _case(BASE[0], (1, 4, 3, 3, 3)),
    _case((2, 0, 7, 7), (0, 3, 3, 3)),
    *(_case(shape, BASE[1]) for shape in [(), (7,), (7, 7), (1, 2, 4, 7, 7), (2, 4, 0, 7), (2, 4, 7, 0)]),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused(case: cases.Case) -> None:
    with pytest.raises(FastconvError, match="conv_transpose2d"):
        engine(case.op, *case.arrays(np.float32), **case.attrs)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_torch_refuses_it_too(case: cases.Case) -> None:
    pytest.importorskip("torch")
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch_call(case.op, *case.arrays(np.float32), **case.attrs)


def test_messages() -> None:
    up = transposed_node(4, 3, 3)
    with pytest.raises(ShapeError, match=r"up: weight \(4, 3, 3, 3\) needs 4 input channels, the input \(5, 7, 7\)"):
        build((5, 7, 7), up)
    with pytest.raises(ShapeError, match=r"up: padding .* leaves nothing of 9x9 pixels; pass a larger image or less"):
        build((4, 7, 7), transposed_node(4, 3, 3, padding=5))
    with pytest.raises(
        ArgumentError, match=r"up: output_padding must be smaller than stride or dilation, got \(2, 2\)"
    ):
        build((4, 7, 7), transposed_node(4, 3, 3, output_padding=2, stride=2))


def test_uneven_padding_is_cut_off() -> None:
    graph = in_float64(build((4, 5, 6), transposed_node(4, 3, 4, stride=2, padding=(1, 2, 0, 3))))
    assert graph.shapes["up"] == (3, 9, 11)
    x = batch_of(graph, 2)
    assert_equals_interpreter(graph, x)
    whole = oracle("conv_transpose2d", x, *graph.nodes[0].weights.values(), stride=2)
    (y,) = outputs_of(compile_graph(graph, threads=1), x)
    np.testing.assert_allclose(y, whole[:, :, 1:-2, :-3], atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if len(case.shapes[0]) == 4][::5], ids=str)
def test_an_image_keeps_its_bits_in_any_batch(case: cases.Case) -> None:
    x, *weights = case.arrays(np.float32)
    others = np.random.default_rng(0).standard_normal((3, *x.shape[1:])).astype(np.float32)
    alone = engine("conv_transpose2d", x[:1], *weights, **case.attrs)
    together = engine("conv_transpose2d", np.concatenate([others, x[:1], others]), *weights, **case.attrs)
    np.testing.assert_array_equal(together[3], alone[0])
