"""Running sums, and elements in order, along an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ShapeError
from ..attributes import boolean, integer
from .reduce import check_indices
from .spec import REQUIRED, OpSpec, axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["SPECS"]


def _cumsum(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Any shape, unchanged."""
    return shapes[0], {**attrs, "dim": axis("dim", attrs["dim"], len(shapes[0]) + 1)}


def _topk(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """The first k along an axis, from the largest on, or from the smallest; or their indices."""
    shape = shapes[0]
    dim = axis("dim", attrs["dim"], len(shape) + 1)
    size, k = shape[dim - 1], attrs["k"]
    if not 0 <= k <= size:
        raise ShapeError(f"k={k} must lie in 0..{size}, the elements along axis {dim} of {shape}")
    check_indices(shape, dim)
    return (*shape[: dim - 1], k, *shape[dim:]), {**attrs, "dim": dim}


SPECS = {
    "cumsum": OpSpec(_cumsum, {"dim": (REQUIRED, integer)}),
    "topk": OpSpec(
        _topk,
        {
            "k": (REQUIRED, integer),
            "dim": (-1, integer),
            "largest": (True, boolean),
            "indices": (False, boolean),
        },
    ),
}
