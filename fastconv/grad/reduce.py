"""Reductions: the gradient of each result goes to all the elements it was made of."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from typing import Any

import numpy as np

from .. import functional as F
from ..functional.one_op import floats
from .rule import Array, Backward, Rule, each

__all__ = ["RULES"]


def _axes(dim: Any, rank: int) -> tuple[int, ...]:
    """Return the axes that are reduced, counted from the first."""
    named = dim if isinstance(dim, (tuple, list)) else () if dim is None else (dim,)
    return tuple(int(axis) % max(rank, 1) for axis in named)[: rank or 0] or tuple(range(rank))


def _reduction(function: str, gradient: Callable[..., Array], argument: str = "input") -> Rule:
    """Return the rule of a gradient ``gradient(g, x, y, axes, **attributes)``, g and y with all of x's axes."""
    call = getattr(F, function)

    def rule(**arguments: Any) -> tuple[Array, Backward]:
        y: Array = call(**arguments)
        x = floats(function, **{argument: arguments.pop(argument)})[argument]
        axes = _axes(arguments.pop("dim"), x.ndim)
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
        del arguments["keepdim"]

        def found(g: Array) -> Array:
            with np.errstate(all="ignore"):
                full = gradient(g.reshape(kept), x, y.reshape(kept), axes, **arguments)
            return np.array(np.broadcast_to(full, x.shape), x.dtype)

        return y, each(**{argument: found})

    return rule


def _count(x: Array, axes: tuple[int, ...]) -> int:
    return prod(x.shape[axis] for axis in axes)


def _extreme(g: Array, x: Array, y: Array, axes: tuple[int, ...]) -> Any:
    """Divide a gradient evenly among equal extremes, as PyTorch does."""
    there = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.where(there, g / there.sum(axes, keepdims=True).astype(x.dtype), x.dtype.type(0))


def _product(g: Array, x: Array, y: Array, axes: tuple[int, ...]) -> Any:
    """Multiply by the product of the other elements, which a division would not find beside a 0."""
    if not x.size:
        return x
    moved = np.moveaxis(x, axes, tuple(range(-len(axes), 0))) if axes else x
    rows = moved.reshape(*moved.shape[: moved.ndim - len(axes)], -1)
    ones = np.ones_like(rows[..., :1])
    before = np.concatenate([ones, rows[..., :-1]], -1).cumprod(-1)
    after = np.concatenate([ones, rows[..., :0:-1]], -1).cumprod(-1)[..., ::-1]
    others = (before * after).reshape(moved.shape)
    return g * (np.moveaxis(others, tuple(range(-len(axes), 0)), axes) if axes else others)


def _variance(g: Array, x: Array, y: Array, axes: tuple[int, ...], correction: float) -> Any:
    freedom = max(_count(x, axes) - correction, 0)
    apart = x - x.mean(axes, dtype=np.float64, keepdims=True)
    return g * (apart * np.divide(2.0, freedom))


def _deviation(g: Array, x: Array, y: Array, axes: tuple[int, ...], correction: float) -> Array:
    return np.where(y == 0, 0, _variance(g, x, y, axes, correction) / (2 * y))


def _norm(g: Array, x: Array, y: Array, axes: tuple[int, ...], ord: float) -> Any:
    if ord == 1:
        return g * np.sign(x)
    if ord == inf:
        return np.sign(x) * _extreme(g, np.abs(x), y, axes)
    return np.where(y == 0, x.dtype.type(0), g * (x / y))


RULES: dict[str, Rule] = {
    "amax": _reduction("amax", _extreme),
    "amin": _reduction("amin", _extreme),
    "logsumexp": _reduction("logsumexp", lambda g, x, y, axes: g * np.exp(x - y)),
    "mean": _reduction("mean", lambda g, x, y, axes: g / x.dtype.type(_count(x, axes))),
    "prod": _reduction("prod", _product),
    "std": _reduction("std", _deviation),
    "sum": _reduction("sum", lambda g, x, y, axes: g),
    "var": _reduction("var", _variance),
    "vector_norm": _reduction("vector_norm", _norm, "x"),
}
