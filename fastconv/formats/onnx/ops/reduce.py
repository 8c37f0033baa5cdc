"""Reductions over any axes but the batch, and indices of extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..values import Value
from .arithmetic import affine
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

# ONNX -> the operator, its attributes, and those that come before and after it.
_REDUCTIONS: dict[str, tuple[str, dict[str, Any], str | None, str | None]] = {
    "ReduceMean": ("mean", {}, None, None),
    "ReduceSum": ("sum", {}, None, None),
    "ReduceProd": ("prod", {}, None, None),
    "ReduceMax": ("amax", {}, None, None),
    "ReduceMin": ("amin", {}, None, None),
    "ReduceL1": ("vector_norm", {"ord": 1.0}, None, None),
    "ReduceL2": ("vector_norm", {"ord": 2.0}, None, None),
    "ReduceLogSumExp": ("logsumexp", {}, None, None),
    "ReduceSumSquare": ("sum", {}, "mul", None),
    "ReduceLogSum": ("sum", {}, None, "log"),
}


def _reduced(reader: Reader, op: str, x: Value, axes: Sequence[int], keepdims: int, **attrs: Any) -> Value:
    """Reduce axes, wherever ONNX sees them."""
    places = [reader.axis_of_images(x, axis) for axis in axes]
    reduced = set(places)
    if len(reduced) != len(places):
        raise reader.error(f"names an axis twice in {list(axes)}")
    if op in ("argmax", "argmin"):
        name = reader.builder.add(op, x.name, dim=next(iter(reduced)), keepdim=bool(keepdims))
    else:
        name = reader.builder.reduce(op, x.name, sorted(reduced), bool(keepdims), **attrs)
    if keepdims:
        return reader.like(x, name)
    reader.builder.shape(name)  # what is wrong with the node is said here
    kept = (parts for parts in x.axes if reduced.isdisjoint(parts))
    return Value(name, tuple(tuple(part - len([i for i in reduced if i < part]) for part in parts) for parts in kept))


def _reduce(name: str) -> None:
    op, attrs, before, after = _REDUCTIONS[name]

    @FUNCTIONS(name)
    def convert(reader: Reader, x: Value, axes: Any = None, *, keepdims: int, noop_with_empty_axes: int = 0) -> Value:
        chosen = None if axes is None else reader.ints("axes", axes)
        if not chosen and noop_with_empty_axes == 1:
            if attrs or before or after or op == "logsumexp":
                raise reader.unsupported("over no axes")
            return x
        if before:
            x = reader.along(before, x, x)
        y = _reduced(reader, op, x, chosen or range(len(x.axes)), keepdims, **attrs)
        return reader.along(after, y) if after else y


for _name in _REDUCTIONS:
    _reduce(_name)


def _index(name: str, op: str) -> None:
    @FUNCTIONS(name)
    def convert(reader: Reader, x: Value, *, axis: int, keepdims: int, select_last_index: int = 0) -> Value:
        dim = reader.axis_of_images(x, axis)
        if select_last_index:
            x = reader.along("flip", x, dims=(dim,))
        y = _reduced(reader, op, x, [axis], keepdims)
        if select_last_index:
            y = affine(reader, y, -1.0, reader.builder.shape(x.name)[dim - 1] - 1.0)
        return Value(y.name, y.axes, floating=False)


_index("ArgMax", "argmax")
_index("ArgMin", "argmin")
