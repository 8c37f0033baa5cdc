"""What PyTorch refuses, fastconv refuses, with its own error; and what the error says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import Case
from checks import engine, refused, torch_call

from fastconv import functional
from fastconv.errors import ArgumentError

IMAGE = (2, 4, 7, 7)
CONV = (IMAGE, (6, 4, 3, 3), (6,))
COLUMNS = (2, 36, 25)  # of IMAGE, for a 3x3 kernel
NORM = (IMAGE, (4,), (4,), (4,), (4,))


def _each(name: str, *values: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in values]


def _calls(op: str, shape: tuple[int, ...], common: dict[str, Any], *attrs: dict[str, Any]) -> list[Case]:
    """One call per set of attributes, each on top of the `common` ones."""
    return [Case(op, (shape,), common | a) for a in attrs]


def _shapes(op: str, attrs: dict[str, Any], *shapes: tuple[int, ...]) -> list[Case]:
    """One call per shape of the input."""
    return [Case(op, (shape,), attrs) for shape in shapes]


def _conv(*shapes: tuple[int, ...], **attrs: Any) -> Case:
    return Case("conv2d", shapes, attrs)


CONV_REFUSED = [
    # An attribute that no convolution has.
    *(_conv(*CONV, stride=v) for v in (0, -1, (1, 0), 1.0, "1", None, (), (1, 1, 1), True)),
    *(_conv(*CONV, dilation=v) for v in (0, -1, (1, 0), 1.5, None, (), (1, 1, 1))),
    *(_conv(*CONV, padding=v) for v in (-1, (0, -1), 1.0, None, (), (1, 1, 1), (1, 1, 1, 1))),
    *(_conv(*CONV, padding=v) for v in ("SAME", "full", "")),
    *(_conv(*CONV, groups=v) for v in (0, -1, 1.0, None, (1,), 3)),
    _conv(*CONV, padding="same", stride=2),
    _conv(*CONV, padding="same", stride=(1, 2)),
    _conv(*CONV, padding="same", dilation=0),
    # A kernel larger than the padded image, also where there is no image.
    _conv(IMAGE, (6, 4, 8, 3)),
    _conv(IMAGE, (6, 4, 3, 8), padding="valid"),
    _conv(IMAGE, (6, 4, 3, 3), dilation=4),
    _conv((0, 4, 2, 2), (6, 4, 3, 3)),
    # Arrays that do not belong together.
    _conv(IMAGE, (6, 3, 3, 3)),
    _conv(IMAGE, (6, 4, 3, 3), groups=2),
    _conv(IMAGE, (6, 1, 3, 3), groups=4),  # 6 outputs in 4 groups
    _conv(IMAGE, (6, 1, 3, 3), groups=3),
    *(_conv(IMAGE, (6, 4, 3, 3), shape) for shape in [(5,), (1,), (), (1, 6), (6, 1)]),
    # Too few axes, too many, or empty ones.
    *(_conv(shape, (6, 4, 3, 3)) for shape in [(), (7,), (7, 7), (1, *IMAGE)]),
    *(_conv(IMAGE, shape) for shape in [(4, 3, 3), (1, 6, 4, 3, 3), (6, 4), ()]),
    *(_conv(IMAGE, shape) for shape in [(0, 4, 3, 3), (6, 4, 0, 3), (6, 4, 3, 0)]),
    *(_conv((2, 4, 0, 7), (6, 4, k, k), padding=p) for k, p in [(1, 0), (3, 1), (3, 2)]),
]

WRONG_RANKS: list[tuple[int, ...]] = [(7,), (7, 7), (1, *IMAGE)]
EMPTY_IMAGES: list[tuple[int, ...]] = [(2, 0, 7, 7), (2, 4, 0, 7), (0, 7, 7)]

POOL_REFUSED = [
    case
    for op in ("max_pool2d", "avg_pool2d")
    for case in (
        *_calls(
            op,
            IMAGE,
            {"kernel_size": 3},
            *_each("kernel_size", 0, -1, (3, 0), 2.0, None, "2", (), (3, 3, 3), True, 8),
            *_each("stride", 0, -1, (1, 0), 1.5, (1, 1, 1), (None, 1)),
            *_each("padding", -1, (0, -1), 2, (0, 2), None, (), 0.5),
            *_each("ceil_mode", 1, None),
            {"kernel_size": (4, 2), "padding": 2},  # at most half of each side
            {"kernel_size": 1, "padding": 1},
            {"kernel_size": (3, 8), "stride": 1, "ceil_mode": True},
            {"kernel_size": 11, "stride": 4, "ceil_mode": True},
        ),
        *_shapes(op, {"kernel_size": 2}, (), *WRONG_RANKS, *EMPTY_IMAGES),
        *_shapes(op, {"kernel_size": 2, "padding": 1}, *EMPTY_IMAGES),
    )
]
POOL_REFUSED += _calls(
    "max_pool2d",
    IMAGE,
    {"kernel_size": 3},
    *_each("dilation", 0, -1, (1, 0), 4, None, (), 1.0),
    {"dilation": 2, "padding": 2},  # at most half of the kernel, not of its span
)
POOL_REFUSED += _calls(
    "avg_pool2d",
    IMAGE,
    {"kernel_size": 3},
    *_each("divisor_override", 0, 3.0, "3", (3,), True),
    *_each("count_include_pad", 1, None),
)

ADAPTIVE_REFUSED = [
    case
    for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d")
    for case in (
        *_calls(
            op,
            IMAGE,
            {},
            *_each("output_size", -1, (2, -1), 2.0, (2.0, 2), None, (), (2,), (2, 2, 2), "2", True),
        ),
        *_shapes(op, {"output_size": 2}, *WRONG_RANKS, (2, 4, 0, 7)),
        *_shapes(op, {"output_size": (None, 3)}, (7, 7), (2, 4, 0, 7)),
        *_shapes(op, {"output_size": (0, 3)}, (2, 4, 0, 7)),
    )
]
ADAPTIVE_REFUSED += _shapes("adaptive_max_pool2d", {"output_size": 2}, (2, 0, 7, 7))

BLOCKS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("unfold", IMAGE, {"kernel_size": 3}),
    ("fold", COLUMNS, {"kernel_size": 3, "output_size": 7}),
]
BLOCK_REFUSED = [
    case
    for op, shape, common in BLOCKS
    for case in _calls(
        op,
        shape,
        common,
        *_each("kernel_size", 0, -1, (3, 0), 2.0, None, (), (3,), (3, 3, 3), True),
        *_each("stride", 0, -1, (1, 0), (1,), ()),
        *_each("dilation", 0, -1, (1, 0), (1,), (), 4),
        *_each("padding", -1, (0, -1), (1,), (), None, 0.5),
    )
]
BLOCK_REFUSED += [
    *_calls("unfold", IMAGE, {}, {"kernel_size": 8}, {"kernel_size": (3, 8), "stride": 9}),
    *_shapes("unfold", {"kernel_size": 3, "padding": 2}, *WRONG_RANKS, *EMPTY_IMAGES),
    *_calls(
        "fold",
        COLUMNS,
        {"kernel_size": 3},
        *_each("output_size", 0, -1, (7,), (), (7, 7, 7), 7.0, None, (7, 8), 6),
    ),
    *_shapes("fold", {"kernel_size": 3, "output_size": 0, "padding": 2}, (2, 36, 4)),
    *_shapes(
        "fold",
        {"kernel_size": 3, "output_size": 7},
        *[(25,), (1, *COLUMNS), (2, 35, 25), (2, 36, 24), (2, 0, 25), (2, 36, 0)],
    ),
]

PAD_REFUSED = [
    *(
        case
        for mode in ("constant", "reflect", "replicate", "circular")
        for case in _calls(
            "pad",
            IMAGE,
            {"mode": mode},
            *_each("pad", 1, (1,), (1, 2, 3), (1.0, 1.0), None, (1,) * 10, (-4, -4), "11"),
        )
    ),
    *(
        case
        for mode in ("reflect", "replicate", "circular")
        for case in _calls(
            "pad",
            IMAGE,
            {"mode": mode},
            *_each("pad", (), (1, 1), (1,) * 8),  # these modes pad all axes but one or two
            {"pad": (1, 1, 1, 1), "value": 1.5},
        )
    ),
    *(
        case
        for mode in ("reflect", "replicate")
        for case in _shapes("pad", {"pad": (1, 1, 1, 1), "mode": mode}, *WRONG_RANKS, *EMPTY_IMAGES)
    ),
    *_calls("pad", IMAGE, {}, *_each("pad", (-8, 8), (3, -8)), {"pad": (1, 1), "value": "a"}),
    *_calls("pad", IMAGE, {"mode": "reflect"}, *_each("pad", (7, 0, 0, 0), (0, 0, 0, 9))),
    *_calls("pad", IMAGE, {"mode": "circular"}, *_each("pad", (8, 0, 0, 0))),
    *_calls("pad", IMAGE, {"pad": (1, 1, 1, 1)}, *_each("mode", "Reflect", "edge", "wrap", "")),
]

OTHER_REFUSED = [
    Case("linear", ((3, 7), (5, 6), (5,))),
    Case("linear", ((3, 7), (5, 7), (4,))),
    Case("linear", ((), (5, 7))),
    Case("linear", ((3, 7), (1, 5, 7))),
    Case("linear", ((3, 7), (6,))),
    *(
        case
        for op in ("softmax", "log_softmax")
        for case in (
            *_calls(op, (2, 3), {}, *_each("dim", 2, -3, 1.0, (1,), "0")),
            *_shapes(op, {"dim": 1}, ()),
        )
    ),
    *_calls("leaky_relu", (3,), {}, *_each("negative_slope", None, "a", (0.1,))),
    *_calls("hardtanh", (3,), {}, {"min_val": 2.0}, {"min_val": 1.0, "max_val": "a"}),
    *(Case("batch_norm", (*NORM[:i], (3,), *NORM[i + 1 :])) for i in range(1, len(NORM))),
    Case("batch_norm", ((4,), (4,), (4,))),
    Case("batch_norm", ((), (4,), (4,))),
    Case("batch_norm", (IMAGE, (1, 4), (1, 4))),
    *(Case("batch_norm", NORM, {"eps": eps}) for eps in (-1.0, None, "a")),
]

REFUSED = CONV_REFUSED + POOL_REFUSED + ADAPTIVE_REFUSED + BLOCK_REFUSED + PAD_REFUSED + OTHER_REFUSED


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused(case: Case) -> None:
    arrays = case.arrays(np.float32)
    with refused() as refusal:
        engine(case.op, *arrays, **case.attrs)
    assert case.op in str(refusal.value), "the error does not say which operator"


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_torch_refuses_it_too(case: Case) -> None:
    pytest.importorskip("torch")
    # Whatever it raises (RuntimeError, TypeError, ValueError, IndexError...) is a refusal.
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch_call(case.op, *case.arrays(np.float32), **case.attrs)


# PyTorch accepts these by accident; fastconv does not.
ACCIDENTS = [
    # Returns an output with 0 channels, although the weight asks for 6.
    _conv((2, 0, 7, 7), (6, 0, 3, 3)),
    # Looks at neither the dilation nor the size of the images where there is none.
    _conv((0, 4, 7, 7), (6, 4, 3, 3), dilation=0),
    _conv((0, 4, 0, 7), (6, 4, 3, 3), padding=2),
    # Wraps around more pixels than the crop has left: reads memory that nobody has written.
    Case("pad", (IMAGE,), {"pad": (6, -6, 0, 0), "mode": "circular"}),
    Case("pad", (IMAGE,), {"pad": (0, 0, -7, 3), "mode": "circular"}),
    # To 1x1, and to no other size: the mean of no pixels, and arrays of any rank.
    *_shapes("adaptive_avg_pool2d", {"output_size": 1}, (2, 4, 0, 7), (7, 7), (1, *IMAGE)),
]


@pytest.mark.parametrize("case", ACCIDENTS, ids=str)
def test_accidents_of_torch_are_refused(case: Case) -> None:
    with refused():
        engine(case.op, *case.arrays(np.float32), **case.attrs)


def test_statistics_are_needed_but_in_training() -> None:
    arrays = Case("batch_norm", NORM).arrays(np.float32)
    with refused(match="running_mean"):
        engine("batch_norm", arrays[0], None, None)


@pytest.mark.parametrize("algorithm", ["winograd-ish", "", None, 1, "AUTO"])
def test_unknown_algorithms_are_named_with_the_known_ones(algorithm: Any) -> None:
    with refused(match="im2col"):
        engine("conv2d", *_conv(*CONV).arrays(np.float32), algorithm=algorithm)


@pytest.mark.parametrize(
    ("case", "facts"),
    [
        (_conv((2, 5, 7, 7), (6, 4, 3, 3)), ["5", "4"]),
        (_conv(IMAGE, (6, 4, 3, 3), (8,)), ["6", "8"]),
        (_conv(IMAGE, (6, 4, 9, 8)), ["9", "8", "7"]),
        (_conv(*CONV, stride=-3), ["stride", "-3"]),
        (_conv(*CONV, padding="same", stride=2), ["same", "stride", "2"]),
        (Case("max_pool2d", (IMAGE,), {"kernel_size": 5, "padding": 3}), ["padding", "3", "5"]),
        (Case("linear", ((3, 19), (5, 23))), ["19", "23"]),
        (Case("fold", ((2, 35, 25),), {"output_size": 7, "kernel_size": 3}), ["35", "9"]),
        (Case("softmax", ((2, 3),), {"dim": 5}), ["dim", "5"]),
        (Case("pad", (IMAGE,), {"pad": (1, 2, 3)}), ["pad", "3"]),
    ],
    ids=str,
)
def test_errors_name_what_was_given_and_what_is_needed(case: Case, facts: list[str]) -> None:
    with refused() as refusal:
        engine(case.op, *case.arrays(np.float32), **case.attrs)
    message = str(refusal.value)
    assert [fact for fact in facts if fact not in message] == [], message


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [
        ("conv2d", CONV, {"padding": 2**31 - 1}),
        ("conv2d", CONV, {"padding": 2**62}),
        ("conv2d", CONV, {"dilation": 2**62}),
        ("unfold", (IMAGE,), {"kernel_size": 3, "padding": 2**31 - 1}),
        ("pad", (IMAGE,), {"pad": (2**40, 0)}),
        ("pad", (IMAGE,), {"pad": (2**62, 2**62)}),
        ("adaptive_avg_pool2d", (IMAGE,), {"output_size": 2**31 - 1}),
        ("max_pool2d", (IMAGE,), {"kernel_size": 2**31}),
    ],
)
def test_absurd_sizes_do_not_wrap_around(op: str, shapes: tuple[tuple[int, ...], ...], attrs: dict[str, Any]) -> None:
    import fastconv

    with pytest.raises((fastconv.FastconvError, MemoryError)):
        engine(op, *Case(op, shapes).arrays(np.float32), **attrs)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("conv2d(x, None, x[0, :, 0, 0])", "weight"),
        ("grid_sample(x, None)", "grid"),
        ("layer_norm(None, (5,), x[0, 0, 0])", "input"),
        ("linear(x, None)", "weight"),
        ("matmul(x, None)", "other"),
        ("bmm(x[0], None)", "mat2"),
        ("prelu(x, None)", "weight"),
        ("relu(None)", "input"),
        ("scaled_dot_product_attention(None, x, x)", "query"),
        ("scaled_dot_product_attention(x, None, x)", "key"),
        ("scaled_dot_product_attention(x, x, None, x)", "value"),
        ("stack([x, None])", "tensors"),
    ],
)
def test_what_must_be_given_is_named(call: str, name: str) -> None:
    """And what is given behind it is not taken in its place."""
    x = np.ones((1, 3, 5, 5), np.float32)
    with pytest.raises(ArgumentError, match=rf"^{call.partition('(')[0]}: {name} must be given, an array$"):
        eval(f"functional.{call}", {"functional": functional, "x": x})


def test_where_needs_a_condition() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(ArgumentError, match="where: condition must hold bools, got object"):
        functional.where(None, x, x)  # type: ignore[arg-type]
