"""Recurrent layers, and single steps of them: layer upon layer, a node for both directions of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ....graph.ops.recurrent import REVERSE, ROLES
from ..values import Value
from .shape import cat, narrowed, permute, transpose
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from ..reader import Reader

    _State: TypeAlias = tuple[Any, int, int]  # of all layers and directions, and which directions of it are a layer's

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


def _layers(op: str, states: int, **attrs: Any) -> Callable[..., tuple[Value | None, ...]]:
    """Read ``(input, hx, parameters, …)``; what a network computes is read as in ``eval()`` mode."""

    def read(
        reader: Reader,
        x: Value,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Value | None, ...]:
        if train and dropout:
            raise reader.unsupported("with dropout that is on in eval() mode too is not supported")
        ways, count = ("", REVERSE)[: 1 + bidirectional], 4 if has_biases else 2
        if len(params) != num_layers * len(ways) * count:
            raise reader.unsupported("with proj_size is not supported")
        y = reader.checked(x) if batch_first else transpose(reader, reader.checked(x), 0, 1)
        first = list(hx) if states > 1 else [hx]
        last: list[list[Value]] = [[] for _ in range(states)]
        used, parameters = reader.used, iter(params)
        for layer in range(num_layers):
            weights = {role + way: next(parameters) for way in ways for role in ROLES[:count]}
            cells = {"cells": True} if states > 1 and 2 in used else {}
            hidden = params[1].shape[1]
            own = [(state, layer * len(ways), len(ways)) for state in first]
            y, both = _layer(reader, op, y, own, weights, {**attrs, **cells})
            for i in range(states):
                for way in range(len(ways)):
                    if 1 + i in used:
                        at, step = (i * len(ways) + way) * hidden, 0 if way else y.shape[1] - 1
                        one = narrowed(reader, both, 1, step, step + 1)
                        last[i].append(narrowed(reader, one, -1, at, at + hidden))
        y = y if batch_first else transpose(reader, y, 0, 1)
        return y, *(transpose(reader, cat(reader, each, 1), 0, 1) if each else None for each in last)

    return read


def _layer(
    reader: Reader, op: str, x: Value, states: Sequence[_State], weights: dict[str, Any], attrs: dict[str, Any]
) -> tuple[Value, Value]:
    """Add a layer over (N, T, I); return its hidden states, and all that the node gives."""
    before = _state(reader, x, states)
    given = (x,) if before is None else (x, before)
    both = reader.trailing(op, *given, count=2, weights=weights, attrs=attrs)
    return narrowed(reader, both, -1, 0, both.shape[-1] // (2 if attrs.get("cells") else 1)), both


def _state(reader: Reader, x: Value, states: Sequence[_State]) -> Value | None:
    """Return a layer's part of states (…, N, H) as a sequence (N, 1, states * directions * H); None for zeros."""
    parts: list[Any] = []
    for state, first, ways in states:
        if isinstance(state, Value):
            own = permute(reader, narrowed(reader, state, 0, first, first + ways), (1, 0, 2))
            parts.append(reader.reshape(own, (own.shape[0], 1, ways * own.shape[2])))
        else:
            parts.append(state[first : first + ways].transpose(0, 1).reshape(state.shape[1], 1, -1))
    if any(isinstance(part, Value) for part in parts):
        return cat(reader, parts, -1)
    constant = torch.cat(parts, -1)
    return reader.filled(constant, reader.arranged(x)) if constant.any() else None


def _cell(op: str, states: int, **attrs: Any) -> Callable[..., Any]:
    """Read ``(input, hx, w_ih, w_hh, b_ih, b_hh)``, one step of (N, I)."""

    def read(reader: Reader, x: Any, hx: Any, *params: Any) -> Any:
        weights = dict(zip(ROLES, params, strict=False))
        if not isinstance(x, Value):
            x = reader.filled(x)
        sequence = reader.reshape(x, (x.shape[0], 1, x.shape[1]))
        hidden = params[1].shape[1]
        given = list(hx) if states > 1 else [hx]
        ranked = [(reader.reshape(h, (1, *h.shape)) if isinstance(h, Value) else h[None], 0, 1) for h in given]
        cells = {"cells": True} if states > 1 else {}
        _, both = _layer(reader, op, sequence, ranked, weights, {**attrs, **cells})
        parts = [narrowed(reader, both, -1, i * hidden, (i + 1) * hidden) for i in range(states)]
        flat = tuple(reader.reshape(part, (part.shape[0], hidden)) for part in parts)
        return flat if states > 1 else flat[0]

    return read


for _name, _op, _attrs in (
    ("lstm", "lstm", {}),
    ("gru", "gru", {}),
    ("rnn_tanh", "rnn", {"nonlinearity": "tanh"}),
    ("rnn_relu", "rnn", {"nonlinearity": "relu"}),
):
    _states = 2 if _op == "lstm" else 1
    FUNCTIONS(f"{_name}.input")(_layers(_op, _states, **_attrs))
    FUNCTIONS(f"{_name}_cell.default")(_cell(_op, _states, **_attrs))
