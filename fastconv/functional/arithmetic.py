"""Arithmetic, comparisons and logic of arrays that broadcast, on the caller's memory in any order of axes."""

from __future__ import annotations

from math import inf, prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import attributes as at
from ..machine.cpu import kernels
from .activation import clip, power, trunc
from .one_op import Array, compiled, floats, one_op, threads

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = [
    "add",
    "clamp",
    "div",
    "eq",
    "float_power",
    "fmod",
    "ge",
    "gt",
    "isnan",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "pow",
    "prelu",
    "remainder",
    "sub",
    "where",
]

_KINDS = kernels().ARITHMETIC
_broadcast = kernels().broadcast

_FIRST, _SECOND = 1, 2
"""Which of two operands may be a Python number, as the kernel counts them."""
_EITHER = _FIRST | _SECOND

# Function -> what the kernel is told: its kind, the operands that PyTorch takes as numbers, whether it returns bools.
_ROWS: dict[str, tuple[int, int, bool]] = {
    **{op: (_KINDS[op], _EITHER, False) for op in ("add", "sub", "mul", "div", "pow", "remainder")},
    **{op: (_KINDS[op], 0, False) for op in ("maximum", "minimum")},
    "clamp_min": (_KINDS["maximum"], _SECOND, False),
    "clamp_max": (_KINDS["minimum"], _SECOND, False),
    "fmod": (_KINDS["fmod"], _SECOND, False),
    **{op: (_KINDS[op], _SECOND, True) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{op: (_KINDS[op], 0, True) for op in ("logical_and", "logical_or", "logical_xor")},
}
_COPY = _KINDS["copy"]


def _apply(op: str, input: Any, other: Any, second: str = "other", function: str | None = None) -> Array:
    """Compute a row of the table; errors name `function`, by default the row, and its `second` argument."""
    kind, numbers, truths = _ROWS[op]
    y: Array = _broadcast(kind, numbers, truths, input, other, None, threads())
    if y is NotImplemented:  # lists, other byte orders, numbers that are no float
        given = _operands(function or op, {"input": input, second: other}, numbers)
        y = _broadcast(kind, numbers, truths, given["input"], given[second], None, threads())
        if y is NotImplemented:
            raise _apart(function or op, given)
    return y


def _operands(function: str, given: dict[str, Any], numbers: int) -> dict[str, Any]:
    """Return operands as arrays of one type, and as floats where they are numbers and may be."""
    found: dict[str, Any] = {}
    for bit, (name, value) in zip((_FIRST, _SECOND), given.items(), strict=True):
        if value is None:
            raise ArgumentError(f"{function}: {name} must be given, an array{' or a number' * bool(numbers & bit)}")
        if function == "sub":
            _check_subtracts(name, value)
        if numbers & bit and isinstance(value, (int, float)):
            found[name] = at.number(f"{function}: {name}", value)
    arrays = floats(function, **{name: value for name, value in given.items() if name not in found})
    if not arrays:
        raise ArgumentError(f"{function}: {' or '.join(given)} must be an array, both are numbers")
    return {name: found.get(name, arrays.get(name)) for name in given}


def _check_subtracts(name: str, value: Any) -> None:
    """Refuse what PyTorch does not subtract."""
    if isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) == np.bool_:
        raise ArgumentError(
            f"sub: {name} is a bool, {at.shown(value)}; bools are not subtracted: use logical_not to invert a mask, or "
            "give a number"
        )


def _apart(function: str, given: dict[str, Any]) -> ShapeError:
    """Return the error of arrays that do not broadcast."""
    shapes = [f"{name} {array.shape}" for name, array in given.items() if isinstance(array, np.ndarray)]
    return ShapeError(
        f"{function}: {' and '.join(shapes)} do not broadcast: counted from the last axis, sizes must be equal, or "
        "1 in one of them"
    )


def _scaled(op: str, input: Any, other: Any, alpha: float) -> Array:
    """Add or subtract `alpha` times other."""
    if alpha != 1 or type(alpha) is bool:
        if isinstance(alpha, bool):
            raise ArgumentError(f"{op}: alpha must be a number, got {alpha}")
        if op == "sub":
            _check_subtracts("other", other)
        alpha = at.number(f"{op}: alpha", alpha)
        numbers = isinstance(other, (int, float))
        other = at.number(f"{op}: other", other) * alpha if numbers else _apply("mul", other, alpha, function=op)
    return _apply(op, input, other)


def add(input: npt.ArrayLike, other: npt.ArrayLike, *, alpha: float = 1) -> Array:
    """Return ``input + alpha * other``.

    Parameters
    ----------
    input, other : any shapes that broadcast
        Here and in the functions below, where PyTorch takes a number in place of one of them, a Python number may be.
    alpha : float

    Returns
    -------
    What the shapes broadcast to.
    """
    return _apply("add", input, other) if type(alpha) is int and alpha == 1 else _scaled("add", input, other, alpha)


def sub(input: npt.ArrayLike, other: npt.ArrayLike, *, alpha: float = 1) -> Array:
    """Return ``input - alpha * other``; as `add`."""
    return _apply("sub", input, other) if type(alpha) is int and alpha == 1 else _scaled("sub", input, other, alpha)


def mul(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return ``input * other``; as `add`."""
    return _apply("mul", input, other)


def div(input: npt.ArrayLike, other: npt.ArrayLike, *, rounding_mode: Literal["trunc", "floor"] | None = None) -> Array:
    """Return ``input / other``; as `add`.

    Parameters
    ----------
    input, other : any shapes that broadcast
    rounding_mode : {None, 'trunc', 'floor'}
        Round the quotient to a whole number, towards zero or down: ``'floor'`` is Python's ``//``.
    """
    if rounding_mode is None:
        return _apply("div", input, other)
    if rounding_mode == "trunc":
        return trunc(_apply("div", input, other))
    if rounding_mode != "floor":
        raise ArgumentError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {at.shown(rounding_mode)}")
    given = _operands("div", {"input": input, "other": other}, _EITHER)
    try:
        with np.errstate(all="ignore"):
            result: Array = np.floor_divide(*given.values())
    except ValueError:
        raise _apart("div", given) from None
    return np.asarray(result)


def maximum(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return the larger of each two elements; NaN wins. As `add`, of arrays alone."""
    return _apply("maximum", input, other)


def minimum(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return the smaller of each two elements; NaN wins. As `add`, of arrays alone."""
    return _apply("minimum", input, other)


def pow(input: npt.ArrayLike, exponent: npt.ArrayLike) -> Array:
    """Return ``input ** exponent``; NaN where ``input`` is negative, unless ``exponent`` is whole. As `add`."""
    if isinstance(exponent, np.ndarray) or not isinstance(exponent, (int, float)) or isinstance(input, (int, float)):
        return _apply("pow", input, exponent, "exponent")
    return power(input, float(at.number("pow: exponent", exponent)))


def float_power(input: npt.ArrayLike, exponent: npt.ArrayLike) -> Array:
    """Return `pow` computed in float64, and of that type, whatever the operands are."""
    given = _operands("float_power", {"input": input, "exponent": exponent}, _EITHER)
    doubles = [np.asarray(value, np.float64) if isinstance(value, np.ndarray) else value for value in given.values()]
    return pow(*doubles)


def fmod(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return what ``input`` leaves when it is divided by ``other``, with the sign of ``input``; as `add`."""
    return _apply("fmod", input, other)


def remainder(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return what ``input`` leaves when it is divided by ``other``, with the sign of ``other``; as `add`."""
    return _apply("remainder", input, other)


def eq(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where ``input == other``, as bools; as `add`."""
    return _apply("eq", input, other)


def ne(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where ``input != other``, as bools; as `add`."""
    return _apply("ne", input, other)


def lt(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where ``input < other``, as bools; as `add`."""
    return _apply("lt", input, other)


def le(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where ``input <= other``, as bools; as `add`."""
    return _apply("le", input, other)


def gt(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where ``input > other``, as bools; as `add`."""
    return _apply("gt", input, other)


def ge(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where ``input >= other``, as bools; as `add`."""
    return _apply("ge", input, other)


def _logical(op: str, of_bools: Callable[..., Any], input: Any, other: Any) -> Array:
    """Combine truths: of numbers, which are true unless they are 0, or of two arrays of bools."""
    if getattr(input, "dtype", None) == np.bool_ and getattr(other, "dtype", None) == np.bool_:
        try:
            return np.asarray(of_bools(input, other))
        except ValueError:
            raise _apart(op, {"input": np.asarray(input), "other": np.asarray(other)}) from None
    return _apply(op, input, other)


def logical_and(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where both are true, as bools. As `add`, of arrays alone, which may both hold bools."""
    return _logical("logical_and", np.logical_and, input, other)


def logical_or(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where one is true, or both, as bools; as `logical_and`."""
    return _logical("logical_or", np.logical_or, input, other)


def logical_xor(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return where one is true and the other is not, as bools; as `logical_and`."""
    return _logical("logical_xor", np.logical_xor, input, other)


def logical_not(input: npt.ArrayLike) -> Array:
    """Return where ``input``, which may hold bools, is false or 0, as bools."""
    if getattr(input, "dtype", None) == np.bool_:
        return np.asarray(np.logical_not(input))
    return _apply("eq", input, 0.0, function="logical_not")


def isnan(input: npt.ArrayLike) -> Array:
    """Return where ``input`` is NaN, as bools."""
    return _apply("ne", input, input, function="isnan")


def where(condition: npt.ArrayLike, input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return ``input`` where ``condition`` is true, and ``other`` where it is not.

    Parameters
    ----------
    condition : bools
    input, other : arrays, one of them may be a number
        All three broadcast.

    Returns
    -------
    What the shapes broadcast to.
    """
    y: Array = NotImplemented
    if condition is not None:
        y = _broadcast(_COPY, _EITHER, False, input, other, condition, threads())
    if y is NotImplemented:
        truths = np.asarray(condition)
        if truths.dtype != np.bool_:
            raise ArgumentError(
                f"where: condition must hold bools, got {truths.dtype}; compare, e.g. with ne(condition, 0)"
            )
        given = _operands("where", {"input": input, "other": other}, _EITHER)
        y = _broadcast(_COPY, _EITHER, False, given["input"], given["other"], truths, threads())
        if y is NotImplemented:
            raise _apart("where", {"condition": truths, **given})
    return y


def clamp(input: npt.ArrayLike, min: npt.ArrayLike | None = None, max: npt.ArrayLike | None = None) -> Array:
    """Return ``input`` between two bounds: not below ``min``, and then not above ``max``.

    Parameters
    ----------
    input : any shape
    min, max : numbers, or arrays that broadcast with the input; one of them may be missing
        NaN in a bound is the result there.

    Returns
    -------
    What the shapes broadcast to.
    """
    if type(min) is float and type(max) is float and min <= max:
        return clip(input, min, max)
    bounds = {name: value for name, value in (("min", min), ("max", max)) if value is not None}
    if not bounds:
        raise ArgumentError("clamp: min or max must be given")
    numbers = [isinstance(value, (int, float)) for value in bounds.values()]
    if any(numbers) != all(numbers):
        raise ArgumentError("clamp: min and max must both be numbers, or both be arrays")
    if all(numbers):
        low, high = at.number("clamp: min", bounds.get("min", -inf)), at.number("clamp: max", bounds.get("max", inf))
        if low <= high:  # neither is NaN: in one pass
            return clip(input, low, high)
    y = input
    for name, bound in bounds.items():
        y = _apply(f"clamp_{name}", y, bound, name, "clamp")
    return np.asarray(y)


_prelu = one_op("prelu", compiled("prelu", (), ("weight",)), ("input", "weight"))


def prelu(input: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """Return ``input``, and ``input * weight`` where it is not positive.

    Parameters
    ----------
    input : (N, C, ...), or any shape where ``weight`` has one element
    weight : (C,), (1,) or ()

    Returns
    -------
    The input's shape.
    """
    arrays = floats("prelu", input=input, weight=weight)
    x, w = arrays["input"], arrays["weight"]
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.ndim > 1 or w.size not in (1, channels):
        raise ShapeError(
            f"prelu: weight must have one element, or one for each of {channels} channels of the input {x.shape}, "
            f"got shape {w.shape}"
        )
    if not x.size:
        return np.empty_like(x)
    images = (len(x), channels, prod(x.shape[2:]), 1) if x.ndim > 1 else (1, 1, x.size, 1)
    y: Array = _prelu.run((x.reshape(images), w.reshape(-1)), ()).reshape(x.shape)
    return y
