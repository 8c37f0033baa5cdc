"""Arithmetic: a gradient is summed over the axes along which its operand was broadcast."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import functional as F
from .rule import Array, Backward, Rule, each, summed_to

__all__ = ["RULES"]

Gradient = Callable[..., Array]


def _elementwise(function: str, first: Gradient, second: Gradient, name: str = "other") -> Rule:
    """Return the rule of a function of two operands, whose gradients are ``gradient(g, x, z, y, **attributes)``."""
    call = getattr(F, function)

    def rule(**arguments: Any) -> tuple[Array, Backward]:
        y: Array = call(**arguments)
        x, z = arguments.pop("input"), arguments.pop(name)
        # the type that numbers and lists are taken in
        operands = [value if isinstance(value, (int, float)) else np.asarray(value) for value in (x, z)]

        def of(operand: int, gradient: Gradient) -> Callable[[Array], Array]:
            def found(g: Array) -> Array:
                with np.errstate(all="ignore"):
                    full = np.asarray(gradient(g, *operands, y, **arguments))
                like = np.asarray(operands[operand])
                return summed_to(like.shape, np.broadcast_to(full, g.shape)).astype(like.dtype, copy=False)

            return found

        return y, each(input=of(0, first), **{name: of(1, second)})

    return rule


def _of_quotient(gradient: Gradient) -> Gradient:
    """Return a gradient by an operand of `div`: 0 where the quotient is rounded."""

    def found(g: Array, x: Any, z: Any, y: Array, rounding_mode: str | None) -> Array:
        return gradient(g, x, z, y) if rounding_mode is None else np.zeros_like(g)

    return found


def _base(g: Array, x: Any, z: Any, y: Array) -> Any:
    """Return the gradient of x ** z by x: 0 where z is, whatever x."""
    z = np.asarray(z, g.dtype)
    x = np.asarray(x, g.dtype)
    return np.where(z == 0, g.dtype.type(0), g * (z * np.power(x, z - g.dtype.type(1))))


def _exponent(g: Array, x: Any, z: Any, y: Array) -> Any:
    """Return the gradient of x ** z by z: 0 where x is, and z is not negative."""
    x, z = np.asarray(x, g.dtype), np.asarray(z, g.dtype)
    return np.where((x == 0) & (z >= 0), g.dtype.type(0), g * (y * np.log(x)))


def _chosen(lost: Callable[..., Array]) -> Gradient:
    """Return the gradient by an operand unless it has lost, half of it where both are equal; beside NaN none has."""

    def found(g: Array, x: Array, z: Array, y: Array) -> Array:
        return np.where(x == z, g * g.dtype.type(0.5), np.where(lost(x, z), g.dtype.type(0), g))

    return found


def _where(condition: Any, input: Any, other: Any) -> tuple[Array, Backward]:
    y = F.where(condition, input, other)
    truths = np.asarray(condition)

    def taken(operand: Any, truth: bool) -> Callable[[Array], Array]:
        def gradient(g: Array) -> Array:
            part = np.where(truths, g, g.dtype.type(0)) if truth else np.where(truths, g.dtype.type(0), g)
            return summed_to(np.shape(operand), part)

        return gradient

    return y, each(input=taken(input, True), other=taken(other, False))


def _clamp(input: Any, min: Any, max: Any) -> tuple[Array, Backward]:
    y = F.clamp(input, min, max)
    x = np.asarray(input)
    low = None if min is None else np.asarray(min, x.dtype)
    high = None if max is None else np.asarray(max, x.dtype)
    below = np.False_ if low is None else x < low
    above = np.False_ if high is None else x > high
    if low is not None and high is not None:  # where they cross it is the upper one
        above = above | (low > high)
        below = below & ~(low > high)
    inside, zero = ~(below | above | np.isnan(x)), x.dtype.type(0)

    def taken(operand: Array, there: Any) -> Callable[[Array], Array]:
        return lambda g: summed_to(operand.shape, np.where(np.broadcast_to(there, g.shape), g, zero))

    found = {"input": taken(x, inside)}
    found |= {"min": taken(low, below)} if low is not None else {}
    found |= {"max": taken(high, above)} if high is not None else {}
    return y, each(**found)


def _prelu(input: Any, weight: Any) -> tuple[Array, Backward]:
    y = F.prelu(input, weight)
    x, w = np.asarray(input), np.asarray(weight)
    per_channel = w.reshape(-1, *(1,) * max(x.ndim - 2, 0)) if w.size > 1 else w.reshape(())

    def of_weight(g: Array) -> Any:
        part = np.where(x > 0, g.dtype.type(0), g * x)
        if w.size == 1:
            return part.sum().reshape(w.shape)
        planes = part.reshape(len(x), w.size, prod(x.shape[2:]))
        return np.asarray(planes.sum((0, 2))).reshape(w.shape)

    return y, each(input=lambda g: np.where(x > 0, g, g * per_channel), weight=of_weight)


def _copied(g: Array, *unused: Any, **attributes: Any) -> Array:
    return g


RULES: dict[str, Rule] = {
    "add": _elementwise("add", _copied, lambda g, x, z, y, alpha: g * g.dtype.type(alpha)),
    "sub": _elementwise("sub", _copied, lambda g, x, z, y, alpha: g * g.dtype.type(-alpha)),
    "mul": _elementwise("mul", lambda g, x, z, y: F.mul(g, z), lambda g, x, z, y: F.mul(g, x)),
    "div": _elementwise(
        "div",
        _of_quotient(lambda g, x, z, y: F.div(g, z)),
        _of_quotient(lambda g, x, z, y: F.mul(F.div(F.mul(g, y), z), -1.0)),
    ),
    "pow": _elementwise("pow", _base, _exponent, "exponent"),
    "float_power": _elementwise("float_power", _base, _exponent, "exponent"),
    "maximum": _elementwise("maximum", _chosen(np.less), _chosen(np.greater)),
    "minimum": _elementwise("minimum", _chosen(np.greater), _chosen(np.less)),
    "fmod": _elementwise("fmod", _copied, lambda g, x, z, y: g * -np.trunc(x / z)),
    # not the floor of x / z, which rounds up to a quotient that the remainder did not have: 1 / 0.1 is 10, and 9 there
    "remainder": _elementwise("remainder", _copied, lambda g, x, z, y: g * -np.floor_divide(x, z)),
    "where": _where,
    "clamp": _clamp,
    "prelu": _prelu,
}
