"""Means and variances of channels, for norms in training and for gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..machine.cpu import kernels
from .one_op import threads

if TYPE_CHECKING:
    from .one_op import Array

__all__ = ["moments"]

_channel_sums = kernels().channel_sums


def moments(x: Array, n: int, c: int) -> tuple[Array, Array]:
    """Return the mean and the variance of each channel, (c,) float64. x: (n, c, ...), C-contiguous, with elements

    The variance is the mean of squared distances from the mean: what batch norm divides by, without a correction.
    """
    if x.size == n * c and n > 1:  # one pixel: channels as rows
        x, n = np.ascontiguousarray(x.reshape(n, c).T), 1
    shared = x.size // c
    mean = np.ascontiguousarray(_channel_sums(x, None, None, None, n, c, threads())[:, 0] / shared)
    squares = _channel_sums(x, mean, x, mean, n, c, threads())[:, 1]
    return mean, np.ascontiguousarray(squares / shared)
