"""Normalisers: each takes an attribute's name and value and returns the one spelling used inside.

These are shared by the families of operators, which have their own beside them (``ops``). They
accept what PyTorch accepts (an int or a pair, a list of one, NumPy integers), refuse what it
refuses (bools and floats where an int is meant, negative strides), and never look at a shape: what
depends on one is settled when it is inferred. All raise :class:`~fastconv.errors.ArgumentError`.
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
