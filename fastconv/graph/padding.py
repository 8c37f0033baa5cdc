"""Where each element of a padded axis comes from."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["pad_positions"]


def pad_positions(size: int, before: int, after: int, mode: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return which position of an axis of `size` each position of the padded axis shows, as intp.

    -1 is the constant. Negative widths crop; `mode` is one of ``torch.nn.functional.pad``.
    """
    if mode == "circular":  # PyTorch crops first, then wraps what is left
        kept = np.arange(size, dtype=np.intp)[max(-before, 0) : size - max(-after, 0)]
        return np.concatenate([kept[len(kept) - max(before, 0) :], kept, kept[: max(after, 0)]])
    positions = np.arange(-before, size + after, dtype=np.intp)
    if mode == "constant":
        return np.where(positions < size, np.maximum(positions, -1), -1)
    if mode == "replicate":
        return np.clip(positions, 0, size - 1)
    mirrored: np.ndarray[Any, np.dtype[Any]] = np.abs(size - 1 - np.abs(positions))  # at 0, then at size - 1
    return size - 1 - mirrored
