"""linear, with what rewriting may fuse into it: a residual, an activation."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ...errors import ShapeError
from .activation import ACTIVATION
from .spec import (
    FeatureMismatchError,
    OpSpec,
    check_residual,
    check_vector,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import (
        Attributes,
        Settled,
        Shape,
        Two,
        Weights,
        Window,
    )

__all__ = ["SPECS"]


def infer(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(..., F) -> (..., O)."""
    shape = shapes[0]
    out, features = weights["weight"].shape
    if not shape:
        raise ShapeError("needs at least one axis of features besides the batch")
    if shape[-1] != features:
        raise FeatureMismatchError(features, shape[-1])
    check_vector(weights, "bias", out)
    result = (*shape[:-1], out)
    check_residual(shapes, result)
    return result, attrs


def _macs(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> int:
    return prod(shapes[0][:-1]) * weights["weight"].size


def _field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """All that the values still span, or, over the last axis only, a row of it."""
    if len(out) > 1:
        return (1, extent[1]), (1, 1), (extent[0], 1)
    return extent, (1, 1), (1, 1)


def _matmul(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(..., M, K) and (..., K, O) -> (..., M, O), for each index of the axes in front."""
    first, second = shapes
    if len(first) < 2 or len(first) != len(second) or first[:-2] != second[:-2] or first[-1] != second[-2]:
        raise ShapeError(f"needs (..., M, K) and (..., K, O) of equal leading axes, got {first} and {second}")
    return (*first[:-1], second[-1]), attrs


def _matmul_macs(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> int:
    return prod(shapes[0]) * shapes[1][-1]


SPECS = {
    "linear": OpSpec(
        infer,
        ACTIVATION,
        required={"weight": 2},
        optional={"bias": 1},
        arity=(1, 2),
        macs=_macs,
        field=_field,
    ),
    "matmul": OpSpec(_matmul, arity=(2, 2), macs=_matmul_macs, field=_field),
}
