"""Images and signals of another size, and the exchange of channels for pixels."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ShapeError
from ....graph.attributes import MAX_INTEGER, shown
from ....graph.ops.resize import PADDING_MODES, nearest_pixels
from ..values import Value
from .conv import image, like_signal
from .linear import times, turned
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_CUBIC = -0.75  # the coefficient of PyTorch, and ONNX's default

# (mode, coordinate_transformation_mode) -> interpolate's mode and align_corners; for "nearest" see `_nearest`.
_SMOOTH = {
    ("linear", "half_pixel"): ("bilinear", False),
    ("linear", "pytorch_half_pixel"): ("bilinear", False),
    ("linear", "align_corners"): ("bilinear", True),
    ("cubic", "half_pixel"): ("bicubic", False),
    ("cubic", "pytorch_half_pixel"): ("bicubic", False),
    ("cubic", "align_corners"): ("bicubic", True),
}
_OF_SIGNALS = {"bilinear": "linear"}


@FUNCTIONS("Resize", sized=True)
def _resize(
    reader: Reader,
    x: Value,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    mode: str,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "asymmetric",
    cubic_coeff_a: float = _CUBIC,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    nearest_mode: str = "floor",
) -> Value:
    if reader.opset < 11:  # the scales came second, and what are attributes now was as the defaults above
        scales = roi
    if antialias or keep_aspect_ratio_policy != "stretch":
        raise reader.unsupported("with antialias or keep_aspect_ratio_policy")
    if cubic_coeff_a != _CUBIC or exclude_outside:
        raise reader.unsupported(f"with cubic_coeff_a={cubic_coeff_a:g}, exclude_outside={exclude_outside}")
    x = reader.plain(x)
    before = reader.sizes(x)[1:]
    after, factors = _target(reader, x, scales, sizes, axes)
    if after == before:
        return x
    if min(after) < 1:
        raise ShapeError(f"cannot resize {before} to {after}")
    reader.charge(4 * sum(after))  # it is compiled to tables of positions
    place = coordinate_transformation_mode
    if mode == "nearest":
        found = _nearest(before, after, factors, place, nearest_mode)
    else:
        # Where one pixel comes out, this one takes the first instead of the middle.
        first = place == "pytorch_half_pixel" and any(1 == out != size for size, out in zip(before, after, strict=True))
        found = None if first else _SMOOTH.get((mode, place))
    if found is None:
        rounding = f" and nearest_mode={nearest_mode}" if mode == "nearest" else ""
        raise reader.unsupported(f"with mode={mode}, coordinate_transformation_mode={place}{rounding}")
    lifted = 2 - len(before)
    to: dict[str, Any] = {"size": (*[1] * lifted, *after)}
    if factors is not None:  # which hold for images of any size
        to = {"scale_factor": (*[1.0] * lifted, *factors)}
    own = _OF_SIGNALS.get(found[0], found[0]) if lifted else found[0]
    y = reader.emit("interpolate", image(reader, x), mode=own, align_corners=found[1], **to)
    return like_signal(reader, y, x)


@FUNCTIONS("Upsample", sized=True)
def _upsample(reader: Reader, x: Value, given: Any = None, *, mode: str, scales: list[float] | None = None) -> Value:
    factors = given if scales is None else np.array(scales, np.float32)
    return _resize(reader, x, factors, factors, mode=mode)


def _target(
    reader: Reader, x: Value, scales: Any, sizes: Any, axes: list[int] | None
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Return the size of the pixels' axes, and the factors that lead there where they are given."""
    rank, before = len(x.axes), reader.sizes(x)[1:]
    if rank not in (3, 4):
        raise reader.unsupported(f"over {max(rank - 2, 0)} axes")
    chosen = list(range(rank)) if axes is None else [reader.axis(x, axis) for axis in axes]
    by_size = _given(sizes)
    wanted = sizes if by_size else scales
    if not _given(wanted):
        raise reader.error("needs scales or sizes")
    results = set()
    for batch, array in zip(reader.batches, reader.each(wanted), strict=True):
        values = reader.ints("sizes", array) if by_size else _factors(reader, array)
        if len(values) != len(chosen) or len(set(chosen)) != len(chosen):
            raise reader.error(f"has {len(values)} sizes or scales for {len(chosen)} axes")
        full = dict(enumerate(reader.shape(x, batch) if by_size else [1.0] * rank)) | dict(
            zip(chosen, values, strict=True)
        )
        if (full[0], full[1]) != (reader.shape(x, batch)[:2] if by_size else (1, 1)):
            raise reader.unsupported("of the batch or the channels")
        results.add(tuple(full[axis] for axis in range(2, rank)))
    if len(results) != 1:
        raise reader.unsupported("with a number that depends on the size of the batch")
    (result,) = results
    if by_size:
        return tuple(int(size) for size in result), None
    exact = [size * factor for size, factor in zip(before, result, strict=True)]
    if max(exact) > MAX_INTEGER:
        raise ShapeError(f"scales {result} are too large for {before}")
    return tuple(map(floor, exact)), result


def _given(value: Any) -> bool:
    """Whether an optional input is there; some exporters write an empty one."""
    return value is not None and not (isinstance(value, np.ndarray) and value.size == 0)


def _factors(reader: Reader, array: np.ndarray) -> list[float]:
    if array.dtype.kind != "f" or array.ndim != 1 or not np.all(np.isfinite(array) & (array > 0)):
        raise reader.error(f"scales must be positive numbers, got {array.dtype} of shape {array.shape}")
    return [float(value) for value in array]


def _nearest(
    before: Sequence[int], after: Sequence[int], factors: Sequence[float] | None, place: str, rounding: str
) -> tuple[str, bool] | None:
    """Return the mode of `interpolate` that takes the same pixels, or None where neither does."""
    if (place, rounding) == ("asymmetric", "floor"):
        return "nearest", False
    scales: Sequence[float | None] = factors or [None] * len(before)
    axes = list(zip(before, after, scales, strict=True))
    if any(factor is not None and size * factor != out for size, out, factor in axes):
        return None
    wanted = [_positions(size, out, place, rounding) for size, out, _ in axes]
    for mode in ("nearest", "nearest-exact"):
        ours = [nearest_pixels(size, out, factor, mode) for size, out, factor in axes]
        if all(one is not None and np.array_equal(one, two) for one, two in zip(wanted, ours, strict=True)):
            return mode, False
    return None


def _positions(size: int, out: int, place: str, rounding: str) -> np.ndarray | None:
    """Return the pixel that each output takes by ONNX's rules, in integers; None for rules that are not known."""
    i = np.arange(out)
    # The position of an output is a fraction of these.
    if place == "asymmetric":
        above, below = i * size, out
    elif place == "half_pixel" or (place == "pytorch_half_pixel" and out > 1):
        above, below = (2 * i + 1) * size - out, 2 * out
    elif place == "align_corners" and out > 1:
        above, below = i * (size - 1), out - 1
    elif place in ("align_corners", "pytorch_half_pixel"):
        above, below = 0 * i, 1
    else:
        return None
    rounded = {
        "floor": above // below,
        "ceil": -(-above // below),
        "round_prefer_floor": -((below - 2 * above) // (2 * below)),
        "round_prefer_ceil": (2 * above + below) // (2 * below),
    }
    return np.clip(rounded[rounding], 0, size - 1) if rounding in rounded else None


# ONNX's modes of GridSample, before opset 20 and since -> PyTorch's.
_GRID_MODES = {
    **dict.fromkeys(("bilinear", "linear"), "bilinear"),
    **dict.fromkeys(("bicubic", "cubic"), "bicubic"),
    "nearest": "nearest",
}


@FUNCTIONS("GridSample", sized=True)
def _grid_sample(reader: Reader, x: Value, grid: Any, *, mode: str, padding_mode: str, align_corners: int) -> Value:
    if mode not in _GRID_MODES or padding_mode not in PADDING_MODES:
        raise reader.error(f"has mode={shown(mode)} and padding_mode={shown(padding_mode)}, which it does not know")
    attrs: dict[str, Any] = {
        "mode": _GRID_MODES[mode],
        "padding_mode": padding_mode,
        "align_corners": bool(align_corners),
    }
    if isinstance(grid, Value):
        return reader.emit("grid_sample", x, grid, **attrs)
    images = [image for array in reader.each(grid) for image in (array if array.ndim == 4 else ())]
    if not images or any(image.tobytes() != images[0].tobytes() for image in images):
        raise reader.unsupported("with a constant grid that is not (N, H, W, 2), or differs between images")
    return reader.emit("grid_sample", x, weights={"grid": reader.weight(images[0])}, **attrs)


@FUNCTIONS("AffineGrid", sized=True)
def _affine_grid(reader: Reader, theta: Value, size: Any, *, align_corners: int) -> Value:
    """A constant grid of an image's pixels, times the network's matrix."""
    sizes = [reader.ints("size", array) for array in reader.each(size)]
    height, width = sizes[0][2:] if len(sizes[0]) == 4 else (0, 0)
    if any(one[2:] != [height, width] for one in sizes) or min(height, width) < 1:
        raise reader.unsupported(f"of size {sizes[0]}")
    reader.charge(3 * height * width)
    y, x = (_places(count, bool(align_corners)) for count in (height, width))
    pixels = np.stack([np.tile(x, height), np.repeat(y, width), np.ones(height * width)], 1)
    grid = turned(times(reader, theta, reader.weight(pixels)))
    return reader.reshape(grid, [(*reader.shape(theta, batch)[:1], height, width, 2) for batch in reader.batches])


def _places(count: int, align_corners: bool) -> np.ndarray:
    """Where pixels lie along an axis from -1 to 1."""
    if align_corners:
        return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    return (2 * np.arange(count) + 1) / count - 1


@FUNCTIONS("DepthToSpace")
def _depth_to_space(reader: Reader, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """CRD is PyTorch's order of channels; in DCR the places in a block come before the channels."""
    if _order(reader, mode) == "DCR":
        x = reader.emit("channel_shuffle", x, groups=_block(reader, blocksize) ** 2)
    return reader.emit("pixel_shuffle", x, upscale_factor=_block(reader, blocksize))


@FUNCTIONS("SpaceToDepth")
def _space_to_depth(reader: Reader, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    channels = reader.sizes(reader.plain(x))[0]
    y = reader.emit("pixel_unshuffle", x, downscale_factor=_block(reader, blocksize))
    return y if _order(reader, mode) == "CRD" else reader.emit("channel_shuffle", y, groups=max(1, channels))


def _block(reader: Reader, size: int) -> int:
    if not 1 <= size <= 2**15:
        raise reader.error(f"blocksize must be from 1 to {2**15}, got {size}")
    return size


def _order(reader: Reader, mode: str) -> str:
    if mode not in ("DCR", "CRD"):
        raise reader.error(f"mode must be DCR or CRD, got {mode!r}")
    return mode
