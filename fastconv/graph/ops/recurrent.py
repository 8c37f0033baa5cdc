"""One layer of an LSTM, a GRU or a plain recurrent network, in one direction or both."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ...errors import ShapeError
from ..attributes import boolean
from .resize import one_of
from .spec import OpSpec, check_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from ..attributes import Normaliser
    from .spec import Attributes, Settled, Shape, Two, Weights, Window

__all__ = ["GATES", "REVERSE", "ROLES", "SPECS", "directions"]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
"""Operator -> how many times as many rows its weights have as there are hidden features."""

REVERSE = "_reverse"
"""The end of the roles of the second direction."""

_REQUIRED = {"weight_ih": 2, "weight_hh": 2}
_OPTIONAL = {"bias_ih": 1, "bias_hh": 1}
ROLES = (*_REQUIRED, *_OPTIONAL)
"""Of each direction, in PyTorch's order."""

_BACKWARD = {role + REVERSE: rank for role, rank in (*_REQUIRED.items(), *_OPTIONAL.items())}


def directions(weights: Iterable[str]) -> tuple[str, ...]:
    """Return what the roles of each direction end in: forward, and where there is one the other."""
    return ("", REVERSE) if any(role.endswith(REVERSE) for role in weights) else ("",)


def _infer(op: str) -> Callable[[Sequence[Shape], Attributes, Weights], Settled]:
    gates = GATES[op]

    def infer(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
        """(..., T, I), and the state before it (..., 1, S * D * H) -> (..., T, D * H), or with cells twice as wide."""
        shape, ways = shapes[0], directions(weights)
        if len(shape) < 2 or shape[-2] == 0:
            raise ShapeError(f"needs sequences of one step at least, (..., T, I), got shape {shape}")
        hidden = weights["weight_hh"].shape[1]
        for way in ways:
            _check(weights, way, gates, hidden, shape[-1])
        width = len(ways) * hidden
        state = (*shape[:-2], 1, 2 * width if op == "lstm" else width)
        if len(shapes) == 2 and shapes[1] != state:
            raise ShapeError(f"the state before the first step must have the shape {state}, got {shapes[1]}")
        return (*shape[:-1], 2 * width if attrs.get("cells") else width), attrs

    return infer


def _check(weights: Weights, way: str, gates: int, hidden: int, features: int) -> None:
    """Check the weights of a direction."""
    for role, columns in (("weight_ih", features), ("weight_hh", hidden)):
        if role + way not in weights:
            raise ShapeError(f"needs the weight {role + way!r} beside those of that direction, which is missing")
        shape = weights[role + way].shape
        if not hidden or shape != (gates * hidden, columns):
            raise ShapeError(
                f"{role + way} must have the shape {(gates * hidden, columns)}, for {hidden} hidden features of "
                f"{gates} gates and {features} input features, got {shape}"
            )
    for role in _OPTIONAL:
        check_vector(weights, role + way, gates * hidden)


def _macs(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> int:
    ways = directions(weights)
    return prod(shapes[0][:-1]) * sum(weights[role + way].size for role in _REQUIRED for way in ways)


def _field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """All that the values still span."""
    return extent, (1, 1), (1, 1)


_ATTRIBUTES: Mapping[str, Mapping[str, tuple[Any, Normaliser]]] = {
    "lstm": {"cells": (False, boolean)},
    "gru": {"linear_before_reset": (True, boolean)},
    "rnn": {"nonlinearity": ("tanh", one_of(("tanh", "relu")))},
}

SPECS = {
    op: OpSpec(
        _infer(op),
        attributes,
        required=_REQUIRED,
        optional={**_OPTIONAL, **_BACKWARD},
        arity=(1, 2),
        macs=_macs,
        field=_field,
    )
    for op, attributes in _ATTRIBUTES.items()
}
