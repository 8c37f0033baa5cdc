"""Arithmetic of values, and with constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....errors import ArgumentError, UnsupportedOperatorError
from ..values import Value
from .shape import of_rank
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS", "add", "affine", "mul"]

FUNCTIONS = Functions()


@FUNCTIONS("add.Tensor")
def add(reader: Reader, x: Any, other: Any, *, alpha: float = 1) -> Value:
    if not isinstance(x, Value) and isinstance(other, Value):
        return _scaled(reader, other, alpha, x)
    if not isinstance(other, Value):
        return _with_constant(reader, "add", x, alpha * other, shift=alpha * other)
    return _two(reader, "add", x, other if alpha == 1 else affine(reader, other, alpha))


@FUNCTIONS("sub.Tensor")
def _sub(reader: Reader, x: Any, other: Any, *, alpha: float = 1) -> Value:
    if not isinstance(x, Value):
        return _scaled(reader, other, -alpha, x)
    if not isinstance(other, Value):
        return _with_constant(reader, "sub", x, alpha * other, shift=-alpha * other)
    return _two(reader, "sub", x, other if alpha == 1 else affine(reader, other, alpha))


def _scaled(reader: Reader, x: Value, scale: float, constant: Any) -> Value:
    """``scale * x + constant``, whatever the constant broadcasts to."""
    return _with_constant(reader, "add", x if scale == 1 else affine(reader, x, scale), constant, shift=constant)


@FUNCTIONS("rsub.Scalar", "rsub.Tensor")
def _rsub(reader: Reader, x: Any, other: Any, alpha: float = 1) -> Value:
    return _sub(reader, other, x, alpha=alpha)


@FUNCTIONS("mul.Tensor")
def mul(reader: Reader, x: Any, other: Any) -> Value:
    if isinstance(x, Value) and isinstance(other, Value):
        return _two(reader, "mul", x, other)
    x, other = (x, other) if isinstance(x, Value) else (other, x)
    return _with_constant(reader, "mul", x, other, scale=other)


@FUNCTIONS("div.Tensor")
def _div(reader: Reader, x: Any, other: Any) -> Value:
    if not isinstance(x, Value):
        return mul(reader, reader.along("reciprocal", other), x)
    if isinstance(other, Value):
        return _two(reader, "div", x, other)
    if isinstance(other, (int, float)) and other:
        return affine(reader, x, 1 / other)
    return _with_constant(reader, "div", x, other)


@FUNCTIONS("addcmul.default")
def _addcmul(reader: Reader, x: Any, first: Any, second: Any, *, value: float = 1) -> Value:
    known = not isinstance(first, Value) and not isinstance(second, Value)
    return add(reader, x, first * second if known else mul(reader, first, second), alpha=value)


@FUNCTIONS("addcdiv.default")
def _addcdiv(reader: Reader, x: Any, first: Any, second: Any, *, value: float = 1) -> Value:
    known = not isinstance(first, Value) and not isinstance(second, Value)
    return add(reader, x, first / second if known else _div(reader, first, second), alpha=value)


@FUNCTIONS("maximum.default", "max.other")
def _maximum(reader: Reader, x: Any, other: Any) -> Value:
    return _two(reader, "maximum", x, other)


@FUNCTIONS("minimum.default", "min.other")
def _minimum(reader: Reader, x: Any, other: Any) -> Value:
    return _two(reader, "minimum", x, other)


@FUNCTIONS("clamp.Tensor", "clip.Tensor")
def _clamp(reader: Reader, x: Any, min: Any = None, max: Any = None) -> Value:
    x = x if min is None else _two(reader, "maximum", x, min)
    return x if max is None else _two(reader, "minimum", x, max)


FUNCTIONS("clamp_min.Tensor")(_maximum)
FUNCTIONS("clamp_max.Tensor")(_minimum)


def _two(reader: Reader, op: str, x: Any, other: Any) -> Value:
    """Two values, or one and a constant where the order does not matter, that broadcast."""
    if isinstance(x, Value) and isinstance(other, Value):
        return reader.along(op, *reader.alike(x, other))
    x, other = (x, other) if isinstance(x, Value) else (other, x)
    return _with_constant(reader, op, x, other)


def _with_constant(reader: Reader, op: str, x: Value, constant: Any, **scaled: Any) -> Value:
    """A value and a constant: by channel where that is what it is, else as it broadcasts."""
    import torch

    if scaled:
        try:
            return affine(reader, x, **scaled)
        except UnsupportedOperatorError:
            pass
    other = torch.as_tensor(constant, device="cpu")
    other = other if other.is_floating_point() else other.to(torch.float32)
    x = of_rank(reader, x, other.dim())
    return reader.along(op, x, weights={"other": reader.constant(x, other)})


@FUNCTIONS("neg.default")
def _neg(reader: Reader, x: Value) -> Value:
    return affine(reader, x, -1)


def affine(reader: Reader, x: Value, scale: Any = 1, shift: Any = 0) -> Value:
    """``x * scale + shift`` for numbers, or for one per channel."""
    import torch

    x = reader.checked(x)
    tensors = (torch.as_tensor(value, dtype=torch.float64, device="cpu") for value in (scale, shift))
    arrays = (reader.constant(x, tensor).numpy() for tensor in tensors)
    try:
        return reader.value(reader.builder.affine(x.name, *arrays), x.axes)
    except ArgumentError:
        raise reader.unsupported("is supported with a number, or with one for each channel") from None
