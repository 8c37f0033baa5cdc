"""Images and signals of another size, and the exchange of channels for pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....graph.attributes import MAX_INTEGER
from .conv import image, like_signal
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

# (mode, how positions are computed, how they are rounded) -> PyTorch's mode, and whether its corners are aligned. In
# pytorch_half_pixel only the position in an axis that becomes one pixel differs: it is the first one's.
_MODES: dict[tuple[str, str, str | None], tuple[str, bool]] = {
    ("nearest", "asymmetric", "floor"): ("nearest", False),
    ("nearest", "half_pixel", "round_prefer_ceil"): ("nearest-exact", False),
    **{
        (mode, positions, None): (name, aligned)
        for mode, name in (("linear", "bilinear"), ("cubic", "bicubic"))
        for positions, aligned in (("half_pixel", False), ("pytorch_half_pixel", False), ("align_corners", True))
    },
}
_KEYS = -0.75  # the parameter of PyTorch's cubic convolution


@FUNCTIONS("Resize")
def _resize(
    reader: Reader,
    x: Value,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    mode: str,
    coordinate_transformation_mode: str = "asymmetric",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = _KEYS,
    exclude_outside: int = 0,
    antialias: int = 0,
    axes: list[int] | None = None,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
) -> Value:
    """PyTorch's ways are computed; `roi` and `extrapolation_value` belong to another one."""
    if reader.opset < 11:  # positions and rounding are what they became later
        scales, nearest_mode = roi, "floor"
    kind = mode, coordinate_transformation_mode, nearest_mode if mode == "nearest" else None
    odd_cubic = mode == "cubic" and (abs(cubic_coeff_a - _KEYS) > 1e-6 or exclude_outside)
    if kind not in _MODES or antialias or keep_aspect_ratio_policy != "stretch" or odd_cubic:
        said = [mode, coordinate_transformation_mode, *([nearest_mode] if mode == "nearest" else [])]
        raise reader.unsupported(f"with {', '.join(said)}{', antialias' if antialias else ''}")
    x = reader.plain(x)
    rank = len(x.axes)
    chosen = list(range(rank)) if axes is None else [axis + rank if axis < 0 else axis for axis in axes]
    whole = [float(size) for size in reader.shape(x, 1)]
    name, aligned = _MODES[kind]
    pixels = image(reader, x)
    attrs: dict[str, Any] = {"mode": name, "align_corners": aligned}
    if scales is not None and np.size(scales):
        scale = _over_pixels(reader, "scales", scales, chosen, rank, [1.0] * rank)
        attrs["scale_factor"] = (1.0, *scale)[-2:]
    elif sizes is not None:
        each = [_over_pixels(reader, "sizes", array, chosen, rank, whole) for array in reader.each(sizes)]
        if any(one != each[0] for one in each):
            raise reader.unsupported("to a size that depends on the size of the batch")
        attrs["size"] = tuple(int(size) for size in (1, *each[0]))[-2:]
    else:
        raise reader.error("has neither scales nor sizes")
    return like_signal(reader, reader.emit("interpolate", pixels, **attrs), x)


FUNCTIONS.sized.add("Resize")


def _over_pixels(
    reader: Reader, what: str, given: Any, axes: list[int], rank: int, otherwise: list[float]
) -> tuple[float, ...]:
    """Return what each axis of the pixels has; the batch and the channels must keep their size."""
    if not isinstance(given, np.ndarray) or given.ndim != 1 or given.dtype.kind not in "fiu":
        raise reader.unsupported(f"with {what} that are computed from the input")
    if len(given) != len(axes) or sorted(axes) != sorted({axis for axis in axes if 0 <= axis < rank}):
        raise reader.error(f"{what} holds {len(given)} numbers for the axes {axes} of {rank}")
    values = dict(zip(axes, (float(value) for value in given), strict=True))
    if not all(0 < value <= MAX_INTEGER for value in values.values()):
        raise reader.error(f"{what} must be positive, got {list(values.values())}")
    if values.get(1, otherwise[1]) != otherwise[1] or (what == "scales" and values.get(0, 1.0) != 1.0):
        raise reader.unsupported("of the channels or of the batch")
    return tuple(values.get(axis, otherwise[axis]) for axis in range(2, rank))


@FUNCTIONS("Upsample")
def _upsample(reader: Reader, x: Value, scales: Any = None, *, mode: str) -> Value:
    """What Resize was called up to opset 9."""
    return _resize(reader, x, np.asarray(scales) if isinstance(scales, list) else scales, mode=mode)


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
