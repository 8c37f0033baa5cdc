"""Resizing and cropping images as a model's `Preprocessing` says: the pixels that torchvision's transforms give.

With antialiasing, which is the rule, Pillow resizes: it is what torchvision calls for PIL images. Without,
bilinear and bicubic are the few lines of NumPy below, which do what torchvision does with uint8 tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MissingExtraError, ShapeError
from .graph.preprocessing import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .graph.preprocessing import Preprocessing

__all__ = ["fitted"]

CUBIC = -0.75
"""The parameter of PyTorch's bicubic interpolation without antialiasing; with it, PyTorch and Pillow have -0.5."""

WEIGHT_LIMIT = 1 << 15
"""Weights are integers below it, with as many bits behind the point as that allows."""


def fitted(image: Any, preprocessing: Preprocessing, what: str) -> NDArray[np.uint8]:
    """Resize and crop one image.

    Parameters
    ----------
    image
        A PIL image in the network's mode, or uint8 (H, W, C).
    preprocessing
        What to do.
    what
        How errors name the image.

    Returns
    -------
    ndarray, uint8, (height, width, C)

    Raises
    ------
    fastconv.ShapeError
        The image is empty, or would become larger than `MAX_PIXELS`.
    fastconv.errors.MissingExtraError
        Pillow is needed and not installed.
    """
    height, width = image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)
    if not height or not width:
        raise ShapeError(f"{what}: the image is empty, {height}x{width} pixels (height x width)")
    new = preprocessing.resized(height, width)
    if new[0] * new[1] > MAX_PIXELS:
        raise ShapeError(
            f"{what}: {height}x{width} pixels (height x width) would be resized to {new[0]}x{new[1]}, more than "
            f"{MAX_PIXELS} pixels; crop the image first"
        )
    if new != (height, width):
        image = _resized(image, new, preprocessing, what)
    pixels = np.atleast_3d(np.asarray(image))
    return pixels if preprocessing.crop_size is None else _center_crop(pixels, preprocessing.crop_size)


def _center_crop(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut `size` out of the middle, after adding zeros around what is smaller; rounded as in torchvision."""
    padding = []
    for axis, side in enumerate(size):
        missing = max(0, side - pixels.shape[axis])
        padding.append((missing // 2, missing - missing // 2))
    if any(map(any, padding)):
        pixels = np.pad(pixels, (*padding, (0, 0)))
    top, left = (round((pixels.shape[axis] - side) / 2) for axis, side in enumerate(size))
    return pixels[top : top + size[0], left : left + size[1]]


def _resized(image: Any, size: tuple[int, int], preprocessing: Preprocessing, what: str) -> Any:
    """Resize a PIL image or uint8 (H, W, C) to (height, width)."""
    interpolation = preprocessing.interpolation
    taps = None if preprocessing.antialias else _TAPS.get(interpolation)
    if taps is not None:
        pixels = np.atleast_3d(np.asarray(image))
        for axis in (1, 0):  # the width first, and uint8 between, as in Pillow and PyTorch
            if pixels.shape[axis] != size[axis]:
                pixels = _interpolated(pixels, axis, size[axis], taps)
        return pixels
    try:
        from PIL import Image
    except ImportError:
        height, width = image.shape[:2]  # no Pillow, so it is an array
        raise MissingExtraError(
            f"{what}: resizing {height}x{width} pixels to {size[0]}x{size[1]} needs Pillow; "
            'pip install "fastconv[images]", or resize the image yourself'
        ) from None
    target, resample = (size[1], size[0]), Image.Resampling[interpolation.upper()]
    if not isinstance(image, np.ndarray):
        return image.resize(target, resample)
    # four channels of an array need not be RGBA
    planes = [image] if image.shape[2] in (1, 3) else np.moveaxis(image, 2, 0)
    small = [np.atleast_3d(np.asarray(Image.fromarray(_plane(part)).resize(target, resample))) for part in planes]
    return np.concatenate(small, axis=2)


def _plane(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, C) as Pillow takes it: one channel has no axis."""
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


# --- without antialiasing -------------------------------------------------------------------------


def _interpolated(
    pixels: NDArray[np.uint8], axis: int, size: int, taps: Callable[[Any], dict[int, Any]]
) -> NDArray[np.uint8]:
    """Resize one axis of uint8 (H, W, C): a new pixel is a weighted sum of its neighbours, in PyTorch's integers."""
    old = pixels.shape[axis]
    place = (np.arange(size) + 0.5) * (old / size) - 0.5  # align_corners=False
    first = np.floor(place)
    found = taps(place - first)
    weights = np.stack(list(found.values()))
    indices = np.clip(first + np.array(list(found))[:, np.newaxis], 0, old - 1).astype(np.intp)
    for k in range(1, len(weights)):  # neighbours beyond the border are the pixel there: one weight for all of them
        doubled = indices[k - 1] == indices[k]
        weights[k] += np.where(doubled, weights[k - 1], 0)
        weights[k - 1][doubled] = 0
    bits = 0
    while int(0.5 + weights.max() * 2 ** (bits + 1)) < WEIGHT_LIMIT:
        bits += 1
    shape = [1, 1, 1]
    shape[axis] = size
    total = np.int32(1 << (bits - 1))  # rounds half up
    for index, weight in zip(indices, weights, strict=True):
        scaled = np.trunc(weight * 2**bits + np.copysign(0.5, weight)).astype(np.int32)
        total = total + np.take(pixels, index, axis).astype(np.int32) * scaled.reshape(shape)
    new: NDArray[np.uint8] = np.clip(total >> bits, 0, 255).astype(np.uint8)
    return new


def _linear(t: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    return {0: 1 - t, 1: t}


def _cubic(t: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    """Keys' convolution kernel, at the distances of four neighbours."""
    a = CUBIC

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return {-1: far(t + 1), 0: near(t), 1: near(1 - t), 2: far(2 - t)}


_TAPS = {"bilinear": _linear, "bicubic": _cubic}
