"""Running sums, and elements in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from .rule import Array, Backward, Rule, of_input

__all__ = ["RULES"]


def _cumsum(input: Any, dim: Any) -> tuple[Array, Backward]:
    y = F.cumsum(input, dim)

    def gradient(g: Array) -> Array:
        return F.flip(F.cumsum(F.flip(g, [dim]), dim), [dim]) if g.ndim else g.copy()

    return y, of_input(gradient)


def _topk(input: Any, k: Any, dim: Any, largest: Any, sorted: Any) -> tuple[tuple[Array, Array], Backward]:
    y, places = F.topk(input, k, dim, largest, sorted)

    def gradient(g: Array) -> Any:
        found = np.zeros(np.shape(input), g.dtype)
        if not found.ndim:
            return g.copy()
        np.put_along_axis(found, places, g, int(dim))
        return found

    return (y, places), of_input(gradient)


RULES: dict[str, Rule] = {"cumsum": _cumsum, "topk": _topk}
