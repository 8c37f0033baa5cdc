"""Running sums, and elements in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..values import Value
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


def _axis(reader: Reader, x: Value, axis: int) -> int:
    dim = reader.axis(x, axis)
    if dim == 0:
        raise reader.unsupported("along the batch")
    return dim


@FUNCTIONS("CumSum")
def _cumsum(reader: Reader, x: Value, axis: Any, *, exclusive: int, reverse: int) -> Value:
    if exclusive:
        raise reader.unsupported("with exclusive=1")
    dim = _axis(reader, x, int(reader.number("axis", axis)))
    if not reverse:
        return reader.along("cumsum", x, dim=dim)
    turned = reader.along("flip", x, dims=(dim,))
    return reader.along("flip", reader.along("cumsum", turned, dim=dim), dims=(dim,))


@FUNCTIONS("TopK")
def _topk(reader: Reader, x: Value, k: Any, *, axis: int, largest: int = 1, sorted: int = 1) -> tuple[Value, ...]:
    count = k if isinstance(k, int) else int(reader.number("k", k))
    attrs: dict[str, Any] = {"k": count, "dim": _axis(reader, x, axis), "largest": bool(largest)}
    values, indices = (reader.along("topk", x, **attrs, indices=indices) for indices in (False, True))
    return values, Value(indices.name, indices.axes, floating=False)
