"""Reductions over any axes but the batch."""

from __future__ import annotations

from math import inf, prod
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, ShapeError
from ..attributes import boolean, integer, number, shown
from .spec import REQUIRED, OpSpec, axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Two, Weights, Window

__all__ = ["LARGEST_INDEX", "NORMS", "SPECS", "check_indices"]

LARGEST_INDEX = 2**24
"""Up to here every whole number is one of float32, which indices are given in."""

NORMS = (1.0, 2.0, inf)


# --- attributes -----------------------------------------------------------------------------------


def dims(name: str, value: Any) -> tuple[int, ...]:
    """Return an axis, or a list of them, as a tuple."""
    items = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(integer(name, item) for item in items)


def norm_order(name: str, value: Any) -> float:
    """Return the order of a vector norm: 1, 2 or infinity."""
    value = number(name, value)
    if value not in NORMS:
        raise ArgumentError(f"{name} must be 1, 2 or inf, got {shown(value)}")
    return float(value)


# --- shapes ---------------------------------------------------------------------------------------


def _settled_dims(shape: Shape, attrs: Attributes) -> tuple[int, ...]:
    """Return the axes in ascending order; they count the batch, which is none of them."""
    rank = len(shape) + 1
    result = sorted(axis("dim", dim, rank) for dim in attrs["dim"])
    if not result:
        raise ArgumentError("dim must name an axis at least; none means all of them, the batch too")
    if len(set(result)) != len(result):
        raise ArgumentError(f"dim must name every axis once, got {shown(attrs['dim'])}")
    return tuple(result)


def _without(shape: Shape, reduced: Sequence[int], keepdim: bool) -> Shape:
    """Return the shape without the axes, or with ones in their place."""
    return tuple(1 if i in reduced else size for i, size in enumerate(shape, 1) if keepdim or i not in reduced)


def _reduction(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    shape = shapes[0]
    reduced = _settled_dims(shape, attrs)
    return _without(shape, reduced, attrs["keepdim"]), {**attrs, "dim": reduced}


def _of_some(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """What has no value over no elements; as in PyTorch, an empty result has none to miss."""
    out, settled = _reduction(shapes, attrs, weights)
    if settled.get("ord", inf) == inf and not all(shapes[0][dim - 1] for dim in settled["dim"]) and prod(out):
        raise ShapeError(f"there is no value over the empty axes {settled['dim']} of {shapes[0]}")
    return out, settled


def check_indices(shape: Shape, dim: int) -> None:
    """Refuse an axis with more indices than float32 can tell apart; float64 has the same limit."""
    if shape[dim - 1] > LARGEST_INDEX:
        raise ShapeError(
            f"axis {dim} of {shape} has more than {LARGEST_INDEX} indices, the most that are told apart, in float32 "
            "and in float64 alike; cut it into parts"
        )


def _index(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """An index, as a whole number in the network's own type."""
    shape = shapes[0]
    dim = axis("dim", attrs["dim"], len(shape) + 1)
    size = shape[dim - 1]
    if not size:
        raise ShapeError(f"there is no index in the empty axis {dim} of {shape}")
    check_indices(shape, dim)
    return _without(shape, (dim,), attrs["keepdim"]), {**attrs, "dim": dim}


def _field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """All of the pixels' axes that are reduced; of what is no image the axes say nothing of pixels."""
    dim = attrs["dim"]
    reduced = dim if isinstance(dim, tuple) else (dim,)
    if len(out) == 3 and attrs["keepdim"]:
        return [size if i in reduced else 1 for i, size in zip((2, 3), extent, strict=True)], (1, 1), out[1:]
    return extent, (1, 1), (1, 1)


_DIM = {"dim": (REQUIRED, dims), "keepdim": (False, boolean)}
_ONE_DIM = {"dim": (REQUIRED, integer), "keepdim": (False, boolean)}
_CORRECTION = {**_DIM, "correction": (1.0, number)}

SPECS = {
    **dict.fromkeys(("mean", "sum", "prod"), OpSpec(_reduction, _DIM, field=_field)),
    **dict.fromkeys(("amax", "amin"), OpSpec(_of_some, _DIM, field=_field)),
    **dict.fromkeys(("argmax", "argmin"), OpSpec(_index, _ONE_DIM, field=_field)),
    "logsumexp": OpSpec(_reduction, _DIM, field=_field),
    "vector_norm": OpSpec(_of_some, {**_DIM, "ord": (2.0, norm_order)}, field=_field),
    **dict.fromkeys(("var", "std"), OpSpec(_reduction, _CORRECTION, field=_field)),
}
