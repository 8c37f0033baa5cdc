"""What `Model.predict` accepts, turned into the batch that the network takes.

Every image becomes float32 (C, H, W), PyTorch's layout. PIL images, files and uint8 are resized and cropped where the
model says how (`graph.preprocessing`) and scaled, to 0..1 unless it says otherwise; floats are used as they are. Then
the model's mean and std are applied (`preprocessing`). Nothing is guessed: what does not fit, or fits in two ways, is
refused with the remedy.

    PIL image                        converted to the network's channels with ``img.convert``
    uint8    HxW, HxWxC, CxHxW       a batch: NxHxW, NxHxWxC, NxCxHxW
    float    HxW, HxWxC, CxHxW       a batch: NxHxW, NxHxWxC, NxCxHxW
    path                             opened with Pillow; the orientation in its EXIF data is left alone
    list or tuple of any of these    a batch
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, MissingExtraError, ShapeError
from .preprocessing import normalized, scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .graph import Graph
    from .graph.preprocessing import Preprocessing

__all__ = ["to_batch"]

_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_batch(images: Any, graph: Graph) -> tuple[np.ndarray, bool]:
    """Turn what `Model.predict` was given into a batch.

    Parameters
    ----------
    images
        One image or several, in any of the forms listed on top of this module.
    graph
        The network: its ``input_shape`` and ``preprocessing`` are read.

    Returns
    -------
    batch : ndarray, float32, (N, *input_shape), C-contiguous
        A fresh array; ``images`` is never modified.
    single : bool
        Whether one image was given (then N is 1), rather than a batch.

    Raises
    ------
    fastconv.ShapeError
        The size or the channels are not the network's, or the layout is ambiguous.
    fastconv.errors.DTypeError
        The dtype does not tell the scale of the pixels (integers other than uint8), or is not real.
    fastconv.errors.MissingExtraError
        A path was given, or an image has to be resized, and Pillow is not installed.
    """
    if _is_list_of_images(images):
        batch = np.empty((len(images), *graph.input_shape), np.float32)
        for index, image in enumerate(images):
            one, single = _one_to_batch(image, graph, f"predict: image {index}")
            if not single:
                raise ShapeError(
                    f"predict: image {index} of the list is itself a batch of {len(one)}; "
                    "pass one array, or a list of single images"
                )
            batch[index] = one[0]
        return batch, False
    return _one_to_batch(images, graph, "predict")


def _one_to_batch(image: Any, graph: Graph, what: str) -> tuple[np.ndarray, bool]:
    shape = graph.input_shape
    if isinstance(image, (str, os.PathLike)):
        image = _open(image, what)
    if _is_pil(image):
        image = _converted(image, shape, what)
    else:
        try:
            image = np.asarray(image)
        except ValueError as error:
            raise ShapeError(f"{what}: expects an image, got rows that differ: {error}") from None
    preprocessing = graph.preprocessing
    is_uint8 = not isinstance(image, np.ndarray) or image.dtype == np.uint8
    if preprocessing is not None and preprocessing.changes_size and is_uint8:
        pixels, single = _fitted(image, shape, preprocessing, what)
        values = _scaled(pixels, preprocessing, what)
        batch = values.transpose(0, 3, 1, 2)
    else:
        if not isinstance(image, np.ndarray):
            image = _of_size(image, shape, what)
        values = _scaled(image, preprocessing, what)
        batch, single = _arrange(values, shape, is_uint8, what)
    return normalized(np.ascontiguousarray(batch), -len(shape), graph.mean, graph.std), single


def _is_list_of_images(images: Any) -> bool:
    """Tell a list of images from a nested list of numbers, which is one array."""
    if not isinstance(images, (list, tuple)):
        return False
    return not images or not isinstance(images[0], (list, tuple, int, float))


def _is_pil(image: Any) -> bool:
    # Whoever holds a PIL image has imported PIL.Image: no import is needed to recognise one.
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(image, pil.Image)


def _open(path: str | os.PathLike[str], what: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(
            f"{what}: opening {os.fspath(path)!r} needs Pillow; pip install pillow, or pass the pixels as an array"
        ) from None
    with Image.open(path) as image:
        image.load()
        return image


def _converted(image: Any, shape: Sequence[int], what: str) -> Any:
    """Convert a PIL image to the mode that has the network's channels."""
    mode = _PIL_MODES.get(shape[0]) if len(shape) == 3 else None
    if mode is None:
        raise ShapeError(
            f"{what}: a PIL image does not fit a network whose input is {tuple(shape)}; "
            "pass a float array of that shape"
        )
    if image.mode.startswith(("I", "F")):
        raise DTypeError(
            f"{what}: the image has mode {image.mode!r}, whose white is not known; scale it to "
            "0..1 yourself and pass the float array"
        )
    return image if image.mode == mode else image.convert(mode)


def _of_size(image: Any, shape: Sequence[int], what: str) -> np.ndarray:
    """Return a PIL image of the network's size as uint8 pixels, (H, W) or (H, W, C)."""
    height, width = shape[1:]
    if image.size != (width, height):
        raise ShapeError(
            f"{what}: expects {width}x{height} pixels (width x height), the image has "
            f"{image.width}x{image.height}; resize it first: img.resize(({width}, {height}))"
        )
    return np.asarray(image)


def _fitted(
    image: Any, shape: Sequence[int], preprocessing: Preprocessing, what: str
) -> tuple[NDArray[np.uint8], bool]:
    """Resize and crop a PIL image, or uint8 pixels of any size, to uint8 (N, H, W, C); say whether it was one."""
    from .resizing import fitted

    channels, height, width = shape
    images, single = _images_of(image, channels, what) if isinstance(image, np.ndarray) else ([image], True)
    batch = np.empty((len(images), height, width, channels), np.uint8)
    for index, one in enumerate(images):
        pixels = fitted(one, preprocessing, what)
        if pixels.shape[:2] != (height, width):
            raise ShapeError(
                f"{what}: expects {height}x{width} pixels (height x width), the image has {pixels.shape[0]}x"
                f"{pixels.shape[1]} after it was resized; the model does not say how to crop it: crop it first"
            )
        batch[index] = pixels
    return batch, single


def _images_of(pixels: NDArray[np.uint8], channels: int, what: str) -> tuple[Any, bool]:
    """Read uint8 pixels of any size as images (H, W, C) by where their channels are; say whether it was one."""
    given = pixels.shape
    if channels == 1 and (pixels.ndim == 2 or (pixels.ndim == 3 and given[-1] != 1)):
        return (pixels[np.newaxis] if pixels.ndim == 2 else pixels)[..., np.newaxis], pixels.ndim == 2
    last, first = (pixels.ndim in (3, 4) and given[axis] == channels for axis in (-1, -3))
    if last and first:
        raise ShapeError(f"{what}: {given} can be read as channels first and as channels last; pass a PIL image")
    if not last and not first:
        kind = f"HxWx{channels}, {channels}xHxW" if channels > 1 else "HxW, HxWx1"
        raise ShapeError(
            f"{what}: expects {channels} channel{'s' * (channels > 1)}, as {kind} or a batch of those, got shape "
            f"{given}; convert the image first, or pass a PIL image, which is converted"
        )
    images = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    return (images if last else images.transpose(0, 2, 3, 1)), pixels.ndim == 3


def _scaled(pixels: np.ndarray, preprocessing: Preprocessing | None, what: str) -> np.ndarray:
    """Convert pixels of any accepted dtype to float32; uint8 is scaled."""
    if pixels.dtype == np.uint8:
        return scaled(pixels, None if preprocessing is None else preprocessing.factor)
    if pixels.dtype.kind in "fb":
        return pixels.astype(np.float32)
    if pixels.dtype.kind in "iu":
        raise DTypeError(
            f"{what}: pixels of dtype {pixels.dtype} do not tell their scale; pass "
            "img.astype(np.uint8) if they are 0..255, or floats in the scale the network was "
            "trained on (usually 0..1)"
        )
    raise DTypeError(
        f"{what}: expects a PIL image, a path, or an array of uint8 or floats, got something that "
        f"NumPy reads as dtype {pixels.dtype}"
    )


def _arrange(values: np.ndarray, shape: Sequence[int], is_uint8: bool, what: str) -> tuple[np.ndarray, bool]:
    """Bring an image or a batch to (N, *shape) by its axes' sizes alone; say whether it was one.

    Layouts are tried from the rank; a channels-last reading and a channels-first one can only both
    fit where C = H = W, and then neither is taken.
    """
    given = values.shape
    shape = tuple(shape)
    if len(shape) != 3:  # a network on features: there is nothing to arrange
        if given == shape:
            return values[np.newaxis], True
        if given[1:] == shape:
            return values, False
        batch = ", ".join(map(str, ("N", *shape)))
        raise ShapeError(f"{what}: expects {shape} or ({batch}), got {given}")

    channels, height, width = shape
    last = (height, width, channels)
    if channels == 1 and given == (height, width):
        return values[np.newaxis, np.newaxis], True
    if channels > 1 and shape == last and shape in (given, given[1:]):
        raise ShapeError(
            f"{what}: {given} can be read as channels first and as channels last; pass a PIL "
            "image, or call model(x) on a float array (N, C, H, W)"
        )
    # (1, H, W): for floats one CxHxW image, as model(x) takes it; for uint8 a batch of one HxW.
    if channels == 1 and given[1:] == (height, width) and (is_uint8 or given != shape):
        return values[:, np.newaxis], False
    if given == shape:
        return values[np.newaxis], True
    if given == last:
        return values.transpose(2, 0, 1)[np.newaxis], True
    if given[1:] == shape:
        return values, False
    if given[1:] == last:
        return values.transpose(0, 3, 1, 2), False
    raise _misfit(given, shape, what)


def _misfit(given: tuple[int, ...], shape: tuple[int, ...], what: str) -> ShapeError:
    """Name what is wrong with an image's shape, and the remedy."""
    channels, height, width = shape
    size = f"{height}x{width} pixels (height x width)"
    if given == (height, width) or given[1:] == (height, width):
        return ShapeError(
            f"{what}: expects {channels} channels, the image is {height}x{width} without a "
            f"channel axis; repeat it: np.stack([img] * {channels}, axis=-1), or pass a PIL image"
        )
    pixel_axes = {given[-2:], given[-3:-1]} if len(given) in (3, 4) else {given}
    if (height, width) in pixel_axes:
        return ShapeError(
            f"{what}: expects {channels} channel{'s' * (channels > 1)}, got shape {given}; convert "
            f"the image first, or pass a PIL image, which is converted"
        )
    if len(given) in (2, 3, 4):
        return ShapeError(
            f"{what}: expects {size} and {channels} channel{'s' * (channels > 1)}, got shape "
            f"{given}; resize the image first, e.g. PIL.Image.fromarray(img).resize(({width}, "
            f"{height})): nothing is resized silently"
        )
    return ShapeError(f"{what}: expects {size}, as HxW, HxWxC, CxHxW or a batch of those, got shape {given}")
