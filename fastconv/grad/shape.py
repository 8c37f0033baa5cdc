"""What moves elements: their gradients go the same way back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import functional as F
from ..graph.padding import pad_positions
from .rule import Array, Backward, Rule, of_input, summed_to

__all__ = ["RULES"]


def _unfold(input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Array, Backward]:
    y = F.unfold(input, kernel_size, dilation, padding, stride)
    shape = np.shape(input)

    def gradient(g: Array) -> Array:
        return F.fold(g, shape[-2:], kernel_size, dilation, padding, stride) if g.size else np.zeros(shape, g.dtype)

    return y, of_input(gradient)


def _fold(
    input: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Array, Backward]:
    y = F.fold(input, output_size, kernel_size, dilation, padding, stride)
    return y, of_input(lambda g: F.unfold(g, kernel_size, dilation, padding, stride))


def _pad(input: Any, pad: Any, mode: Any, value: Any) -> tuple[Array, Backward]:
    y = F.pad(input, pad, mode, value)
    if mode == "constant":
        return y, of_input(lambda g: F.pad(g, [-int(width) for width in pad]))
    shape = np.shape(input)
    widths = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]  # the last axis first

    def gradient(g: Array) -> Array:
        for place, (before, after) in enumerate(widths):
            axis = len(shape) - 1 - place
            g = _gathered(g, axis, pad_positions(shape[axis], before, after, mode), shape[axis])
        return np.ascontiguousarray(g)

    return y, of_input(gradient)


def _gathered(g: Array, axis: int, positions: Any, size: int) -> Array:
    """Add each index of an axis to where it came from."""
    found = np.zeros((size, *np.delete(g.shape, axis)), g.dtype)
    np.add.at(found, np.asarray(positions), np.moveaxis(g, axis, 0))
    return np.moveaxis(found, 0, axis)


def _permute(input: Any, dims: Any) -> tuple[Array, Backward]:
    y = F.permute(input, dims)
    back = [int(axis) for axis in np.argsort([int(dim) % max(y.ndim, 1) for dim in dims])]
    return y, of_input(lambda g: F.permute(g, back))


def _transpose(input: Any, dim0: Any, dim1: Any) -> tuple[Array, Backward]:
    return F.transpose(input, dim0, dim1), of_input(lambda g: F.transpose(g, dim0, dim1))


def _flip(input: Any, dims: Any) -> tuple[Array, Backward]:
    return F.flip(input, dims), of_input(lambda g: F.flip(g, dims))


def _roll(input: Any, shifts: Any, dims: Any) -> tuple[Array, Backward]:
    back = [-int(shift) for shift in shifts] if isinstance(shifts, (tuple, list)) else -int(shifts)
    return F.roll(input, shifts, dims), of_input(lambda g: F.roll(g, back, dims))


def _cat(tensors: Any, dim: Any) -> tuple[Array, Backward]:
    y = F.cat(tensors, dim)
    axis = int(dim) % y.ndim

    def backward(g: Array, wanted: Any) -> dict[str, tuple[Array, ...]]:
        sizes = [0 if np.shape(array) == (0,) else np.shape(array)[axis] for array in tensors]
        parts = np.split(g, np.cumsum(sizes)[:-1], axis)
        pairs = zip(parts, tensors, strict=True)
        return {"tensors": tuple(np.ascontiguousarray(part).reshape(np.shape(array)) for part, array in pairs)}

    return y, backward


def _stack(tensors: Any, dim: Any) -> tuple[Array, Backward]:
    y = F.stack(tensors, dim)
    return y, lambda g, wanted: {"tensors": tuple(np.array(part) for part in np.moveaxis(g, int(dim), 0))}


def _index_select(input: Any, dim: Any, index: Any) -> tuple[Array, Backward]:
    y = F.index_select(input, dim, index)
    shape = np.shape(input) or (1,)
    where = np.asarray(index).reshape(-1)
    axis = int(dim) % len(shape)

    def gradient(g: Array) -> Any:
        moved = g.reshape(*shape[:axis], len(where), *shape[axis + 1 :])
        return np.ascontiguousarray(_gathered(moved, axis, where, shape[axis])).reshape(np.shape(input))

    return y, of_input(gradient)


def _reshaped(y: Array, input: Any) -> tuple[Array, Backward]:
    """Return the rule's result for a function that keeps the order of elements."""
    return y, of_input(lambda g: g.reshape(np.shape(input)).copy())


def _reshape(input: Any, shape: Any) -> tuple[Array, Backward]:
    return _reshaped(F.reshape(input, shape), input)


def _flatten(input: Any, start_dim: Any, end_dim: Any) -> tuple[Array, Backward]:
    return _reshaped(F.flatten(input, start_dim, end_dim), input)


def _broadcast_to(input: Any, shape: Any) -> tuple[Array, Backward]:
    y = F.broadcast_to(input, shape)

    def gradient(g: Array) -> Array:
        return summed_to(np.shape(input), g) if prod(g.shape) else np.zeros(np.shape(input), g.dtype)

    return y, of_input(gradient)


RULES: dict[str, Rule] = {
    "broadcast_to": _broadcast_to,
    "cat": _cat,
    "flatten": _flatten,
    "flip": _flip,
    "fold": _fold,
    "index_select": _index_select,
    "pad": _pad,
    "permute": _permute,
    "reshape": _reshape,
    "roll": _roll,
    "stack": _stack,
    "transpose": _transpose,
    "unfold": _unfold,
}
