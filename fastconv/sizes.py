"""Images of other sizes: which size an image has, and the models that were compiled for sizes seen before.

A dynamic model is compiled for its nominal size. For another it is compiled when that is first seen, and the
result is kept until sizes seen later take its place. One lock is held while a model is compiled, none while one runs.
"""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import FastconvError, ShapeError
from .images import _is_list_of_images, _is_pil

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Model

__all__ = ["KEPT", "KEPT_BYTES", "Sizes"]

KEPT = 8
"""Sizes that are kept beside the nominal one, at most."""

KEPT_BYTES = 512 << 20
"""Memory that they take at most, by estimate: weights, which each has packed for itself, and workspace. The newest is
kept in any case."""


_PACKED = 3  # bytes of packed weights for each of plain ones; 2.2 to 3 were measured for ResNet-18 with Winograd's

Shape = tuple[int, ...]

_lock = threading.Lock()


def _renew_lock() -> None:
    """After a fork: the thread that held the lock is not in this process."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _Kept:
    """A model for one size, and when it was used."""

    __slots__ = ("model", "nbytes", "used")

    def __init__(self, model: Model) -> None:
        self.model = model
        weights = sum(array.nbytes for node in model._graph.nodes for array in node.weights.values())
        self.nbytes = _PACKED * weights + model._program.workspace_bytes
        self.used = monotonic()


class Sizes:
    """The models of one network for sizes other than its own; any thread may ask at any time.

    Parameters
    ----------
    nominal
        (C, H, W), which is left to the caller: no model is made for it.
    make
        Compiles the network for images of a shape.
    """

    def __init__(self, nominal: Shape, make: Callable[[Shape], Model]) -> None:
        self._nominal = nominal
        self._make = make
        self._kept: dict[Shape, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def for_array(self, array: np.ndarray) -> Model | None:
        """Return the model for (C, H, W) or (N, C, H, W); None where that is of the nominal size, or no image."""
        rank = len(self._nominal)
        if array.ndim not in (rank, rank + 1):
            return None
        shape = array.shape[-rank:]
        return None if shape == self._nominal or shape[0] != self._nominal[0] else self._model(shape)

    def for_images(self, images: Any, what: str) -> Model | None:
        """Return the model for what `Model.predict` takes; None where its size is nominal, or not to be told.

        what: the method, for errors.
        """
        if len(self._nominal) != 3:
            return None
        size = self._size_of(images, what)
        if size is None or size == self._nominal[1:]:
            return None
        return self._model((self._nominal[0], *size))

    def _model(self, shape: Shape) -> Model:
        kept = self._kept.get(shape)
        if kept is None:
            with _lock:
                kept = self._kept.get(shape)
                if kept is None:
                    kept = self._compile(shape)
        kept.used = monotonic()
        return kept.model

    def _compile(self, shape: Shape) -> _Kept:
        try:
            kept = _Kept(self._make(shape))
        except FastconvError as error:
            raise type(error)(f"images of shape {shape}: {error}") from None
        self._kept[shape] = kept
        total = 0
        newest_first = sorted(self._kept.items(), key=lambda item: (item[1] is kept, item[1].used), reverse=True)
        for count, (key, other) in enumerate(newest_first, 1):
            total += other.nbytes
            if count > 1 and (count > KEPT or total > KEPT_BYTES):
                del self._kept[key]
                total -= other.nbytes
        return kept

    def _size_of(self, images: Any, what: str) -> Shape | None:
        """Return (H, W) of an image, or of the first of several."""
        if _is_list_of_images(images):
            return self._size_of(images[0], what) if images else None
        if isinstance(images, (str, os.PathLike)):
            try:
                from PIL import Image
            except ImportError:  # said by the one who opens it
                return None
            with Image.open(images) as image:  # reads no pixels
                return (image.height, image.width)
        if _is_pil(images):
            return (images.height, images.width)
        return _pixels(np.shape(images), self._nominal, what)


def _pixels(shape: Shape, nominal: Shape, what: str) -> Shape | None:
    """Return (H, W) of an array of pixels, by the place of its channels; None where it has them nowhere."""
    channels = nominal[0]
    readings: set[Shape] = set()
    if len(shape) in (3, 4):
        if shape[-3] == channels:  # (N,) C, H, W
            readings.add(shape[-2:])
        if shape[-1] == channels:  # (N,) H, W, C
            readings.add(shape[-3:-1])
    if channels == 1 and len(shape) in (2, 3):  # (N,) H, W
        readings.add(shape[-2:])
    # Where there is another way to read it, an axis of 1 is that of the channels or the batch.
    likely = readings & {nominal[1:]} or {size for size in readings if 1 not in size} or readings
    if len(likely) > 1:
        raise ShapeError(
            f"{what}: {shape} can be read as channels first and as channels last; pass a PIL image, or call model(x) "
            "on a float array (N, C, H, W)"
        )
    return next(iter(likely), None)
