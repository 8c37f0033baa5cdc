"""Normalisation by given statistics, and along an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ShapeError
from ..attributes import integer, integers, non_negative, number, positive
from .activation import ACTIVATION
from .spec import ANY_RANK, REQUIRED, OpSpec, axis, check_vector, image

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


def _layer_norm(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(..., *normalized_shape) unchanged; every weight is of that shape."""
    shape, normalized = shapes[0], attrs["normalized_shape"]
    if not normalized or len(normalized) > len(shape) or shape[len(shape) - len(normalized) :] != normalized:
        raise ShapeError(f"normalized_shape must be the last axes of {shape}, got {normalized}")
    for role, array in weights.items():
        if array.shape != normalized:
            raise ShapeError(f"{role} must have normalized_shape {normalized}, got {array.shape}")
    return shape, attrs


def _group_norm(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, ...) unchanged; every weight is (C,)."""
    shape, groups = shapes[0], attrs["num_groups"]
    if not shape:
        raise ShapeError("needs a channel axis besides the batch")
    if shape[0] % groups:
        raise ShapeError(f"{shape[0]} channels do not divide into num_groups={groups}")
    for role in weights:
        check_vector(weights, role, shape[0])
    return shape, attrs


def _softmax(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Any shape, unchanged."""
    return shapes[0], {**attrs, "dim": axis("dim", attrs["dim"], len(shapes[0]) + 1)}


def _local_response_norm(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H, W) unchanged."""
    return image(shapes[0]), attrs


_DIM = {"dim": (REQUIRED, integer)}

SPECS = {
    "batch_norm": OpSpec(
        _batch_norm,
        {"eps": (1e-5, non_negative), **ACTIVATION},
        required={"running_mean": 1, "running_var": 1},
        optional={"weight": 1, "bias": 1},
    ),
    "layer_norm": OpSpec(
        _layer_norm,
        {"normalized_shape": (REQUIRED, integers), "eps": (1e-5, non_negative), **ACTIVATION},
        optional={"weight": ANY_RANK, "bias": ANY_RANK},
    ),
    "rms_norm": OpSpec(
        _layer_norm,
        {"normalized_shape": (REQUIRED, integers), "eps": (1e-5, non_negative), **ACTIVATION},
        optional={"weight": ANY_RANK},
    ),
    "group_norm": OpSpec(
        _group_norm,
        {"num_groups": (REQUIRED, positive), "eps": (1e-5, non_negative), **ACTIVATION},
        optional={"weight": 1, "bias": 1},
    ),
    "softmax": OpSpec(_softmax, _DIM),
    "log_softmax": OpSpec(_softmax, _DIM),
    "local_response_norm": OpSpec(
        _local_response_norm,
        {"size": (REQUIRED, positive), "alpha": (1e-4, number), "beta": (0.75, number), "k": (1.0, number)},
    ),
}
