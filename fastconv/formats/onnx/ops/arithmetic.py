"""Arithmetic of two values, and of one with a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError, ShapeError
from ....graph.ops import OPS
from ...axes import arranged
from ..values import Value
from .table import Functions

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..reader import Reader

__all__ = ["FUNCTIONS", "affine", "number", "of_rank", "of_two"]

FUNCTIONS = Functions()


def affine(reader: Reader, x: Value, scale: npt.ArrayLike = 1.0, shift: npt.ArrayLike = 0.0) -> Value:
    """``x * scale + shift``; both broadcast with what ONNX sees."""
    arrays = [np.asarray(value, np.float64) for value in (scale, shift)]
    for array in arrays:
        reader.check_range(array)
    x = of_rank(reader, x, max(array.ndim for array in arrays))
    constants = [reader.constant(x, array) for array in arrays]
    sizes = reader.builder.shape(x.name)
    reader.charge(4 * (sizes[0] if sizes else 0))
    try:
        return reader.like(x, reader.builder.affine(x.name, *constants))
    except ArgumentError:  # it is for another axis than the channels
        for op, constant, none in (("mul", constants[0], 1.0), ("add", constants[1], 0.0)):
            if constant.size != 1 or constant.item() != none:
                x = _with_constant(reader, op, x, constant)
        return x


def _with_constant(reader: Reader, op: str, x: Value, constant: np.ndarray) -> Value:
    """A value and a constant of the Graph's axes, which broadcast."""
    reader.charge(constant.size)
    return reader.along(op, x, weights={"other": reader.weight(constant)})


def of_rank(reader: Reader, x: Value, rank: int) -> Value:
    """Return a value with so many axes at least: new ones of size 1 in front."""
    new = (1,) * (rank - len(x.axes))
    return reader.reshape(x, [(*new, *reader.shape(x, batch)) for batch in reader.batches]) if new else x


def _both(reader: Reader, op: str, x: Value, y: Value) -> Value:
    """Two values: their axes stay where they are if they lie alike."""
    x, y = reader.alike(x, y)
    try:
        OPS[op].infer([reader.builder.shape(value.name) for value in (x, y)], {}, {})
    except ShapeError:
        raise reader.unsupported("of two tensors that do not broadcast") from None
    return reader.along(op, x, y)


@FUNCTIONS("Add", mixed=True)
def _add(reader: Reader, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        return _both(reader, "add", x, y)
    return _shifted(reader, x, y) if isinstance(x, Value) else _shifted(reader, y, x)


def _shifted(reader: Reader, x: Value, shift: np.ndarray) -> Value:
    """``x + shift``; of a product with a matrix it is the bias."""
    product, sizes = reader.made(x), reader.builder.shape(x.name)
    if product is None or product.op != "linear" or "bias" in product.weights or x.axes != arranged(x.axes):
        return affine(reader, x, shift=shift)
    if shift.ndim > len(x.axes) or shift.shape not in ((1,) * (shift.ndim - 1) + sizes[-1:], (1,) * shift.ndim):
        return affine(reader, x, shift=shift)
    bias = np.broadcast_to(reader.weight(shift).reshape(-1), sizes[-1:])
    weights = {"weight": product.weights["weight"], "bias": bias}
    return reader.along("linear", Value(product.inputs[0], x.axes), weights=weights)


@FUNCTIONS("Sum", mixed=True)
def _sum(reader: Reader, first: Any, *others: Any) -> Any:
    terms = sorted((first, *others), key=lambda x: not isinstance(x, Value))
    total = terms[0]
    for term in terms[1:]:
        total = _add(reader, total, term)
    return total


@FUNCTIONS("Sub", mixed=True)
def _sub(reader: Reader, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        return _both(reader, "sub", x, y)
    if isinstance(x, Value):
        return affine(reader, x, shift=-np.asarray(y, np.float64))
    return affine(reader, y, scale=-1.0, shift=x)


@FUNCTIONS("Mul", mixed=True)
def _mul(reader: Reader, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        for value, other in ((x, y), (y, x)):
            if _is_sigmoid(reader, other, value):
                return reader.along("silu", value)
        return _both(reader, "mul", x, y)
    return affine(reader, x, y) if isinstance(x, Value) else affine(reader, y, x)


def _is_sigmoid(reader: Reader, y: Value, x: Value) -> bool:
    """Whether `y` is the sigmoid of `x`; their product is then a SiLU."""
    node = reader.made(y)
    return x.axes == y.axes and node is not None and node.op == "sigmoid" and node.inputs == (x.name,)


@FUNCTIONS("Div", mixed=True)
def _div(reader: Reader, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        return _both(reader, "div", x, y)
    if not isinstance(x, Value):
        return affine(reader, reader.along("reciprocal", y), x)
    with np.errstate(all="ignore"):
        factor = 1 / np.asarray(y, np.float64)
        if not np.array_equal(np.isinf(factor), np.isinf(factor.astype(reader.dtype))):
            return of_two(reader, "div", x, y)
    return affine(reader, x, factor)


@FUNCTIONS("Neg")
def _neg(reader: Reader, x: Value) -> Value:
    return affine(reader, x, -1.0)


def _bound(name: str) -> None:
    @FUNCTIONS(name, mixed=True)
    def limit(reader: Reader, *inputs: Any) -> Value:
        """The greatest or the smallest of values and constants; numbers are the limits of a clamp."""
        first, *others = sorted(inputs, key=lambda x: not isinstance(x, Value))
        op = "maximum" if name == "Max" else "minimum"
        for other in others:
            if isinstance(other, Value):
                first = _both(reader, op, first, other)
            elif other.size == 1 and other.ndim <= len(first.axes) and not np.isnan(other).any():
                bound = reader.number("a limit", other)
                limits = (bound, None) if name == "Max" else (None, bound)
                first = reader.like(first, reader.builder.clamp(first.name, *limits))
            else:
                first = of_rank(reader, first, other.ndim)
                first = _with_constant(reader, op, first, reader.constant(first, reader.weight(other)))
        result: Value = first
        return result


@FUNCTIONS("Pow", mixed=True)
def _pow(reader: Reader, x: Any, exponent: Any) -> Value:
    if not isinstance(x, Value) or isinstance(exponent, Value) or exponent.size != 1 or exponent.ndim > len(x.axes):
        return of_two(reader, "float_power", x, exponent)
    power = reader.number("the exponent", exponent)
    names = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    if power in names:
        return reader.along(names[power], x)
    return reader.along("pow", x, exponent=power) if power != 1.0 else x


def of_two(reader: Reader, op: str, x: Any, y: Any) -> Value:
    """Two values or a value and a constant, in this order; a constant on the left becomes a value."""
    if isinstance(x, Value) and isinstance(y, Value):
        return _both(reader, op, x, y)
    value, constant = (x, number(reader, y)) if isinstance(x, Value) else (y, number(reader, x))
    value = of_rank(reader, value, constant.ndim)
    own = np.asarray(reader.constant(value, constant))
    if isinstance(x, Value):
        return _with_constant(reader, op, value, own)
    rank = len(reader.builder.shape(value.name))
    reader.charge(own.size)
    weights = {"value": reader.weight(own.reshape((1,) * (rank - own.ndim) + own.shape))}
    return reader.along(op, reader.along("constant", value, weights=weights), value)


def number(reader: Reader, array: Any) -> np.ndarray:
    """A constant of any type as one of the Graph's."""
    if not isinstance(array, np.ndarray):
        raise reader.unsupported("with a number that depends on the size of the batch")
    return array if array.dtype.kind == "f" else np.asarray(array, reader.dtype)


@FUNCTIONS("Mod", mixed=True)
def _mod(reader: Reader, x: Any, y: Any, *, fmod: int) -> Value:
    if not fmod:
        raise reader.unsupported("with fmod=0, of integers")
    return of_two(reader, "fmod", x, y)


@FUNCTIONS("PRelu")
def _prelu(reader: Reader, x: Value, slope: Any) -> Value:
    """Slopes that differ along the channels are a PReLU's; others are chosen where x is negative."""
    if not isinstance(slope, np.ndarray):
        raise reader.unsupported("with slopes that are computed from the input")
    x = of_rank(reader, x, slope.ndim)
    slopes, sizes = reader.constant(x, slope), reader.builder.shape(x.name)
    if slopes.size == 1 or (slopes.ndim == len(sizes) and slopes.size == slopes.shape[0]):
        reader.charge(slopes.size)
        return reader.along("prelu", x, weights={"weight": reader.weight(slopes.reshape(-1))})
    scaled = _with_constant(reader, "mul", x, np.asarray(slopes))
    return reader.along("where", reader.along("gt", x, weights={"other": np.zeros((), reader.dtype)}), x, scaled)


_bound("Max")
_bound("Min")
