"""Any attributes, legal or not: fastconv accepts what PyTorch accepts, and returns the same.

Most examples are legal but for what only shows when the numbers meet (a kernel larger than the
image, a padding beyond half the window); in some, one argument is spoilt on purpose.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases import Case
from checks import assert_agree, engine, oracle, refused, torch_float64
from hypothesis import assume, event, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

pytest.importorskip("torch")

SPOILT = st.sampled_from([0, -1, 1.5, None, "2", (), (1, 1, 1), (2, 0), (-1, 1), (1.0, 1), True])
SIDES = st.integers(1, 11)
BATCHES = st.sampled_from([(), (0,), (1,), (3,)])


def _pairs(values: SearchStrategy[int]) -> SearchStrategy[Any]:
    """An int, or two of them, in the spellings that PyTorch knows."""
    return st.one_of(values, st.tuples(values, values), st.lists(values, min_size=2, max_size=2))


def _sound(draw: DrawFn, *names: str) -> str | None:
    """Draw the name of the one argument to spoil, or mostly None."""
    return draw(st.sampled_from([None] * (2 * len(names)) + list(names)))


@st.composite
def _spoilt_shape(draw: DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop an axis, add one, or change the size of one."""
    axis = draw(st.integers(0, len(shape) - 1))
    before, size, after = shape[:axis], shape[axis], shape[axis + 1 :]
    change = draw(st.sampled_from(["drop", "add", "grow", "shrink", "empty"]))
    new = {"drop": (), "add": (1, size), "grow": (size + 1,), "shrink": (size - 1,), "empty": (0,)}
    return (*before, *(max(n, 0) for n in new[change]), *after)


@st.composite
def _conv2d(draw: DrawFn) -> Case:
    spoil = _sound(draw, "x", "weight", "bias", "stride", "padding", "dilation", "groups")
    groups, c_in, c_out = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    shapes = {
        "x": (*draw(BATCHES), groups * c_in, draw(SIDES), draw(SIDES)),
        "weight": (groups * c_out, c_in, *kernel),
    }
    if draw(st.booleans()):
        shapes["bias"] = (groups * c_out,)
    attrs: dict[str, Any] = {
        "stride": draw(_pairs(st.integers(1, 4))),
        "padding": draw(st.one_of(_pairs(st.integers(0, 4)), st.sampled_from(["same", "valid"]))),
        "dilation": draw(_pairs(st.integers(1, 3))),
        "groups": groups,
    }
    if attrs["padding"] == "same" and draw(st.booleans()):
        attrs["stride"] = draw(st.sampled_from([1, (1, 1), [1]]))
    if spoil in shapes:
        shapes[spoil] = draw(_spoilt_shape(shapes[spoil]))
    elif spoil in attrs:
        attrs[spoil] = draw(st.one_of(SPOILT, st.just("full"), st.integers(2, 7)))
    return Case("conv2d", tuple(shapes.values()), attrs)


@st.composite
def _pool(draw: DrawFn, op: str) -> Case:
    extra: dict[str, SearchStrategy[Any]] = {
        "dilation": _pairs(st.integers(1, 3)),
        "return_indices": st.booleans(),
    }
    if op == "avg_pool2d":
        extra = {
            "count_include_pad": st.booleans(),
            "divisor_override": st.sampled_from([None, None, 1, 3, 10, -2]),
        }
    kernel = draw(_pairs(st.integers(1, 5)))
    smallest = kernel if isinstance(kernel, int) else min(kernel)
    most = smallest // 2 + draw(st.sampled_from([0, 0, 0, 1]))  # half is legal, more is not
    legal: dict[str, SearchStrategy[Any]] = {
        "kernel_size": st.just(kernel),
        "stride": st.one_of(st.none(), _pairs(st.integers(1, 5))),
        "padding": _pairs(st.integers(0, most)),
        "ceil_mode": st.booleans(),
        **extra,
    }
    attrs = {name: draw(values) for name, values in legal.items()}
    shape = (*draw(BATCHES), draw(st.integers(1, 9)), draw(SIDES), draw(SIDES))
    spoil = _sound(draw, "x", *(name for name in attrs if name != "return_indices"))
    if spoil == "x":
        shape = draw(_spoilt_shape(shape))
    elif spoil is not None:
        attrs[spoil] = draw(SPOILT)
    return Case(op, (shape,), attrs)


@st.composite
def _adaptive(draw: DrawFn, op: str) -> Case:
    sizes = st.one_of(st.none(), st.integers(0, 12))
    attrs: dict[str, Any] = {"output_size": draw(st.one_of(st.integers(0, 12), st.tuples(sizes, sizes)))}
    if op == "adaptive_max_pool2d":
        attrs["return_indices"] = draw(st.booleans())
    shape = (*draw(BATCHES), draw(st.integers(1, 9)), draw(SIDES), draw(SIDES))
    spoil = _sound(draw, "x", "output_size")
    if spoil == "x":
        shape = draw(_spoilt_shape(shape))
    elif spoil is not None:
        attrs[spoil] = draw(SPOILT)
    return Case(op, (shape,), attrs)


@st.composite
def _blocks(draw: DrawFn, op: str) -> Case:
    kernel, stride, dilation = (draw(st.tuples(s, s)) for s in [st.integers(1, 3)] * 3)
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    size = draw(st.tuples(SIDES, SIDES))
    batch, channels = draw(BATCHES), draw(st.integers(1, 5))
    attrs: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
    }
    shape: tuple[int, ...] = (*batch, channels, *size)
    if op == "fold":
        attrs["output_size"] = size
        blocks = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
        ]
        assume(min(blocks) > 0)
        shape = (*batch, channels * math.prod(kernel), math.prod(blocks))
    for name, value in attrs.items():
        if value[0] == value[1] and draw(st.booleans()):
            attrs[name] = value[0]
    spoil = _sound(draw, "x", *attrs)
    if spoil == "x":
        shape = draw(_spoilt_shape(shape))
    elif spoil is not None:
        attrs[spoil] = draw(st.one_of(SPOILT, st.tuples(st.integers(1, 4))))
    return Case(op, (shape,), attrs)


@st.composite
def _pad(draw: DrawFn) -> Case:
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=5)))
    axes = draw(st.integers(0, len(shape)))
    if mode != "constant" and len(shape) > 1:
        axes = len(shape) - draw(st.integers(1, 2))  # these modes leave one or two axes alone
    # Narrow enough for every mode, usually.
    wide = [draw(st.integers(1, 20)) == 1 for _ in range(2 * axes)]
    size = [n for n in shape[: -axes - 1 : -1] for _ in range(2)]
    pad = [draw(st.integers(-3, 7) if w else st.integers(-1, min(n - 1, 3))) for n, w in zip(size, wide, strict=True)]
    attrs: dict[str, Any] = {
        "pad": draw(st.sampled_from([tuple, list]))(pad),
        "mode": mode,
        "value": draw(st.sampled_from([None, 0.0, -2.5, 3])) if mode == "constant" else None,
    }
    spoil = _sound(draw, "x", *attrs)
    if spoil == "x":
        shape = draw(_spoilt_shape(shape))
    elif spoil == "pad":
        attrs["pad"] = draw(st.one_of(SPOILT, st.tuples(st.integers(0, 2), st.integers(0, 2))))
    elif spoil is not None:
        attrs[spoil] = draw(st.sampled_from(["edge", "", 1.5, (1,)]))
    return Case("pad", (shape,), attrs)


def _is_accident(case: Case) -> bool:
    """Whether PyTorch's verdict is a slip that nobody could want reproduced."""
    shape = case.shapes[0]
    if case.op == "conv2d":
        # A dilation of 0 and an image without pixels (but padding) are refused by the kernels
        # only, and an empty batch reaches none.
        dilation = case.attrs["dilation"]
        dilations = dilation if isinstance(dilation, tuple) else (dilation,)
        return 0 in shape and (0 in dilations or 0 in shape[-2:])
    if case.op == "adaptive_avg_pool2d":
        # To 1x1 it is a mean over the last two axes, with none of the checks for other sizes: of
        # an image without pixels (NaN), of an array of any rank.
        return len(shape) not in (3, 4) or 0 in shape[-2:]
    if case.op == "adaptive_max_pool2d":
        # No channels are refused in a batch, but taken for an empty batch in a single image.
        return len(shape) == 3 and shape[0] == 0
    if case.op == "pad":
        return _is_padding_accident(shape, case.attrs["pad"], case.attrs["mode"])
    return False


def _is_padding_accident(shape: tuple[int, ...], pad: Any, mode: Any) -> bool:
    flat = isinstance(pad, tuple | list) and all(type(amount) is int for amount in pad)
    if not flat or len(pad) % 2 or len(pad) > 2 * len(shape):
        return False  # refused by everyone
    for size, before, after in zip(shape[::-1], pad[::2], pad[1::2], strict=False):
        left = size + min(before, 0) + min(after, 0)
        # Circular: wraps around pixels that the crop took, and reads memory nobody has written.
        if mode == "circular" and (max(before, after) > left or left < 0):
            return True
        # Crops to nothing: refused in one dimension, accepted if one of two or three remains.
        if mode in ("reflect", "replicate") and size + before + after == 0:
            return True
    return False


def check_like_torch(case: Case, dtype: Any, **own: Any) -> None:
    """Call PyTorch, the oracle and the engine (with its `own` arguments), and compare.

    The arrays hold small multiples of 1/4, so that windows have ties.
    """
    assume(not _is_accident(case))
    arrays = [np.round(4 * array) / np.asarray(4, dtype) for array in case.arrays(dtype)]
    try:
        expected = torch_float64(case.op, *arrays, **case.attrs)
    except Exception:  # whatever PyTorch raises is a refusal
        event("refused")
        with refused():
            engine(case.op, *arrays, **case.attrs, **own)
        return
    event("accepted")
    assert_agree(oracle(case.op, *arrays, **case.attrs), expected, np.dtype(np.float64))
    actual = engine(case.op, *arrays, **case.attrs, **own)
    assert_agree(actual, expected, np.dtype(dtype))


FLOATS = st.sampled_from([np.float32, np.float64])


@given(_conv2d(), st.sampled_from(["auto", "exact", "im2col", "packed", "direct"]))
def test_conv2d(case: Case, algorithm: str) -> None:
    check_like_torch(case, np.float32, algorithm=algorithm)


@given(_conv2d())
def test_conv2d_float64(case: Case) -> None:
    check_like_torch(case, np.float64)


@given(_pool("max_pool2d"), FLOATS)
def test_max_pool2d(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)


@given(_pool("avg_pool2d"), FLOATS)
def test_avg_pool2d(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)


@given(_adaptive("adaptive_avg_pool2d"), FLOATS)
def test_adaptive_avg_pool2d(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)


@given(_adaptive("adaptive_max_pool2d"), FLOATS)
def test_adaptive_max_pool2d(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)


@given(_blocks("unfold"), FLOATS)
def test_unfold(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)


@given(_blocks("fold"), FLOATS)
def test_fold(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)


@given(_pad(), FLOATS)
def test_pad(case: Case, dtype: Any) -> None:
    check_like_torch(case, dtype)
