"""Activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....graph.ops.activation import ACTIVATIONS
from .table import Functions, elementwise

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

for _row in ACTIVATIONS.values():
    FUNCTIONS(*_row.aten, integers=_row.name in ("isnan", "logical_not"))(
        elementwise(_row.name, tuple(name for name, *_ in _row.parameters))
    )


@FUNCTIONS("square.default")
def _square(reader: Reader, x: Value) -> Value:
    return reader.along("pow", x, attrs={"exponent": 2.0})


@FUNCTIONS("bitwise_not.default", integers=True)
def _bitwise_not(reader: Reader, x: Value) -> Value:
    reader.check_truth()
    return reader.along("logical_not", x)


@FUNCTIONS("rrelu.default")
def _rrelu(
    reader: Reader, x: Value, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *_: Any
) -> Value:
    if training:
        raise reader.unsupported("is random in eval() mode too (pass training=self.training), which is not supported")
    return reader.along("leaky_relu", x, attrs={"negative_slope": (lower + upper) / 2})


@FUNCTIONS("glu.default")
def _glu(reader: Reader, x: Value, dim: int = -1) -> Value:
    """The first half of an axis times the sigmoid of the second."""
    half, axis = x.shape[dim] // 2, reader.axis(x, dim)
    first, second = (
        reader.along("slice", x, attrs={"dim": axis, "start": start, "end": start + half}) for start in (0, half)
    )
    return reader.along("mul", first, reader.along("sigmoid", second))


@FUNCTIONS("prelu.default")
def _prelu(reader: Reader, x: Value, weight: Any) -> Value:
    return reader.emit("prelu", x, weights={"weight": weight})


@FUNCTIONS("relu6.default")
def _relu6(reader: Reader, x: Value) -> Value:
    return clamp(reader, x, 0, 6)


@FUNCTIONS("clamp.default", "clip.default")
def clamp(reader: Reader, x: Value, min: float | None = None, max: float | None = None) -> Value:
    x = reader.checked(x)
    return reader.value(reader.builder.clamp(x.name, min, max), x.axes)


@FUNCTIONS("clamp_min.default")
def _clamp_min(reader: Reader, x: Value, min: float) -> Value:
    return clamp(reader, x, min, None)


@FUNCTIONS("clamp_max.default")
def _clamp_max(reader: Reader, x: Value, max: float) -> Value:
    return clamp(reader, x, None, max)
