"""Normalisation by given statistics, and along an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ShapeError
from ..attributes import integer, non_negative
from .activation import ACTIVATION
from .spec import REQUIRED, OpSpec, axis, check_vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["SPECS"]


def _batch_norm(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, ...) unchanged; every weight is (C,)."""
    shape = shapes[0]
    if not shape:
        raise ShapeError("needs a channel axis besides the batch")
    for role in weights:
        check_vector(weights, role, shape[0])
    return shape, attrs


def _softmax(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Any shape, unchanged."""
    return shapes[0], {**attrs, "dim": axis("dim", attrs["dim"], len(shapes[0]) + 1)}


_DIM = {"dim": (REQUIRED, integer)}

SPECS = {
    "batch_norm": OpSpec(
        _batch_norm,
        {"eps": (1e-5, non_negative), **ACTIVATION},
        required={"running_mean": 1, "running_var": 1},
        optional={"weight": 1, "bias": 1},
    ),
    "softmax": OpSpec(_softmax, _DIM),
    "log_softmax": OpSpec(_softmax, _DIM),
}
