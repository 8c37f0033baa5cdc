"""Normalisers: each takes an attribute's name and value and returns the one spelling used inside.

They accept what PyTorch accepts (an int or a pair, a list of one, NumPy integers), refuse what it
refuses (bools and floats where an int is meant, negative strides), and never look at a shape: what
depends on one is settled in ``shapes``. All raise :class:`~fastconv.errors.ArgumentError`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from reprlib import repr as short_repr
from typing import Any

from ..errors import ArgumentError

__all__ = ["MAX_INTEGER", "Normaliser", "shown"]

Normaliser = Callable[[str, Any], Any]

# The largest integer an attribute may hold: PyTorch's pooling has the same limit, and the product
# of any two fits the 64-bit arithmetic of the kernels.
MAX_INTEGER = 2**31 - 1
# divisor_override is only ever converted to a float; PyTorch takes any 64-bit integer.
MAX_DIVISOR = 2**63


def shown(value: Any) -> str:
    """Return a representation short enough for a message, whatever a file holds."""
    try:
        return short_repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return f"a huge {type(value).__name__}"


def integer(name: str, value: Any) -> int:
    """Return `value` as a Python int; bools and floats are refused, as in PyTorch."""
    if type(value) is not int:
        try:
            if isinstance(value, bool):
                raise TypeError
            value = index(value)
        except TypeError:
            raise ArgumentError(f"{name} must be an int, got {shown(value)} ({type(value).__name__})") from None
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ArgumentError(f"{name} must lie within +-{MAX_INTEGER}, got {shown(value)}")
    return int(value)


def integers(name: str, value: Any) -> tuple[int, ...]:
    """Return a list or tuple of ints as a tuple."""
    if not isinstance(value, (tuple, list)):
        raise ArgumentError(f"{name} must be a tuple of ints, got {shown(value)}")
    return tuple([integer(name, item) for item in value])


def positive(name: str, value: Any) -> int:
    """Return an int of at least 1."""
    value = integer(name, value)
    if value < 1:
        raise ArgumentError(f"{name} must be at least 1, got {value}")
    return int(value)


def boolean(name: str, value: Any) -> bool:
    """Return a bool; an int is refused, as in PyTorch."""
    if type(value) is not bool:
        raise ArgumentError(f"{name} must be True or False, got {shown(value)}")
    return value


def number(name: str, value: Any) -> float:
    """Return a real number as a float; infinities and NaN are numbers."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, (str, bytes, bytearray)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name} must be a number, got {shown(value)}") from None


def non_negative(name: str, value: Any) -> float:
    """Return a number that is not below zero; NaN passes, as in PyTorch."""
    value = number(name, value)
    if value < 0:
        raise ArgumentError(f"{name} must not be negative, got {value}")
    return float(value)


def divisor(name: str, value: Any) -> int | None:
    """Return an int other than zero, or None."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and -MAX_DIVISOR <= value < MAX_DIVISOR:
        result = int(value)
    else:
        result = integer(name, value)
    if result == 0:
        raise ArgumentError(f"{name} must not be zero; pass None to divide by the window's size")
    return result


def pair(minimum: int) -> Normaliser:
    """Make a normaliser of an int, a list of one or a list of two to a pair >= `minimum`."""

    def normalise(name: str, value: Any) -> tuple[int, int]:
        if isinstance(value, (tuple, list)):
            if len(value) not in (1, 2):
                raise ArgumentError(f"{name} must be an int or a pair of ints, got {shown(value)}")
            first, second = integer(name, value[0]), integer(name, value[-1])
        else:
            first = second = integer(name, value)
        if first < minimum or second < minimum:
            raise ArgumentError(f"{name} must be at least {minimum}, got {shown(value)}")
        return first, second

    return normalise


def pool_stride(name: str, value: Any) -> tuple[int, int] | None:
    """Return a pair, or None (also for an empty list) where the stride is the kernel's size."""
    if value is None or (isinstance(value, (tuple, list)) and not value):
        return None
    result: tuple[int, int] = _stride(name, value)
    return result


_stride = pair(1)


def conv_padding(name: str, value: Any) -> tuple[int, int, int, int] | str:
    """Return ``(top, bottom, left, right)``, or 'same', which only the kernel's size settles."""
    if isinstance(value, str):
        if value == "valid":
            return (0, 0, 0, 0)
        if value != "same":
            raise ArgumentError(f"{name} must be 'same', 'valid' or ints, got {shown(value)}")
        return value
    if isinstance(value, (tuple, list)) and len(value) == 4:
        top, bottom, left, right = (integer(name, item) for item in value)
        if min(top, bottom, left, right) < 0:
            raise ArgumentError(f"{name} must not be negative, got {shown(value)}")
        return top, bottom, left, right
    vertical, horizontal = _padding(name, value)
    return vertical, vertical, horizontal, horizontal


_padding = pair(0)


def output_size(name: str, value: Any) -> tuple[int | None, int | None]:
    """Return a pair whose entries may be None (keep the input's size) for adaptive pooling."""
    items = value if isinstance(value, (tuple, list)) else (value, value)
    if value is None or len(items) != 2:
        raise ArgumentError(f"{name} must be an int or a pair (each may be None), got {shown(value)}")
    height, width = (None if item is None else integer(name, item) for item in items)
    if (height is not None and height < 0) or (width is not None and width < 0):
        raise ArgumentError(f"{name} must not be negative, got {shown(value)}")
    return height, width


PAD_MODES = ("constant", "reflect", "replicate", "circular")


def pad_mode(name: str, value: Any) -> str:
    """Return one of `PAD_MODES`."""
    if value not in PAD_MODES:
        raise ArgumentError(f"{name} must be one of {', '.join(PAD_MODES)}, got {shown(value)}")
    return str(value)


def pad_widths(name: str, value: Any) -> tuple[int, ...]:
    """Return PyTorch's flat tuple of pairs, the last axis first; negative entries crop."""
    result = integers(name, value)
    if len(result) % 2:
        raise ArgumentError(f"{name} must hold pairs (before, after), got {len(result)} numbers")
    return result


def pad_value(name: str, value: Any) -> float:
    """Return the fill value; None means 0."""
    return 0.0 if value is None else number(name, value)


def probability(name: str, value: Any) -> float:
    """Return a number in 0..1."""
    value = number(name, value)
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name} must lie in 0..1, got {value}")
    return float(value)


# The activations that a producer can apply in its epilogue, with the number of parameters of each.
ACTIVATIONS = {"relu": 0, "leaky_relu": 1, "hardtanh": 2, "sigmoid": 0, "tanh": 0}


def activation(name: str, value: Any) -> tuple[Any, ...] | None:
    """Return a fused activation ``(op, *parameters)`` or None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or not value or value[0] not in tuple(ACTIVATIONS):
        raise ArgumentError(
            f"{name} must be None or (op, *parameters) with op one of {', '.join(ACTIVATIONS)}, got {shown(value)}"
        )
    if len(value) != 1 + ACTIVATIONS[value[0]]:
        raise ArgumentError(f"{name} {value[0]} takes {ACTIVATIONS[value[0]]} parameters, got {len(value) - 1}")
    result = (value[0], *[number(name, item) for item in value[1:]])
    if result[0] == "hardtanh":
        check_limits(result[1], result[2])
    return result


def check_limits(min_val: float, max_val: float) -> None:
    """Refuse an empty interval of hardtanh."""
    if min_val > max_val:
        raise ArgumentError(f"min_val must not be greater than max_val, got {min_val} and {max_val}")


def fused_pool(name: str, value: Any) -> tuple[str, int, int, int, int] | None:
    """Return a fused pooling ``('max'|'avg', kh, kw, sh, sw)`` without overlap, or None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 5 or value[0] not in ("max", "avg"):
        raise ArgumentError(f"{name} must be None or ('max'|'avg', kh, kw, sh, sw), got {shown(value)}")
    kh, kw, sh, sw = (positive(name, item) for item in value[1:])
    if kh > sh or kw > sw:
        raise ArgumentError(f"{name} windows must not overlap (kernel <= stride), got {shown(value)}")
    return value[0], kh, kw, sh, sw
