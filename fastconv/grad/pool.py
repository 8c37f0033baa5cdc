"""Pooling: a maximum's gradient goes to where it stood, the first of equal ones; a mean's to all of its window."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..functional.one_op import floats, one_node, threads
from ..machine.cpu import kernels
from .rule import Array, Backward, Rule, of_input

__all__ = ["RULES"]

_pool_gradient = kernels().pool_gradient


def _maximum(function: str) -> Rule:
    call = getattr(F, function)

    def rule(input: Any, return_indices: bool, **attributes: Any) -> tuple[Any, Backward]:
        y, places = call(input, return_indices=True, **attributes)
        own = places.copy() if return_indices else places  # the caller may change those that it gets
        shape = np.shape(input)
        signals = function.endswith("1d")

        def gradient(g: Array) -> Any:
            images = (g[..., np.newaxis, :], (*shape[:-1], 1, shape[-1])) if signals else (g, shape)
            found: Array = _pool_gradient(images[0], own, None, None, 0.0, images[1], threads())
            return found.reshape(shape)

        return ((y, places) if return_indices else y), of_input(gradient)

    return rule


def _mean(function: str) -> Rule:
    call = getattr(F, function)
    op, signals = function.replace("1d", "2d"), function.endswith("1d")

    def rule(input: Any, **attributes: Any) -> tuple[Array, Backward]:
        y: Array = call(input, **attributes)
        x = floats(function, input=input)["input"]

        def gradient(g: Array) -> Any:
            shape = (*x.shape[:-1], 1, x.shape[-1]) if signals else x.shape
            lifted = {name: _lifted(name, value) if signals else value for name, value in attributes.items()}
            image = np.broadcast_to(x.dtype.type(0), (0, *shape[-3:]))
            node = one_node(op, image, lifted).nodes[0]
            out = (*g.shape[:-1], 1, g.shape[-1])[-2:] if signals else g.shape[-2:]
            rows, cols = (_windows(node.attrs, axis, shape[axis - 2], out[axis]) for axis in (0, 1))
            divisor = float(node.attrs.get("divisor_override") or 0)
            images = g[..., np.newaxis, :] if signals else g
            found: Array = _pool_gradient(images, None, rows, cols, divisor, shape, threads())
            return found.reshape(x.shape)

        return y, of_input(gradient)

    return rule


def _lifted(name: str, value: Any) -> Any:
    """Return a size along a signal as one of images of height 1."""
    if value is None or isinstance(value, bool):
        return value
    height = 0 if name == "padding" else 1
    return (height, *value) if isinstance(value, (tuple, list)) and value else (height, value) if value != [] else None


def _windows(attrs: Any, axis: int, size: int, out: int) -> Array:
    """Return a table of the windows along an axis, as the kernels take it."""
    if "output_size" in attrs:
        return kernels().adaptive_windows(size, out)
    kernel, stride, padding = (attrs[name][axis] for name in ("kernel_size", "stride", "padding"))
    return kernels().pool_windows(size, kernel, stride, padding, 1, out, attrs["count_include_pad"])


RULES: dict[str, Rule] = {
    **{name: _maximum(name) for name in ("max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")},
    **{name: _mean(name) for name in ("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")},
}
