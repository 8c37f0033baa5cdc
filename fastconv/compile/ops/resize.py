"""Interpolation, sampling at computed places, and the exchange of channels for pixels, as steps."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph.ops.resize import nearest_pixels
from ..strided import Operand, emit_strided
from ..tensors import NCHW, Ref, Step, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER", "taps"]

_CUBIC = -0.75  # PyTorch's and OpenCV's parameter of Keys's cubic convolution


def taps(
    size: int, out: int, scale: float | None, mode: str, align_corners: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return for every output position the input positions it is made of, and their weights, both (out, taps).

    The rule of PyTorch: a pixel is an area whose middle is its position, or, with `align_corners`, a point, and the
    outermost points coincide. (Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981.)
    """
    places = np.arange(out)
    if mode.startswith("nearest"):
        return nearest_pixels(size, out, scale, mode)[:, None], np.ones((out, 1))
    if align_corners:
        at = places * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        at = (places + 0.5) * (1 / scale if scale else size / out) - 0.5
    if mode == "bilinear":
        at = np.maximum(at, 0.0)
        near, low = at.astype(np.intp), 0
    else:
        near, low = np.floor(at).astype(np.intp), -1
    t = at - near
    count = 2 if mode == "bilinear" else 4
    weights = np.stack([1 - t, t] if mode == "bilinear" else [_cubic(t + 1), _cubic(t), _cubic(1 - t), _cubic(2 - t)])
    positions = np.clip(near[:, None] + np.arange(low, low + count), 0, size - 1)
    return positions, weights.T


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys's kernel for distances in 0..2."""
    a = _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x <= 1, near, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a)


def _interpolate(low: Lowering, node: Node) -> Emit:
    (_, *sizes), (_, *out) = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    attrs, mode = node.attrs, node.attrs["mode"]
    scales: Sequence[float | None] = attrs["scale_factor"] or (None, None)
    modes = ("nearest", "bilinear") if mode == "linear" else (mode, mode)
    (rows, high), (columns, wide) = (
        taps(size, to, scale, each, attrs["align_corners"])
        for size, to, scale, each in zip(sizes, out, scales, modes, strict=True)
    )
    record = {
        "places": low.constant(np.concatenate((rows, columns), axis=None)),
        "weights": low.constant(np.concatenate((high, wide), axis=None).astype(low.dtype)),
        "high": high.shape[1],
        "wide": wide.shape[1],
    }
    read, value = low.read(node.inputs[0]), low.write(node)

    def emit() -> None:
        x, y = Ref(low.tensor(read)), Ref(low.result(value))
        work = prod(value.shape) * record["high"] * record["wide"]
        low.emit(Step("resample", node.name, x, y, record, label=f"{mode} resize", work=work))

    return emit


def _grid_sample(low: Lowering, node: Node) -> Emit:
    """Places are found as they are needed, in double: those of a constant grid too, which may be a call's."""
    attrs, shape = node.attrs, low.graph.shapes[node.name]
    taps = {"nearest": 1, "bilinear": 2, "bicubic": 4}[attrs["mode"]]
    record = {
        "mode": low.kernels.GRID_MODES[attrs["mode"]],
        "padding": low.kernels.GRID_PADDINGS[attrs["padding_mode"]],
        "taps": taps,
        "cubic": _CUBIC,
        "align_corners": attrs["align_corners"],
    }
    read, value = low.read(node.inputs[0]), low.write(node)
    computed = low.read(node.inputs[1], NCHW, contiguous=True) if len(node.inputs) > 1 else None
    constant = Tensor(1, 1, 2 * prod(shape[1:]), low.dtype)
    if computed is None:
        place = low.given(node, "grid", constant.c)
        constant.space, constant.offset, constant.strides = place["space"], place["offset"], (0, 0, 0, 1)

    def emit() -> None:
        x, y = Ref(low.tensor(read)), Ref(low.result(value))
        grid = Ref(constant if computed is None else low.tensor(computed))
        work = prod(shape) * taps**2
        low.emit(Step("sample_grid", node.name, x, y, record, z=grid, label=f"{attrs['mode']} samples", work=work))

    return emit


def _moved(low: Lowering, node: Node, sizes: Sequence[int], out_steps: Any, in_steps: Any) -> Emit:
    """A copy whose axes have these sizes; the functions give their steps for the strides (row, pixel)."""
    read, value = low.read(node.inputs[0]), low.write(node)

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        _, row, pixel, _ = x.tensor.strides
        _, out_row, out_pixel, _ = y.strides
        emit_strided(
            low,
            node,
            "copy",
            sizes,
            Operand(Ref(y), out_steps(out_row, out_pixel)),
            Operand(x, in_steps(row, pixel)),
            label=node.op,
        )

    return emit


def _pixel_shuffle(low: Lowering, node: Node) -> Emit:
    """Axes (H, r, W, s, C): channel c * r * s + i * s + j is pixel (i, j) of channel c."""
    (c, _, _), (_, h, w) = low.graph.shapes[node.name], low.graph.shapes[node.inputs[0]]
    r, s = node.attrs["upscale_factor"]
    return _moved(
        low,
        node,
        (h, r, w, s, c),
        lambda row, pixel: (r * row, row, s * pixel, pixel, 1),
        lambda row, pixel: (row, s, pixel, 1, r * s),
    )


def _pixel_unshuffle(low: Lowering, node: Node) -> Emit:
    """The same the other way."""
    (c, _, _), (_, h, w) = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    r, s = node.attrs["downscale_factor"]
    return _moved(
        low,
        node,
        (h, r, w, s, c),
        lambda row, pixel: (row, s, pixel, 1, r * s),
        lambda row, pixel: (r * row, row, s * pixel, pixel, 1),
    )


def _channel_shuffle(low: Lowering, node: Node) -> Emit:
    """Axes (H, W, groups, n)."""
    c, h, w = low.graph.shapes[node.name]
    groups = node.attrs["groups"]
    return _moved(
        low,
        node,
        (h, w, groups, c // groups),
        lambda row, pixel: (row, pixel, 1, groups),
        lambda row, pixel: (row, pixel, c // groups, 1),
    )


LOWER = {
    "interpolate": _interpolate,
    "grid_sample": _grid_sample,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
}
