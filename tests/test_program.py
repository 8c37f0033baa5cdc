"""The boundary between Python and the compiled kernels: records, forced kernels, machines, weights in the call."""

from __future__ import annotations

import copy
import gc
from typing import Any

import numpy as np
import pytest
from compiling import assert_right, batch_of, in_float64
from interpreter import run_graph
from networks import Net

from fastconv.compile import compile_graph
from fastconv.compile.conv import KERNELS, Layer, candidates
from fastconv.compile.lowering import Lowering
from fastconv.compile.tensors import Segment, lay_out
from fastconv.errors import ArgumentError, UnsupportedOperatorError
from fastconv.graph import Graph
from fastconv.machine.cpu import kernels
from fastconv.machine.description import Machine, this_machine


def layer(shape: tuple[int, ...] = (32, 16, 16), out: int = 64, kernel: int = 3, **attrs: Any) -> Graph:
    net = Net(*shape)
    net.relu()
    net.conv(out, kernel, **attrs)
    return net.graph()


# --- records --------------------------------------------------------------------------------------


def specs(graph: Graph) -> tuple[Lowering, list[dict[str, Any]]]:
    """Return the steps of a network as `Program` is given them."""
    low = Lowering(graph, this_machine(), kernels(), 1, "auto", None, None, False)
    low.run()
    lay_out(low.steps, [Segment(len(low.steps), 1)], low.arena, low.carried, False)
    units = [step.cut(1)[:3] for step in low.steps]
    return low, [step.spec(each, each) for step, each in zip(low.steps, units, strict=True)]


def build(low: Lowering, steps: list[dict[str, Any]], graph: Graph) -> Any:
    sizes = {"prologue": 0, "arena": 1 << 20, "carried": 0, "scratch": 1 << 20, "shared": 0, "threads": 1, "work": 1}
    shapes = tuple(graph.shapes[name] for name in graph.outputs)
    segments = [(len(steps), 1)]
    return kernels().Program(steps, tuple(low.inputs), shapes, segments=segments, **sizes, double=False, keep=low.keep)


def test_a_program_is_built_of_its_records() -> None:
    graph = layer()
    low, steps = specs(graph)
    x = batch_of(graph, 1)
    assert_right(build(low, steps, graph)(x), run_graph(graph, x)[0], 5e-5)


def spoilt(steps: list[dict[str, Any]], kernel: str, change: Any) -> list[dict[str, Any]]:
    """Return the steps with the first record of a kernel changed."""
    steps = copy.deepcopy(steps)
    change(next(step for step in steps if step["kernel"] == kernel)["record"])
    return steps


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r: r.pop("scheme"), ValueError, "conv_winograd: .*scheme"),
        (lambda r: r["activation"].pop("kind"), ValueError, "conv_winograd: .*kind"),
        (lambda r: r.update(shceme=1), ValueError, "conv_winograd takes no 'shceme'; it takes weight, bias, scheme"),
        (lambda r: r["pool"].update(size=2), ValueError, r"conv_winograd\.pool takes no 'size'; it takes kind, kh"),
        (lambda r: r.update(wide=4.0), TypeError, "conv_winograd: .*integer"),
        (lambda r: r.update(pool=2), TypeError, "conv_winograd: .*mapping"),
    ],
)
def test_a_record_has_exactly_the_fields_of_its_struct(change: Any, error: type[Exception], message: str) -> None:
    graph = layer()
    low, steps = specs(graph)
    with pytest.raises(error, match=message):
        build(low, spoilt(steps, "conv_winograd", change), graph)


def test_a_kernel_without_parameters_takes_none() -> None:
    graph = layer()
    low, steps = specs(graph)
    with pytest.raises(ValueError, match="copy takes no 'rows'; it takes nothing"):
        build(low, spoilt(steps, "copy", lambda r: r.update(rows=1)), graph)


def test_an_unknown_kernel_is_refused() -> None:
    graph = layer()
    low, steps = specs(graph)
    steps[0]["kernel"] = "conv_magic"
    with pytest.raises(ValueError, match="no kernel 'conv_magic' for float32"):
        build(low, steps, graph)


# --- kernels and machines -------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (16, 1), (16, 16), (16, 4)])
def test_what_the_table_calls_unlikely_is_never_the_cheapest(kernel: int, channels: int, groups: int) -> None:
    net = Net(channels, 24, 24)
    net.conv(16, kernel, groups=groups)
    for graph in (net.graph(), in_float64(net.graph())):
        (node,), (c, h, w) = graph.nodes, graph.input_shape
        out, oh, ow = graph.shapes[node.name]
        layer = Layer(node, (c, h, w), (out, oh, ow), {"nchw"}, True, graph.dtype == np.float64)
        for algorithm in ("auto", "exact", "im2col", "packed"):
            able = candidates(layer, this_machine(), algorithm)
            cheapest = min(able, key=lambda each: each.margin * each.cost(layer, this_machine()), default=None)
            likely = candidates(layer, this_machine(), algorithm, likely=True)
            assert [each for each in able if each in likely] == likely
            assert cheapest is None or cheapest in likely


@pytest.mark.parametrize("row", KERNELS, ids=lambda row: row.name)
def test_a_kernel_can_be_forced(row: Any) -> None:
    kernel = row.load()
    assert kernel.name == row.name
    net = Net(16, 20, 20)
    size = 1 if kernel.name == "pointwise" else 3
    net.conv(16, size, padding=size // 2, groups={"depthwise": 16, "grouped": 4}.get(kernel.name, 1))
    graph = net.graph()
    program = compile_graph(graph, kernel=kernel.name)
    assert kernel.compiled in [step["kernel"] for step in program.steps]
    x = batch_of(graph, 2)
    assert_right(program(x), run_graph(graph, x)[0], 5e-5)


def test_an_unknown_kernel_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"one of depthwise, grouped, winograd_4x4, .*im2col, got 'fast'"):
        compile_graph(layer(), kernel="fast")


@pytest.mark.parametrize("kernel", ["winograd_4x4", "winograd_2x2", "depthwise", "grouped", "pixels"])
def test_a_kernel_that_cannot_do_a_layer_says_which(kernel: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=rf"conv2d1: kernel='{kernel}' cannot do this convolution"):
        compile_graph(layer(kernel=5), kernel=kernel)


def chosen(graph: Graph, machine: Machine) -> str:
    return next(step["label"] for step in compile_graph(graph, machine=machine).steps if "conv" in step["kernel"])


def test_the_choice_follows_the_machine_described() -> None:
    deep = layer((256, 14, 14), 256)
    here = this_machine()
    assert chosen(deep, here.replace(llc_bytes=1 << 30)).startswith("Winograd F(4x4")
    # Where weights come from memory, and slowly, those of the direct tile are fewest.
    assert chosen(deep, here.replace(llc_bytes=1 << 20, memory_bytes_per_cycle=0.5)) == "direct tile"


def test_a_machine_has_no_other_attributes() -> None:
    with pytest.raises(TypeError, match="a Machine has no speed"):
        this_machine().replace(speed=1)


# --- weights that come with the call --------------------------------------------------------------


def weights_of(graph: Graph) -> list[np.ndarray]:
    return [array for node in graph.nodes for array in node.weights.values()]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(
    ("shape", "out", "attrs"),
    [
        ((5, 9, 11), 7, {}),
        ((3, 20, 19), 35, {"stride": 2}),
        ((16, 8, 8), 16, {"groups": 16}),
        ((12, 8, 8), 36, {"groups": 3}),
        ((33, 6, 6), 17, {"kernel": 1, "padding": 0}),
    ],
)
def test_weights_may_come_with_the_call(shape: tuple[int, ...], out: int, attrs: dict[str, Any], double: bool) -> None:
    net = Net(*shape)
    net.conv(out, attrs.pop("kernel", 3), **attrs)
    net.relu()
    graph = in_float64(net.graph()) if double else net.graph()
    x = batch_of(graph, 5)
    fixed = compile_graph(graph, threads=2, algorithm="exact")
    program = compile_graph(graph, threads=2, algorithm="exact", weights_in_call=True)
    weights = weights_of(graph)
    assert program.run_all((x, *weights)).tobytes() == fixed(x).tobytes()
    other = [w[::-1].copy() for w in weights]  # the next call has others
    assert program(x, *other).tobytes() != fixed(x).tobytes()
    assert program(x, *weights).tobytes() == fixed(x).tobytes()
    assert program(x[:1], *weights).tobytes() == fixed(x)[:1].tobytes()
    assert program(x[:0], *weights).shape == (0, *fixed.output_shapes[0])


@pytest.mark.parametrize("channels", [1, 3, 8, 9, 17, 33])
def test_winograd_s_weights_may_come_with_the_call(channels: int) -> None:
    net = Net(channels, 7, 9)
    net.conv(channels + 2, 3)
    graph = net.graph()
    x, weights = batch_of(graph, 3), weights_of(graph)
    fixed = compile_graph(graph, threads=2, kernel="winograd_2x2")
    program = compile_graph(graph, threads=2, kernel="winograd_2x2", weights_in_call=True)
    assert [step["kernel"] for step in program.steps[:2]] == ["pack_winograd", "pack"]
    assert program.run_all((x, *weights)).tobytes() == fixed(x).tobytes()
    other = [w[::-1].copy() for w in weights]
    assert program(x, *other).tobytes() != fixed(x).tobytes()
    assert program(x, *weights).tobytes() == fixed(x).tobytes()


def test_f_4x4_takes_no_weights_with_the_call() -> None:
    with pytest.raises(UnsupportedOperatorError, match="kernel='winograd_4x4' cannot"):
        compile_graph(layer(), kernel="winograd_4x4", weights_in_call=True)


def test_weights_that_no_step_can_take_are_refused() -> None:
    net = Net(3, 4, 4)
    net.norm()
    with pytest.raises(UnsupportedOperatorError, match=r"its bias cannot come with the call; leave out weights_in"):
        compile_graph(net.graph(), weights_in_call=True)


def test_what_is_not_the_inputs_is_left_to_the_caller() -> None:
    graph = layer()
    program = compile_graph(graph, algorithm="exact", weights_in_call=True)
    x, weights = batch_of(graph, 2), weights_of(graph)
    assert program.run(x) is NotImplemented
    assert program.run_all((x, *weights, x)) is NotImplemented
    assert program.run_all((x, weights[0][:-1], *weights[1:])) is NotImplemented
    assert program.run_all((x, weights[0].astype(np.float64), *weights[1:])) is NotImplemented
    assert program.run_all((x, weights[0].transpose(0, 1, 3, 2), *weights[1:])) is NotImplemented


def test_compiling_leaves_nothing_for_the_garbage_collector() -> None:
    """Packed weights are large: they go with the program, not when the collector comes by."""

    def count() -> int:
        return sum(type(x).__name__ in ("Lowering", "Step", "Tensor", "Program") for x in gc.get_objects())

    graph = layer()
    compile_graph(graph)
    gc.collect()
    gc.disable()
    try:
        before = count()  # other tests may hold some
        for algorithm in ("auto", "im2col"):
            compile_graph(graph, algorithm=algorithm)
        assert count() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((512, 640), (0, 2, 1)), ((2, 6, 9, 28), (0, 1, 2, 4, 3)), ((2, 12, 20, 28), (0, 4, 2, 1, 3))],
)
def test_a_copy_that_is_dense_along_two_axes_has_them_last(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    """The kernel then copies squares, not single elements; what it gives is the same."""
    net = Net(*shape)
    net.add("permute", dims=dims)
    low, steps = specs(net.graph())
    assert [step["kernel"] for step in steps].count("strided") == 1
    (axes,) = (array for array in low.keep if array.dtype == np.intp and array.ndim == 2)
    assert (axes[-1][1], axes[-2][2]) == (1, 1), "the steps of y, of x"
    assert axes[0][0] > 1, "threads share it"
    x = batch_of(net.graph(), 2)
    np.testing.assert_array_equal(compile_graph(net.graph())(x), x.transpose(dims))
