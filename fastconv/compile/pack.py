"""Weights in the order the kernels read them: done once per layer, when a network is compiled."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["aligned", "panels", "per_channel", "pixel_blocks", "winograd"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_ALIGN = 64  # bytes: a vector load that straddles cache lines costs two


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of zeros whose data begins on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    values: Array = raw[start : start + size].view(dtype).reshape(shape)
    return values


def per_channel(values: Array | None, groups: int, channels: int, padded: int, dtype: Any) -> Array:
    """Return one value per output channel, each group's padded with zeros. values: (groups * channels,) or None"""
    out = aligned((groups, padded), dtype)
    if values is not None:
        out[:, :channels] = values.reshape(groups, channels)
    return out


def padded_channels(channels: int, vector: int, panel: int) -> int:
    """Return how many channels the panels of one group hold: full panels, the last perhaps of one vector."""
    full, rest = divmod(channels, panel)
    return full * panel + (0 if rest == 0 else vector if rest <= vector else panel)


def panels(weight: Array, groups: int, vector: int, panel: int) -> Array:
    """Pack (groups * O, K) into panels of (K, panel) floats, the last of each group perhaps (K, vector); flat."""
    channels, k = weight.shape[0] // groups, weight.shape[1]
    padded = padded_channels(channels, vector, panel)
    out = aligned((groups, padded * k), weight.dtype)
    full = channels // panel
    for group in range(groups):
        rows = weight[group * channels : (group + 1) * channels]
        head = out[group, : full * panel * k].reshape(full, k, panel)
        head[...] = rows[: full * panel].reshape(full, panel, k).transpose(0, 2, 1)
        if padded > full * panel:
            tail = out[group, full * panel * k :].reshape(k, padded - full * panel)
            tail[:, : channels - full * panel] = rows[full * panel :].T
    return out


def pixel_blocks(weight: Array, block: int) -> Array:
    """Pack (O, K) into (ceil(O / block), K, block), the pixel kernel's order."""
    channels, k = weight.shape
    blocks = -(-channels // block)
    out = aligned((blocks, k, block), weight.dtype)
    for b in range(blocks):
        rows = weight[b * block : (b + 1) * block]
        out[b, :, : len(rows)] = rows.T
    return out


# Transforms of three taps, by stride: kernels/transforms.pxi says which points these are.
_G = {
    1: np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    ),
    2: np.array([[1 / 2, 0, 0], [-1 / 2, 0, -1 / 2], [-1 / 6, 0, 1 / 6], [1 / 6, 0, 1 / 3], [0, 0, 1], [0, 1, 0]]),
}


def winograd(weight: Array, stride: int, vector: int, panel: int) -> Array:
    """Transform (O, I, 3, 3) to Winograd's 36 matrices, G g G^T in float64; pack each: (36, panels of (I, panel))."""
    g = _G[stride]
    points = np.einsum("xi,ocij,yj->xyoc", g, weight.astype(np.float64), g, optimize=True)
    matrices = points.reshape(36, *weight.shape[:2]).astype(weight.dtype)
    first = panels(matrices[0], 1, vector, panel)
    out = aligned((36, first.size), weight.dtype)
    for point, matrix in enumerate(matrices):
        out[point] = panels(matrix, 1, vector, panel)
    return out
