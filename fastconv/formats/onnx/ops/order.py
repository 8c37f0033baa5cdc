"""Running sums, and elements in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..values import Value
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


@FUNCTIONS("CumSum")
def _cumsum(reader: Reader, x: Value, axis: Any, *, exclusive: int, reverse: int) -> Value:
    dim = reader.axis_of_images(x, reader.integer("axis", axis))
    if reverse:
        x = reader.along("flip", x, dims=(dim,))
    if exclusive:  # the element itself is left out: the first is nothing, the last is not added to any
        size, behind = reader.builder.shape(x.name)[dim - 1], len(reader.builder.shape(x.name)) - dim
        x = reader.along("pad", x, padding=(0, 0) * behind + (1, -1)) if size else x
    y = reader.along("cumsum", x, dim=dim)
    return reader.along("flip", y, dims=(dim,)) if reverse else y


@FUNCTIONS("TopK")
def _topk(reader: Reader, x: Value, k: Any, *, axis: int, largest: int = 1, sorted: int = 1) -> tuple[Value, ...]:
    count = k if isinstance(k, int) else reader.integer("k", k)
    attrs: dict[str, Any] = {"k": count, "dim": reader.axis_of_images(x, axis), "largest": bool(largest)}
    values, indices = (reader.along("topk", x, **attrs, indices=indices) for indices in (False, True))
    return values, Value(indices.name, indices.axes, floating=False)
