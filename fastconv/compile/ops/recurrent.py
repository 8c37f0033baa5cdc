"""Recurrent layers as two steps: the input's products of all time steps at once, and a walk along the sequence."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph import Node as Part
from ...graph.ops.recurrent import GATES, directions
from ..conv import share
from ..tensors import NCHW, Ref, Step
from .linear import emit_product

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER"]

_TILES = 4  # of rows that go along their sequences together: the weights, read anew at each step, serve them all


def _recurrent(low: Lowering, node: Node) -> Emit:
    shape, ways = low.graph.shapes[node.inputs[0]], directions(node.weights)
    count, gates, steps, hidden = len(ways), GATES[node.op], shape[-2], node.weights["weight_hh"].shape[1]
    rows, width = prod(shape[:-2]), gates * hidden
    read = low.read(node.inputs[0], NCHW, contiguous=True)
    state = low.read(node.inputs[1], NCHW, contiguous=True) if len(node.inputs) > 1 else None
    value = low.write(node, NCHW)
    value.contiguous.add(value.made)

    def both(role: str, first: int, last: int) -> np.ndarray:
        """Return rows of a weight, or of a bias, of each direction."""
        parts = [node.weights.get(role + way, np.zeros(width, low.dtype))[first:last] for way in ways]
        return np.concatenate(parts)

    def packed(first: int, last: int) -> tuple[Any, Any, int]:
        """Return where rows of weight_hh and bias_hh are packed, and how many each direction has with zeros."""
        order, size = "columns" if low.double else "panels", count * (last - first)
        part = Part(node.name, "linear", (), {}, {r: both(f"{r}_hh", first, last) for r in ("weight", "bias")})
        weight = low.packed(part, "weight", order, count, (size, hidden, 1))
        bias = low.packed(part, "bias", order, count, (size, 1, 1))
        return weight, bias, low.kernels.packed_size(low.kernels.PACK_ORDERS[order], 1, last - first, 1)

    reset_first = node.op == "gru" and not node.attrs["linear_before_reset"]
    apart = 2 * hidden if reset_first else width
    weight, bias, padded = packed(0, apart)
    weight_new, bias_new, padded_new = packed(apart, width) if reset_first else (weight, bias, 0)
    nonlinearity = (node.attrs["nonlinearity"],) if node.op == "rnn" else None
    record = {
        "weight": weight,
        "bias": bias,
        "weight_new": weight_new,
        "bias_new": bias_new,
        "channels": apart,
        "padded": padded,
        "padded_new": padded_new,
        "kind": low.kernels.RECURRENT["gru_reset_first" if reset_first else node.op],
        "steps": steps,
        "size": hidden,
        "gates": gates,
        "cells": node.attrs.get("cells", False),
        "activation": low.activation(nonlinearity),
    }
    product = Part(node.name, "linear", (), {}, {r: both(f"{r}_ih", 0, width) for r in ("weight", "bias")})
    if not low.double and rows:
        low.together = max(low.together, -(-_TILES * low.kernels.MR // rows))

    def cut(images: int) -> tuple[int, int, int, int]:
        total = rows * images
        block = min(_TILES * low.kernels.MR, total)
        if images == 1:
            block = share(block, total, count, low.threads)
        return rows, block, count, (block * (gates + 2) + 1) * hidden * low.dtype.itemsize

    def emit() -> None:
        pixels = rows * steps
        x = low.temporary(pixels, 1, count * width)
        emit_product(low, product, low.tensor(read), x, pixels)
        y = low.result(value).reshaped(pixels, 1, prod(value.shape[-1:]))
        z = None if state is None else low.tensor(state).reshaped(rows, 1, state.value.shape[-1])
        work = rows * steps * count * width * hidden
        low.emit(
            Step(
                "recurrent",
                node.name,
                Ref(x),
                Ref(y),
                record,
                z=None if z is None else Ref(z),
                label=node.op,
                work=work,
                cut=cut,
                serial=low.double,
            )
        )

    return emit


LOWER = dict.fromkeys(GATES, _recurrent)
