"""Running sums, and elements in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


@FUNCTIONS("cumsum.default")
def _cumsum(reader: Reader, x: Value, dim: int, *, dtype: Any = None) -> Value:
    return reader.along("cumsum", x, attrs={"dim": reader.axis(x, dim)})


@FUNCTIONS("topk.default")
def _topk(
    reader: Reader, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value | None, ...]:
    attrs = {"k": k, "dim": reader.axis(x, dim), "largest": largest}
    used = reader.used
    return tuple(reader.along("topk", x, attrs={**attrs, "indices": bool(i)}) if i in used else None for i in range(2))


@FUNCTIONS("sort.default")
def _sort(reader: Reader, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value | None, ...]:
    return _topk(reader, x, x.shape[dim], dim, descending)


@FUNCTIONS("sort.stable")
def _sort_stable(
    reader: Reader, x: Value, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Value | None, ...]:
    return _topk(reader, x, x.shape[dim], dim, descending)


@FUNCTIONS("argsort.default", integers=True)
def _argsort(reader: Reader, x: Value, dim: int = -1, descending: bool = False) -> Value:
    attrs = {"k": x.shape[dim], "dim": reader.axis(x, dim), "largest": descending, "indices": True}
    return reader.along("topk", x, attrs=attrs)


@FUNCTIONS("argsort.stable", integers=True)
def _argsort_stable(reader: Reader, x: Value, *, stable: bool, dim: int = -1, descending: bool = False) -> Value:
    return _argsort(reader, x, dim, descending)
