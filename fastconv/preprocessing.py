"""Pixels as a network sees them: the one definition of scaling and normalisation.

uint8 is scaled to 0..1 as torchvision's ToTensor does it, or by another scale that the model has, then ``(value - mean)
/ std`` by channel, all in float32 and in torchvision's order. `images` applies it to arrays; `compile` makes the table
of it that `Program.predict` looks pixels up in, so both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["levels", "normalized", "scaled"]


def scaled(pixels: NDArray[np.uint8], scale: float | None = None) -> NDArray[np.float32]:
    """Return uint8 pixels of any shape multiplied by `scale`; by default divided by 255."""
    values: NDArray[np.float32]
    if scale is None:
        values = np.divide(pixels, np.float32(255), dtype=np.float32)
    else:
        values = np.multiply(pixels, np.float32(scale), dtype=np.float32)
    return values


def normalized(
    values: NDArray[np.float32], axis: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> NDArray[np.float32]:
    """Subtract the mean and divide by the std of each channel, where they are given.

    values: float32, its channels along ``axis``, which is counted from the end and so negative.
    """
    shape = (-1,) + (1,) * (-axis - 1)
    if mean is not None:
        values = values - np.asarray(mean, np.float32).reshape(shape)
    if std is not None:
        values = values / np.asarray(std, np.float32).reshape(shape)
    return values


def levels(channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> NDArray[np.float32]:
    """Return what each value of a uint8 pixel becomes: float32 (channels, 256), C-contiguous."""
    every = np.broadcast_to(scaled(np.arange(256, dtype=np.uint8)), (channels, 256))
    return np.ascontiguousarray(normalized(every, -2, mean, std))
