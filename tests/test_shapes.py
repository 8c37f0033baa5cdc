"""Shape inference accepts, refuses and computes what PyTorch 2.13 does, attribute by attribute."""

from __future__ import annotations

import itertools
import warnings
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Graph, Node

torch = pytest.importorskip("torch")
functional = torch.nn.functional

Shape = tuple[int, ...]
REFUSED = "refused"


def inferred(op: str, shape: Shape, attrs: dict[str, Any], weights: dict[str, Shape] | None = None) -> Shape | str:
    """Infer the output's shape, without batch, for a batched input; REFUSED where that raises."""
    arrays = {role: np.zeros(size, np.float32) for role, size in (weights or {}).items()}
    try:
        graph = Graph(shape[1:], (Node(op, op, (INPUT,), attrs, arrays),), (op,))
    except FastconvError as error:
        if not str(error).startswith(f"{op}: "):
            raise AssertionError(f"the message does not name the node: {error}") from error
        return REFUSED
    return graph.shapes[op]


def torch_shape(op: str, shape: Shape, attrs: dict[str, Any], weights: dict[str, Shape] | None = None) -> Shape | str:
    """Compute with PyTorch; REFUSED where that raises."""
    function = getattr(functional, op, None) or getattr(torch, op)
    tensors = {role: torch.zeros(size) for role, size in (weights or {}).items()}
    if op == "pad":
        attrs = {"pad" if name == "padding" else name: value for name, value in attrs.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(function(torch.zeros(shape), **tensors, **attrs).shape)[1:]
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        return REFUSED


def assert_like_torch(*case: Any) -> None:
    assert inferred(*case) == torch_shape(*case), case


def options(**choices: list[Any]) -> list[dict[str, Any]]:
    """Return one dict for each choice, varying one attribute at a time."""
    return [{name: value} for name, values in choices.items() for value in values]


# What is tried wherever PyTorch wants ints: the spellings, and what is none of them. (PyTorch looks
# for bools in the first place of a tuple only; here they are refused in all.)
SPELLINGS: list[Any] = [
    *(0, 1, 2, -1, True, 2.0, "2", None, np.int64(2), np.float32(2), np.bool_(True)),
    *((), (2,), [2], (1, 2), [2, 1], (1, -1), (0, 2), (2, 0), (1, 2, 3), (1, 2.0), (True, 1)),
    *((np.int64(1), 2), (None, 1), {}),
]
TOO_LARGE = 2**31  # for PyTorch's pooling; its convolution takes 64 bits

# --- convolution --------------------------------------------------------------------------------

CONV = {"weight": (3, 4, 3, 3)}


@pytest.mark.parametrize("attrs", options(stride=SPELLINGS, dilation=SPELLINGS), ids=str)
def test_conv2d_spellings(attrs: dict[str, Any]) -> None:
    assert_like_torch("conv2d", (2, 4, 6, 7), attrs, CONV)


CONV_PADDING = [*SPELLINGS, "same", "valid", "full", ["same"], (1, 1), (4, 3)]


@pytest.mark.parametrize("padding", CONV_PADDING, ids=str)
@pytest.mark.parametrize("attrs", [{}, {"stride": 2}, {"dilation": (2, 3)}], ids=str)
def test_conv2d_padding(padding: Any, attrs: dict[str, Any]) -> None:
    attrs = attrs | {"padding": padding}
    assert_like_torch("conv2d", (2, 4, 6, 7), attrs, CONV)
    assert_like_torch("conv2d", (2, 4, 6, 7), attrs, {"weight": (3, 4, 2, 4)})


@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups"])
def test_conv2d_refuses_integers_that_could_overflow(name: str) -> None:
    assert inferred("conv2d", (2, 4, 6, 7), {name: TOO_LARGE}, CONV) == REFUSED


def test_conv2d_same_padding_puts_the_odd_one_last() -> None:
    weight = np.zeros((1, 1, 4, 3), np.float32)
    attrs = {"padding": "same", "dilation": (1, 2)}
    graph = Graph((1, 5, 5), (Node("c", "conv2d", attrs=attrs, weights={"weight": weight}),), ("c",))
    assert graph.nodes[0].attrs["padding"] == (1, 2, 2, 2)


def test_conv2d_takes_four_paddings() -> None:
    assert inferred("conv2d", (1, 4, 6, 7), {"padding": (0, 1, 2, 3)}, CONV) == (3, 5, 10)
    assert inferred("conv2d", (1, 4, 6, 7), {"padding": (0, 1, -2, 3)}, CONV) == REFUSED


@pytest.mark.parametrize("groups", [*range(-1, 7), True, 2.0, None, (2,)], ids=str)
@pytest.mark.parametrize("channels", [0, 2, 3, 4, 6])
def test_conv2d_groups(groups: Any, channels: int) -> None:
    for out, per_group in itertools.product((0, 2, 3, 4, 6), (0, 1, 2, 3, 6)):
        weights = {"weight": (out, per_group, 2, 2)}
        assert_like_torch("conv2d", (2, channels, 4, 4), {"groups": groups}, weights)


@pytest.mark.parametrize(
    "shape",
    [(2, 4, 0, 6), (2, 4, 6, 0), (2, 4, 2, 6), (2, 4, 1, 1), (2, 0, 6, 6), (2, 0, 0, 6), (2, 4)],
    ids=str,
)
@pytest.mark.parametrize("padding", [0, 1, 2, 3, "same"])
def test_conv2d_small_inputs(shape: Shape, padding: int | str) -> None:
    channels = shape[1]
    for kernel in ((3, 3), (1, 3), (3, 1), (1, 1)):
        weights = {"weight": (3, channels, *kernel)}
        assert_like_torch("conv2d", shape, {"padding": padding}, weights)


@pytest.mark.parametrize(
    "weights",
    [
        *({"weight": (3, 4, 3, 3), "bias": bias} for bias in [(3,), (1,), (), (3, 1), (4,), (0,)]),
        *({"weight": weight} for weight in [(4, 3, 3), (3, 4, 3, 3, 1), (3, 4, 0, 3), (3, 4, 3, 0)]),
        {"weight": (3, 5, 3, 3)},
        {"weight": (0, 4, 3, 3)},
    ],
    ids=str,
)
def test_conv2d_weights(weights: dict[str, Shape]) -> None:
    assert_like_torch("conv2d", (2, 4, 6, 7), {}, weights)


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
paddings = st.tuples(st.integers(0, 3), st.integers(0, 3))
images = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@given(shape=images, kernel=pairs, stride=pairs, padding=paddings | st.just("same"), dilation=pairs)
def test_conv2d_geometry(shape: Shape, kernel: Shape, **attrs: Any) -> None:
    assert_like_torch("conv2d", shape, attrs, {"weight": (2, shape[1], *kernel)})


# --- linear -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 5), (2, 3, 4, 5), (0, 5), (2, 0), (2, 4)], ids=str)
@pytest.mark.parametrize("weight", [(3, 5), (1, 5), (0, 5), (3, 0), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("bias", [None, (3,)], ids=str)
def test_linear(shape: Shape, weight: Shape, bias: Shape | None) -> None:
    if bias and weight[0] != 3:
        bias = (weight[0],)
    weights = {"weight": weight} | ({"bias": bias} if bias else {})
    assert_like_torch("linear", shape, {}, weights)


# --- pooling ------------------------------------------------------------------------------------

POOLS = ["max_pool2d", "avg_pool2d"]


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize(
    "attrs",
    [
        *options(kernel_size=[*SPELLINGS, TOO_LARGE]),
        *({"kernel_size": 3} | option for option in options(stride=[*SPELLINGS, TOO_LARGE])),
        *({"kernel_size": 3} | option for option in options(padding=[*SPELLINGS, TOO_LARGE])),
        *({"kernel_size": 3} | option for option in options(ceil_mode=[True, False, 1, None, "a"])),
        *({"kernel_size": 2, "stride": 2**31 - 1, "ceil_mode": ceil} for ceil in (True, False)),
        {},
    ],
    ids=str,
)
def test_pool2d_spellings(op: str, attrs: dict[str, Any]) -> None:
    assert_like_torch(op, (2, 4, 6, 7), attrs)


@pytest.mark.parametrize("dilation", [*SPELLINGS, TOO_LARGE], ids=str)
def test_max_pool2d_dilation(dilation: Any) -> None:
    assert_like_torch("max_pool2d", (2, 4, 6, 7), {"kernel_size": 2, "dilation": dilation})


@pytest.mark.parametrize(
    "divisor",
    [None, 0, 1, -3, 2.0, True, "1", 2**40, 2**63 - 1, -(2**63), 2**63, np.int64(0), np.int64(3)],
    ids=str,
)
def test_avg_pool2d_divisor(divisor: Any) -> None:
    assert_like_torch("avg_pool2d", (2, 4, 6, 7), {"kernel_size": 2, "divisor_override": divisor})


@pytest.mark.parametrize("value", [True, False, 1, None, "a"], ids=str)
def test_avg_pool2d_count_include_pad(value: Any) -> None:
    assert_like_torch("avg_pool2d", (2, 4, 6, 7), {"kernel_size": 2, "count_include_pad": value})


EMPTY = [
    (2, 0, 6, 6),
    (2, 4, 0, 6),
    (2, 4, 6, 0),
    (0, 4, 6, 6),
    (2, 4, 6, 6),
    (2, 4),
    (1, 2, 4, 6, 6),
]


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_pool2d_inputs(op: str, shape: Shape) -> None:
    assert_like_torch(op, shape, {"kernel_size": 2})
    assert_like_torch(op, shape, {"kernel_size": 2, "padding": 1})


@given(shape=images, kernel_size=pairs, stride=pairs, padding=paddings, dilation=pairs, ceil_mode=...)
def test_max_pool2d_geometry(shape: Shape, ceil_mode: bool, **attrs: Any) -> None:
    assert_like_torch("max_pool2d", shape, attrs | {"ceil_mode": ceil_mode})


@given(shape=images, kernel_size=pairs, stride=st.none() | pairs, padding=paddings, ceil_mode=...)
def test_avg_pool2d_geometry(shape: Shape, ceil_mode: bool, **attrs: Any) -> None:
    assert_like_torch("avg_pool2d", shape, attrs | {"ceil_mode": ceil_mode})


ADAPTIVE = ["adaptive_avg_pool2d", "adaptive_max_pool2d"]


@pytest.mark.parametrize("op", ADAPTIVE)
@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, 7, 13, -1, True, 2.0, None, "2", (), (1,), (None,), (1, 2), [3, 1], (1, 2, 3)),
        *((None, 2), (2, None), (None, None), (0, 1), (1, -1), (1.0, 2), (True, 1)),
    ],
    ids=str,
)
def test_adaptive_output_size(op: str, size: Any) -> None:
    assert_like_torch(op, (2, 4, 6, 7), {"output_size": size})


@pytest.mark.parametrize("op", ADAPTIVE)
@pytest.mark.parametrize("shape", EMPTY, ids=str)
@pytest.mark.parametrize("size", [2, (None, 2), (0, 2)], ids=str)
def test_adaptive_inputs(op: str, shape: Shape, size: Any) -> None:
    assert_like_torch(op, shape, {"output_size": size})


# --- elementwise, normalisation -----------------------------------------------------------------

NUMBERS = [0, 1, -1.5, True, float("nan"), float("inf"), "1", None, np.float32(0.5), (1,)]


@pytest.mark.parametrize("op", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape", [(2,), (2, 3), (0, 3), (2, 0, 4), (2, 3, 4, 5)], ids=str)
def test_elementwise(op: str, shape: Shape) -> None:
    assert_like_torch(op, shape, {})


@pytest.mark.parametrize("slope", NUMBERS, ids=str)
def test_leaky_relu(slope: Any) -> None:
    assert_like_torch("leaky_relu", (2, 3), {"negative_slope": slope})


@pytest.mark.parametrize("low", NUMBERS, ids=str)
@pytest.mark.parametrize("high", NUMBERS, ids=str)
def test_hardtanh(low: Any, high: Any) -> None:
    assert_like_torch("hardtanh", (2, 3), {"min_val": low, "max_val": high})


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (2, 0), (0, 3)], ids=str)
@pytest.mark.parametrize("dim", [*range(-5, 5), 1.0, True, "1", np.int64(1)], ids=str)
def test_softmax(op: str, shape: Shape, dim: Any) -> None:
    if not isinstance(dim, (bool, float, str)) and dim in (0, -len(shape)):
        assert inferred(op, shape, {"dim": dim}) == REFUSED  # the batch
    else:
        assert_like_torch(op, shape, {"dim": dim})


def norm_weights(size: int = 4, **other: Shape) -> dict[str, Shape]:
    return {"running_mean": (size,), "running_var": (size,)} | other


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (2, 4), (4,), (2, 5, 4), (0, 4), (2, 4, 0)], ids=str)
def test_batch_norm_inputs(shape: Shape) -> None:
    assert_like_torch("batch_norm", shape, {}, norm_weights())


@pytest.mark.parametrize(
    "weights",
    [
        norm_weights(3),
        norm_weights(running_var=(5,)),
        norm_weights(running_mean=(4, 1), running_var=(4, 1)),
        norm_weights(weight=(4,), bias=(4,)),
        norm_weights(weight=(4,)),
        norm_weights(bias=(4,)),
        norm_weights(weight=(3,)),
        norm_weights(bias=(5,)),
    ],
    ids=str,
)
def test_batch_norm_weights(weights: dict[str, Shape]) -> None:
    assert_like_torch("batch_norm", (2, 4, 5, 5), {}, weights)


@pytest.mark.parametrize("eps", NUMBERS, ids=str)
def test_batch_norm_eps(eps: Any) -> None:
    assert_like_torch("batch_norm", (2, 4, 5, 5), {"eps": eps}, norm_weights())


# --- layout -------------------------------------------------------------------------------------

MODES = ["constant", "reflect", "replicate", "circular"]
PAD_SHAPES = [(2, 4, 5, 6), (2, 4, 6), (2, 6), (2, 4, 0, 6), (2, 3, 4, 5, 6)]
PAD_WIDTHS = [
    *((), (1,), (1, 1, 1), (0, 0), (1, 1), (5, 5), (6, 6), (7, 7), (-1, 1), (-6, 0), (-3, -3)),
    *((-4, -3), (-7, 0), (0, -2), (1.0, 1), (True, 1), 1, "11", None),
    *((1, 1, 1, 1), (-1, 1, 2, -2), (0, 0, 5, 0), (0, 0, 4, 0), (0, 0, 0, 0), (2, 1, 0, 3)),
    *((1, 1, 1, 1, 1, 1), (0, 0, 1, 1, 4, 0), (0, 0, 0, 0, 3, 3), (1,) * 10),
]


def pads_the_batch(shape: Shape, padding: Any) -> bool:
    return isinstance(padding, tuple) and len(padding) == 2 * len(shape) and any(padding[-2:])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", PAD_SHAPES, ids=str)
@pytest.mark.parametrize("padding", PAD_WIDTHS, ids=str)
def test_pad(mode: str, shape: Shape, padding: Any) -> None:
    case = "pad", shape, {"padding": padding, "mode": mode}
    if pads_the_batch(shape, padding):
        assert inferred(*case) == REFUSED
    else:
        assert_like_torch(*case)


@pytest.mark.parametrize("padding", [(5, -2), (-5, 2), (-6, 1), (1, -6)], ids=str)
def test_circular_pad_never_wraps_more_than_the_crop_left(padding: Shape) -> None:
    # PyTorch accepts these and returns memory that nobody wrote.
    assert inferred("pad", (2, 4, 6), {"padding": padding, "mode": "circular"}) == REFUSED


@pytest.mark.parametrize("value", [None, 0, 0.0, 1, True, float("nan"), "1"], ids=str)
@pytest.mark.parametrize("mode", [*MODES, "same", None], ids=str)
def test_pad_value(mode: Any, value: Any) -> None:
    attrs = {"padding": (1, 1, 1, 1), "mode": mode, "value": value}
    assert_like_torch("pad", (2, 4, 5, 6), attrs)


widths = st.lists(st.integers(-6, 7), min_size=2, max_size=6).filter(lambda v: len(v) % 2 == 0)


@given(
    mode=st.sampled_from(MODES[:3]),
    shape=st.tuples(st.just(2), *[st.integers(1, 5)] * 3),
    padding=widths,
)
def test_pad_geometry(mode: str, shape: Shape, padding: list[int]) -> None:
    assert_like_torch("pad", shape, {"padding": tuple(padding), "mode": mode})


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (2, 4), (2, 0, 5), (2,)], ids=str)
@pytest.mark.parametrize("start", [*range(-5, 6), 1.0], ids=str)
def test_flatten(shape: Shape, start: Any) -> None:
    for end in range(-5, 6):
        attrs = {"start_dim": start, "end_dim": end}
        batch = (0, -len(shape))
        if start in batch or end in batch:
            assert inferred("flatten", shape, attrs) == REFUSED
        else:
            assert_like_torch("flatten", shape, attrs)


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (2, 120), (2, 0, 5), (2,)], ids=str)
@pytest.mark.parametrize(
    "target",
    [
        (),
        (120,),
        (-1,),
        (4, -1),
        (-1, 4),
        (-1, -1),
        (7, -1),
        (0,),
        (0, -1),
        (-2, 60),
        (0, 7),
        (1, 1),
    ],
    ids=str,
)
def test_reshape(shape: Shape, target: Shape) -> None:
    expected = torch_shape("reshape", shape, {"shape": (shape[0], *target)})
    assert inferred("reshape", shape, {"shape": target}) == expected


@pytest.mark.parametrize("dim", [*range(-4, 4), 1.0], ids=str)
@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 4), (2, 5, 4)), ((2, 3, 4), (2, 3, 1), (2, 3, 0)), ((2, 3), (2, 3, 1)), ((2, 3),)],
    ids=str,
)
def test_cat(shapes: tuple[Shape, ...], dim: Any) -> None:
    try:
        expected: Shape | str = tuple(torch.cat([torch.zeros(s) for s in shapes], dim).shape)[1:]
    except (RuntimeError, TypeError, IndexError):
        expected = REFUSED
    if dim in (0, -len(shapes[0])):
        expected = REFUSED  # the batch
    # A graph has one input: each part is cut from it, or padded to its size, and then shaped.
    nodes = []
    for i, shape in enumerate(shapes):
        size = prod(shape[1:])
        nodes.append(Node(f"part{i}", "pad", attrs={"padding": (0, size - 8)}))
        nodes.append(Node(f"shaped{i}", "reshape", (f"part{i}",), {"shape": shape[1:]}))
    nodes.append(Node("cat", "cat", tuple(f"shaped{i}" for i in range(len(shapes))), {"dim": dim}))
    try:
        result: Shape | str = Graph((8,), tuple(nodes), ("cat",)).shapes["cat"]
    except FastconvError:
        result = REFUSED
    assert result == expected
