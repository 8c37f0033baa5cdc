"""LSTM, GRU and RNN: a node for both directions, its gates in PyTorch's order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....graph.ops.recurrent import GATES, REVERSE
from ..values import Sized, Value
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

# PyTorch's gates -> where ONNX has them: i, o, f, c and z, r, h.
_ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
_ACTIVATIONS = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh")}
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


@FUNCTIONS("LSTM", sized=True)
def _lstm(
    reader: Reader,
    x: Value,
    w: Any,
    r: Any,
    b: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
    initial_c: Any = None,
    peepholes: Any = None,
    *,
    activations: list[str] | None = None,
    input_forget: int = 0,
    **attrs: Any,
) -> tuple[Value | None, ...]:
    if input_forget:
        raise reader.unsupported("with input_forget")
    if peepholes is not None and (not isinstance(peepholes, np.ndarray) or peepholes.any()):
        raise reader.unsupported("with peepholes")
    cells = {"cells": True} if 2 in reader.used else {}
    layer = _Layer(reader, "lstm", x, (w, r, b), sequence_lens, activations, **attrs)
    return _read(reader, "lstm", layer, [initial_h, initial_c], cells)


@FUNCTIONS("GRU", sized=True)
def _gru(
    reader: Reader,
    x: Value,
    w: Any,
    r: Any,
    b: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
    *,
    activations: list[str] | None = None,
    linear_before_reset: int,
    **attrs: Any,
) -> tuple[Value | None, ...]:
    layer = _Layer(reader, "gru", x, (w, r, b), sequence_lens, activations, **attrs)
    return _read(reader, "gru", layer, [initial_h], {"linear_before_reset": bool(linear_before_reset)})


@FUNCTIONS("RNN", sized=True)
def _rnn(
    reader: Reader,
    x: Value,
    w: Any,
    r: Any,
    b: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
    *,
    activations: list[str],
    **attrs: Any,
) -> tuple[Value | None, ...]:
    count = _DIRECTIONS.get(attrs["direction"], 1)
    kinds = {name.lower() for name in activations[:count]}
    if len(kinds) != 1 or not kinds <= {"tanh", "relu"}:
        raise reader.unsupported(f"with the activations {', '.join(activations[:count])}")
    layer = _Layer(reader, "rnn", x, (w, r, b), sequence_lens, None, **attrs)
    return _read(reader, "rnn", layer, [initial_h], {"nonlinearity": kinds.pop()})


def _read(
    reader: Reader, op: str, layer: _Layer, states: Sequence[Any], attrs: dict[str, Any]
) -> tuple[Value | None, ...]:
    """Add the node; return the sequence, and each state after the last step."""
    x, before = layer.flipped(reader, reader.arranged(layer.x)), layer.state(reader, states)
    given = (x,) if before is None else (x, before)
    both = reader.trailing(op, *given, count=2, weights=layer.weights, **attrs)
    kinds = 2 if attrs.get("cells") else 1
    parts = (layer.steps, kinds * layer.count, layer.hidden)
    whole = reader.reshape(both, [(reader.shape(both, batch)[0], *parts) for batch in reader.batches])
    last = [layer.last(reader, whole, i) if 1 + i in reader.used else None for i in range(kinds)]
    y = layer.flipped(reader, _part(reader, whole, 2, 0, layer.count) if kinds > 1 else whole)
    return (y if layer.layout else y.permuted((1, 2, 0, 3)), *last)


class _Layer:
    """What the three have in common, checked; `x` has the axes (batch, time, features)."""

    def __init__(
        self,
        reader: Reader,
        op: str,
        x: Value,
        arrays: tuple[Any, Any, Any],
        sequence_lens: Any,
        activations: Sequence[str] | None,
        *,
        direction: str,
        layout: int = 0,
        hidden_size: int | None = None,
        clip: float | None = None,
        activation_alpha: Sequence[float] = (),
        activation_beta: Sequence[float] = (),
    ) -> None:
        if direction not in _DIRECTIONS:
            raise reader.error(f"has the direction {direction!r}")
        if len(x.axes) != 3:
            raise reader.error(f"needs sequences of three axes, got {len(x.axes)}")
        self.op, self.count, self.back, self.layout = op, _DIRECTIONS[direction], direction == "reverse", layout
        wanted = _ACTIVATIONS.get(op, ()) * self.count
        if activations is not None and tuple(name.lower() for name in activations) != wanted:
            raise reader.unsupported(f"with the activations {', '.join(activations)}")
        if clip is not None:
            raise reader.unsupported("with clip")
        self.x = x if layout else x.permuted((1, 0, 2))
        if reader.axis(self.x, 1) == 0:
            raise reader.unsupported("along the batch")
        self.steps = reader.shape(self.x, reader.batches[0])[1]
        if sequence_lens is not None and any((each != self.steps).any() for each in reader.each(sequence_lens)):
            raise reader.unsupported(f"with sequence_lens other than {self.steps}, the length of all")
        self.weights = self._weights(reader, *arrays)
        self.hidden = self.weights["weight_hh"].shape[1]
        if hidden_size not in (None, self.hidden):
            raise reader.error(f"has hidden_size={hidden_size}, and weights for {self.hidden}")

    def _weights(self, reader: Reader, w: Any, r: Any, b: Any) -> dict[str, np.ndarray]:
        """Return the weights of each direction, the gates in PyTorch's order."""
        weight, recurrent = reader.weight(w), reader.weight(r)
        rows = GATES[self.op] * recurrent.shape[-1] if recurrent.ndim == 3 else 0
        bias = np.zeros((self.count, 2 * rows), reader.dtype) if b is None else reader.weight(b)
        for name, array, shape in (
            ("W", weight, (self.count, rows, *weight.shape[2:3])),
            ("R", recurrent, (self.count, rows, *recurrent.shape[2:3])),
            ("B", bias, (self.count, 2 * rows)),
        ):
            if array.shape != shape or array.ndim != 3 - (name == "B"):
                raise reader.error(f"has {name} of shape {array.shape}, for {self.count} directions of {rows} rows")
        result = {}
        for d, way in zip(range(self.count), ("", REVERSE), strict=False):
            given = {"weight_ih": weight[d], "weight_hh": recurrent[d]}
            if b is not None:
                given |= {"bias_ih": bias[d, :rows], "bias_hh": bias[d, rows:]}
            for role, array in given.items():
                gates = array.reshape(GATES[self.op], -1)
                result[role + way] = gates[list(_ORDER[self.op])].reshape(array.shape)
        return result

    def last(self, reader: Reader, both: Value, kind: int) -> Value:
        """Return a state after the last step of each direction, of (batch, time, states * directions, hidden)."""
        ends = [
            _part(reader, _part(reader, both, 1, 0 if d else self.steps - 1), 2, kind * self.count + d)
            for d in range(self.count)
        ]
        joined = ends[0] if len(ends) == 1 else reader.along("cat", *ends, dim=reader.axis(ends[0], 2))
        sizes = [(reader.shape(joined, batch)[0], self.count, self.hidden) for batch in reader.batches]
        state = reader.reshape(joined, sizes)
        return state if self.layout else state.permuted((1, 0, 2))

    def flipped(self, reader: Reader, x: Value) -> Value:
        """Return a sequence as the node goes along it, or back again."""
        return reader.along("flip", x, dims=(reader.axis(x, 1),)) if self.back else x

    def state(self, reader: Reader, states: Sequence[Any]) -> Value | None:
        """Return states as a sequence (batch, 1, states * directions * hidden); None for zeros."""
        parts: list[Any] = [self._given(reader, state) for state in states]
        if not any(isinstance(part, Value) or any(each.any() for each in part.arrays) for part in parts):
            return None
        like = next((part for part in parts if isinstance(part, Value)), self.x)
        like = reader.arranged(like)
        values = reader.alike(*(part if isinstance(part, Value) else reader.filled(part, like) for part in parts))
        return values[0] if len(values) == 1 else reader.along("cat", *values, dim=reader.axis(values[0], 2))

    def _given(self, reader: Reader, state: Any) -> Any:
        sizes = [(reader.shape(self.x, batch)[0], 1, self.count * self.hidden) for batch in reader.batches]
        if isinstance(state, Value):
            if len(state.axes) != 3:
                raise reader.error(f"needs a state of three axes, got {len(state.axes)}")
            return reader.reshape(state if self.layout else state.permuted((1, 0, 2)), sizes)
        arrays = []
        for each, size in zip([None] * len(sizes) if state is None else reader.each(state), sizes, strict=True):
            if each is None:
                arrays.append(np.zeros((1, 1, size[2]), reader.dtype))
                continue
            known = each if self.layout or each.ndim != 3 else each.transpose(1, 0, 2)
            if known.shape != (size[0], self.count, self.hidden):
                raise reader.error(f"has a state of shape {each.shape} for {self.count} directions of {self.hidden}")
            arrays.append(known.reshape(size))
        return Sized(arrays)


def _part(reader: Reader, x: Value, axis: int, start: int, stop: int | None = None) -> Value:
    return reader.along("slice", x, dim=reader.axis(x, axis), start=start, end=start + 1 if stop is None else stop)
