"""Activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....graph.ops.activation import ACTIVATIONS
from .table import Functions, elementwise

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

for _row in ACTIVATIONS.values():
    FUNCTIONS(*_row.aten)(elementwise(_row.name, tuple(name for name, *_ in _row.parameters)))


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
