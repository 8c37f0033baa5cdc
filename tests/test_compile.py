"""compile: which kernel each layer gets, and networks whose shape is what makes them hard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import networks
import numpy as np
import pytest
import threadpoolctl
from compiling import assert_equals_interpreter, batch_of, in_float64, outputs_of
from networks import Net
from numpy.testing import assert_array_equal

from fastconv.compile import ALGORITHMS, compile_graph
from fastconv.errors import ArgumentError, UnsupportedOperatorError
from fastconv.graph import INPUT, Graph, Node
from fastconv.rewrite import optimize


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: on a busy machine, small sums wait for its others."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


# --- which kernel ---------------------------------------------------------------------------------

PIXELS, TILE, DEPTHWISE = "direct, pixels in lanes", "direct tile", "depthwise"
GROUPED = "grouped, several groups in a vector"
PACKED, BLAS, WINOGRAD = "im2col + packed tile", "im2col + BLAS", "Winograd F(4x4, 3x3)"
WINOGRAD_BY_TWO = "Winograd F(4x4, 3x3), stride 2"

# (channels, height, width), output channels, kernel, attributes, the kernel that is chosen
FIRST_LAYERS = [
    ((1, 28, 28), 6, 5, {"padding": 0}, PIXELS),
    ((3, 32, 32), 10, 5, {}, PIXELS),
    ((3, 32, 32), 32, 3, {}, WINOGRAD),
    ((3, 64, 64), 64, 7, {"stride": 2}, TILE),
    ((1, 28, 3), 6, 3, {}, TILE),  # rows too short to fill the lanes with pixels
]
LATER_LAYERS = [
    ((6, 12, 12), 16, 5, {"padding": 0}, TILE),
    ((1, 28, 28), 6, 5, {}, TILE),
    ((32, 16, 16), 64, 3, {}, WINOGRAD),
    ((32, 16, 16), 64, 3, {"stride": 2}, WINOGRAD_BY_TWO),
    ((32, 16, 16), 64, 3, {"stride": (2, 1)}, TILE),
    ((64, 4, 4), 64, 3, {"stride": 2}, TILE),  # a quarter of one tile
    ((32, 16, 16), 64, 3, {"dilation": 2}, TILE),
    ((32, 16, 16), 64, 1, {}, TILE),
    ((32, 16, 16), 64, 5, {}, TILE),
    ((32, 16, 16), 32, 3, {"groups": 32}, DEPTHWISE),
    ((32, 16, 16), 32, 3, {"groups": 32, "stride": 2}, DEPTHWISE),
    ((32, 16, 16), 64, 3, {"groups": 32}, TILE),  # two outputs for each channel
    ((32, 16, 16), 32, 3, {"groups": 4}, TILE),
    ((32, 16, 16), 32, 3, {"groups": 8}, GROUPED),
    ((32, 16, 16), 32, 3, {"groups": 16, "stride": 2}, GROUPED),
    ((32, 16, 16), 64, 3, {"groups": 16}, TILE),
]


def kernel_of(graph: Graph, name: str, **options: Any) -> str:
    """Return the kernel of the first step of a node."""
    program = compile_graph(graph, **options)
    return next(str(step["label"]) for step in program.steps if step["node"] == name)


def layer(shape: tuple[int, ...], out: int, kernel: int, later: bool, **attrs: Any) -> Graph:
    net = Net(*shape)
    if later:
        net.add("tanh")
    net.conv(out, kernel, **attrs)
    return net.graph()


@pytest.mark.parametrize(
    ("later", "shape", "out", "kernel", "attrs", "expected"),
    [(False, *case) for case in FIRST_LAYERS] + [(True, *case) for case in LATER_LAYERS],
)
def test_kernels_of_layers(
    later: bool,
    shape: tuple[int, ...],
    out: int,
    kernel: int,
    attrs: dict[str, Any],
    expected: str,
) -> None:
    graph = layer(shape, out, kernel, later, **attrs)
    assert kernel_of(graph, graph.outputs[0]) == expected


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("im2col", BLAS),
        ("packed", PACKED),
        ("direct", TILE),
        ("winograd", WINOGRAD),
        ("auto", WINOGRAD),
        ("exact", TILE),
    ],
)
def test_an_algorithm_can_be_asked_for(algorithm: str, expected: str) -> None:
    graph = layer((32, 16, 16), 64, 3, True)
    assert kernel_of(graph, graph.outputs[0], algorithm=algorithm) == expected


def test_every_algorithm_is_in_the_table_above() -> None:
    assert set(ALGORITHMS) == {"auto", "exact", "im2col", "packed", "direct", "winograd"}


def test_exact_spreads_no_infinity_over_neighbours() -> None:
    for shape, out, kernel, attrs, _ in LATER_LAYERS:
        graph = layer(shape, out, kernel, True, **attrs)
        assert kernel_of(graph, graph.outputs[0], algorithm="exact") in (PIXELS, TILE, DEPTHWISE, GROUPED)


def test_float64_runs_on_blas() -> None:
    for attrs in ({}, {"stride": 2}, {"groups": 32}):
        graph = in_float64(layer((32, 16, 16), 32, 3, True, **attrs))
        assert kernel_of(graph, graph.outputs[0]) == BLAS


@pytest.mark.parametrize(
    ("algorithm", "graph"),
    [
        ("winograd", layer((8, 9, 9), 8, 5, False)),
        ("winograd", layer((8, 9, 9), 8, 3, False, stride=3)),
        ("winograd", layer((8, 9, 9), 8, 3, False, stride=(1, 2))),
        ("winograd", layer((8, 9, 9), 8, 3, False, dilation=2)),
        ("winograd", layer((8, 9, 9), 8, 3, False, groups=2)),
        ("direct", in_float64(layer((8, 9, 9), 8, 3, False))),
        ("packed", in_float64(layer((8, 9, 9), 8, 3, False))),
    ],
)
def test_what_an_algorithm_cannot_do_is_refused_by_name(algorithm: str, graph: Graph) -> None:
    with pytest.raises(UnsupportedOperatorError, match=rf"conv2d0: algorithm='{algorithm}'.*im2col"):
        compile_graph(graph, algorithm=algorithm)


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"one of auto, exact, im2col, packed, direct.*'fast'"):
        compile_graph(networks.lenet(), algorithm="fast")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 1025])
def test_a_wrong_thread_count_is_refused(threads: Any) -> None:
    with pytest.raises(ArgumentError, match="threads"):
        compile_graph(networks.lenet(), threads=threads)


# --- steps and memory -----------------------------------------------------------------------------


def test_lenet_is_five_steps() -> None:
    program = compile_graph(optimize(networks.lenet()), threads=1)
    kernels = [step["label"] for step in program.steps]
    assert kernels == [
        "direct, pixels in lanes + max pool",
        "direct tile + max pool",
        *["linear tile"] * 3,
    ]


def test_memory_does_not_grow_with_depth() -> None:
    def workspace(depth: int) -> int:
        net = Net(16, 32, 32)
        for _ in range(depth):
            net.conv(16)
            net.relu()
        return int(compile_graph(optimize(net.graph()), threads=1).workspace_bytes)

    assert workspace(12) == workspace(4)


def test_profile_has_a_time_for_each_step() -> None:
    program = compile_graph(networks.mixed(), threads=1)
    x = batch_of(networks.mixed(), 2)
    seconds = program.profile((x,), 3)
    assert len(seconds) == len(program.steps)
    assert all(0 < time < 1 for time in seconds)
    assert {step["node"] for step in program.steps} <= {INPUT} | {node.name for node in networks.mixed().nodes}


def test_outputs_are_fresh() -> None:
    program = compile_graph(networks.lenet(), threads=1)
    x = batch_of(networks.lenet(), 2)
    first = program(x)
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(program(x), kept)
    assert not np.shares_memory(first, program(x))


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 28, 28), np.float32),
        np.zeros((1, 1, 28, 27), np.float32),
        np.zeros((1, 28, 28, 1), np.float32),
        np.zeros((1, 1, 28, 28), np.float64),
        np.zeros((1, 1, 28, 28), ">f4"),
        np.zeros((2, 1, 28, 28), np.float32)[::-1],
        np.zeros((1, 1, 28, 56), np.float32)[..., ::2],
        np.zeros((1, 1, 28, 28), np.float32).tolist(),
        None,
    ],
    ids=lambda x: f"{getattr(x, 'dtype', type(x).__name__)}{getattr(x, 'shape', '')}",
)
def test_another_array_is_left_to_the_model(x: Any) -> None:
    assert compile_graph(networks.lenet(), threads=1).run(x) is NotImplemented


def test_an_unaligned_array_is_left_to_the_model() -> None:
    x = np.zeros(28 * 28 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(1, 1, 28, 28)
    assert compile_graph(networks.lenet(), threads=1).run(x) is NotImplemented


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_an_empty_batch_gives_empty_outputs(network: str) -> None:
    graph = networks.NETWORKS[network]()
    outputs = compile_graph(graph, threads=2)(batch_of(graph, 0))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    shapes = [(0, *graph.shapes[name]) for name in graph.outputs]
    assert [y.shape for y in outputs] == shapes


# --- networks whose shape is what makes them hard -------------------------------------------------


def check(net: Net, *outputs: str, count: int = 3, algorithm: str = "auto") -> None:
    graph = net.graph(*outputs)
    assert_equals_interpreter(graph, batch_of(graph, count), algorithm=algorithm)
    if algorithm == "auto":
        graph = in_float64(graph)
        assert_equals_interpreter(graph, batch_of(graph, count))


@pytest.mark.parametrize("network", networks.NETWORKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_known_networks(network: str, algorithm: str) -> None:
    graph = networks.NETWORKS[network]()
    assert_equals_interpreter(graph, batch_of(graph, 2), algorithm=algorithm)


PADDINGS = [0, 1, 2, (1, 2), (0, 3, 1, 0), (2, 0, 0, 1)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_consumers_with_different_paddings_share_a_border(algorithm: str) -> None:
    net = Net(5, 9, 11)
    middle = net.conv(7)
    branches = [net.conv(6, 3, source=middle, padding=padding) for padding in PADDINGS]
    check(net, *branches, algorithm=algorithm)


def test_an_input_with_different_paddings() -> None:
    for channels in (1, 3):
        net = Net(channels, 12, 13)
        branches = [net.conv(6, 3, source=INPUT, padding=padding) for padding in PADDINGS]
        check(net, *branches)


def test_a_value_with_a_border_is_also_an_output_and_flattened() -> None:
    net = Net(3, 8, 7)
    middle = net.conv(9)
    padded = net.conv(4, 5, source=middle)
    pooled = net.add("max_pool2d", middle, kernel_size=3, stride=1, padding=1)
    net.add("flatten", middle)
    vector = net.linear(5)
    check(net, middle, padded, pooled, vector)


def test_a_flattened_value_gets_a_border_afterwards() -> None:
    net = Net(3, 8, 7)
    middle = net.conv(9)
    net.add("flatten", middle)
    vector = net.linear(5)
    check(net, vector, net.conv(4, 5, source=middle), middle)


def test_padding_of_a_residual() -> None:
    net = Net(6, 10, 10)
    first = net.conv(6)
    net.conv(6, 5, source=first)
    net.add("add", net.last, first)
    last = net.relu()
    check(net, last, net.conv(3, 3, source=first))


@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "leaky_relu"])
def test_a_residual_is_added_before_the_activation(groups: int, activation: str) -> None:
    net = Net(16, 6, 9)
    for source in (INPUT, net.last):
        net.conv(16, 3, source=net.last, groups=groups)
        net.add("add", source, net.last)
        net.add(activation)
    check(net)


@pytest.mark.parametrize("channels", [1, 3, 15])
def test_a_residual_of_a_first_layer(channels: int) -> None:
    net = Net(channels, 11, 18)
    net.conv(channels)
    net.add("add", net.last, INPUT)
    net.relu()
    check(net)


def test_a_residual_of_the_value_itself() -> None:
    net = Net(4, 6, 6)
    net.conv(4, 1)
    net.add("add", net.last, net.last)
    check(net)


def test_outputs_that_are_consumed_repeated_and_intermediate() -> None:
    net = Net(3, 8, 8)
    first = net.conv(8)
    second = net.relu()
    third = net.pool()
    check(net, third, first, second, third, first)


def test_the_input_as_output() -> None:
    net = Net(3, 5, 7)
    same = net.add("identity")
    again = net.add("dropout", same, p=0.5)
    conv = net.conv(4, 3, source=INPUT)
    flat = net.add("flatten", INPUT)
    check(net, same, conv, again, flat)


def test_one_memory_under_several_names() -> None:
    net = Net(4, 6, 5)
    conv = net.conv(6)
    flat = net.add("flatten")
    image = net.add("reshape", shape=(5, 6, 6))
    rows = net.add("reshape", conv, shape=(6, 30))
    check(net, flat, image, rows, conv, net.conv(3, 3, source=image))


@pytest.mark.parametrize("dim", [1, 2, 3, -1])
def test_cat_of_images(dim: int) -> None:
    net = Net(5, 6, 7)
    conv = net.conv(5)
    first = net.add("cat", conv, INPUT, conv, dim=dim)
    check(net, first, net.conv(8, 3, source=first))
    check(net, net.add("cat", first, first, dim=1))


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_cat_of_what_is_no_image(dim: int) -> None:
    for shape in [(24,), (4, 6), (2, 3, 2, 2)]:
        if dim <= len(shape):
            net = Net(24)
            one, two = net.add("reshape", shape=shape), net.add("tanh")
            check(net, net.add("cat", one, two, one, dim=dim))


def test_cat_of_different_parts() -> None:
    net = Net(3, 6, 6)
    parts = [net.conv(channels, 3, source=INPUT) for channels in (1, 17, 2, 32)]
    joined = net.add("cat", *parts, dim=1)
    check(net, net.conv(9, 3, source=joined), parts[1])


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_then_convolve(mode: str) -> None:
    net = Net(3, 7, 8)
    net.conv(6)
    padded = net.add("pad", padding=(1, 2, 3, 0), mode=mode)
    check(net, net.conv(5, 3, source=padded), padded)


def test_pad_channels_crop_and_fill() -> None:
    net = Net(4, 7, 8)
    net.add("pad", padding=(-1, 2, 0, -3, 2, 1), value=-1.5)
    net.conv(5, 3)
    check(net, net.last, net.add("pad", padding=(0, 0, 0, 0, -1, -2)))


@pytest.mark.parametrize("ends", [(1, -1), (1, 2), (2, 3), (2, 2), (3, 3), (1, 1)])
def test_flatten_of_some_axes(ends: tuple[int, int]) -> None:
    net = Net(4, 5, 6)
    conv = net.conv(4)
    flat = net.add("flatten", start_dim=ends[0], end_dim=ends[1])
    check(net, flat, net.linear(7), conv)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 5, 6), (4, 1, 6), (1, 1, 6), (4, 5, 1)])
def test_flatten_where_the_orders_agree(shape: tuple[int, ...]) -> None:
    for make in (Net.relu, lambda net: net.conv(shape[0])):
        net = Net(*shape)
        make(net)
        flat = net.add("flatten")
        net.linear(9)
        check(net, net.linear(3), flat)


def test_a_chain_of_reshapes() -> None:
    net = Net(6, 4, 5)
    net.conv(6)
    net.add("reshape", shape=(10, 12))
    net.add("reshape", shape=(2, 5, 3, 4))
    net.add("flatten", start_dim=2, end_dim=3)
    net.add("reshape", shape=(3, 5, 8))
    net.conv(7, 3)
    net.add("flatten")
    check(net, net.linear(4))


def test_a_vector_becomes_an_image() -> None:
    net = Net(12)
    net.linear(30)
    net.add("reshape", shape=(5, 2, 3))
    net.conv(4, 3)
    check(net, net.last, net.nodes[0].name)


def test_two_readers_of_a_flattened_image() -> None:
    net = Net(3, 6, 6)
    net.conv(8)
    flat = net.add("flatten")
    one = net.linear(5)
    net.add("tanh", flat)  # in PyTorch's order, while the linear layer may read channels last
    two = net.linear(5)
    check(net, one, two)


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 5), (6,)])
def test_linear_on_the_last_axis(shape: tuple[int, ...]) -> None:
    net = Net(*shape)
    if len(shape) == 3:
        net.conv(6)
    net.linear(17)
    net.relu()
    first = net.last
    net.linear(17)
    net.add("add", net.last, first)
    net.add("sigmoid")
    net.linear(1)
    check(net, net.last, first)


def test_many_rows_of_a_linear_layer() -> None:
    net = Net(210, 33)
    net.linear(70)
    net.relu()
    check(net, net.linear(5), count=2)


@pytest.mark.parametrize("shape", [(7, 4, 5), (7, 9), (7,)])
def test_batch_norm_and_softmax_of_any_rank(shape: tuple[int, ...]) -> None:
    for dim in range(1, len(shape) + 1):
        for softmax in ("softmax", "log_softmax"):
            net = Net(*shape)
            net.norm()
            net.add("hardtanh")
            norm = net.norm()
            check(net, net.add(softmax, dim=dim), norm)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("kernel", [2, 3, (1, 2), (3, 2)])
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "leaky_relu"])
def test_pools_behind_convolutions(pool: str, kernel: Any, activation: str | None) -> None:
    for channels, out in ((1, 6), (3, 35), (16, 16)):
        net = Net(channels, 13, 17)
        net.conv(out, 3)
        if activation == "leaky_relu":
            net.add(activation, negative_slope=-0.5)  # not monotonic: the order matters
        elif activation:
            net.add(activation)
        net.add(f"{pool}_pool2d", kernel_size=kernel)
        check(net, net.conv(5, 3), count=2)


def test_no_channels() -> None:
    net = Net(0, 5, 6)
    relu = net.relu()
    cat = net.add("cat", relu, INPUT, dim=1)
    check(net, relu, cat)


def test_empty_parts_of_a_cat() -> None:
    net = Net(4, 5, 6)
    none = net.add("pad", padding=(0, 0, 0, 0, -4, 0))
    joined = net.add("cat", none, INPUT, none, dim=1)
    check(net, net.conv(3, 3, source=joined), none)


def test_more_images_than_a_group() -> None:
    net = Net(3, 8, 8)
    net.conv(16)
    net.pool()
    net.add("flatten")
    check(net, net.linear(10), count=61)


def test_a_poisoned_program_shows() -> None:
    # That a test may trust `outputs_of`: NaN of the call before is still in the workspace.
    program = compile_graph(networks.cifar_conv(), threads=1)
    (y,) = outputs_of(program, np.zeros((1, 3, 32, 32), np.float32))
    assert np.isfinite(y).all()
    assert np.isnan(program(np.full((1, 3, 32, 32), np.nan, np.float32))).all()


# --- limits -----------------------------------------------------------------------------------------


def test_a_tensor_may_have_as_many_axes_as_numpy_allows() -> None:
    shape = (1,) * 30 + (3,)  # and the batch: 32, NumPy 1.26's most
    net = Net(3)
    net.add("reshape", shape=shape)
    net.relu()
    x = np.array([[-1, 2, 3], [4, -5, 6]], np.float32)
    result = compile_graph(net.graph()).run(x)
    assert result.shape == (2, *shape)
    assert_array_equal(result.ravel(), [0, 2, 3, 4, 0, 6])


def test_too_many_outputs_are_refused() -> None:
    net = Net(3)
    names = [net.add("relu", INPUT) for _ in range(65)]
    x = np.array([[-1, 2, 3]], np.float32)
    for result in compile_graph(net.graph(*names[:64]))(x):
        assert_array_equal(result, [[0, 2, 3]])
    with pytest.raises(UnsupportedOperatorError, match=r"65 outputs: at most 64.*concatenate"):
        compile_graph(net.graph(*names))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_over_nothing_is_zero(dtype: Any) -> None:
    nodes = [
        Node("none", "slice", (INPUT,), {"dim": 2, "start": 0, "end": 0}),
        Node("turned", "permute", ("none",), {"dims": (0, 2, 1)}),
        Node("y", "matmul", ("none", "turned")),
    ]
    program = compile_graph(Graph((3, 4), nodes, ("y",), dtype=dtype))
    np.testing.assert_array_equal(program(np.ones((2, 3, 4), dtype)), np.zeros((2, 3, 3)))
