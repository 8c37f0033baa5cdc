"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..functional.loss import Targets, entropy_of, targets_of
from ..functional.one_op import floats
from .rule import Array, Backward, Rule, each, summed_to

__all__ = ["RULES"]


def _each_loss(g: Array, reduction: str, count: float) -> Array:
    """Return the gradient by each loss, or what it is for all of them."""
    if reduction != "mean":
        return g
    with np.errstate(all="ignore"):
        return np.asarray(g / np.float64(count)).astype(g.dtype)


def _per_class(g: Array, targets: Targets) -> Array:
    """Give a gradient of losses an axis for the classes; one of a single number stays."""
    return np.expand_dims(g, targets.axis) if g.ndim else g


def _cross_entropy(
    input: Any,
    target: Any,
    weight: Any,
    size_average: Any,
    ignore_index: Any,
    reduce: Any,
    reduction: Any,
    label_smoothing: Any,
) -> tuple[Array, Backward]:
    if size_average is not None or reduce is not None:
        F.cross_entropy(input, target, weight, size_average, ignore_index, reduce)  # refuses them
    y, logarithms, targets = entropy_of(input, target, weight, ignore_index, reduction, label_smoothing)

    def of_input(g: Array) -> Array:
        gradient = F.exp(logarithms)
        if targets.places is None or targets.weights.ndim == gradient.ndim:
            gradient *= targets.weights.sum(targets.axis, keepdims=True)
            gradient -= targets.weights
        else:
            gradient *= np.expand_dims(targets.weights, targets.axis)
            gradient.put(targets.places, gradient.take(targets.places) - targets.weights)
        with np.errstate(all="ignore"):
            gradient *= _per_class(_each_loss(g, reduction, targets.divisor), targets)
        return targets.kept(gradient)

    def of_target(g: Array) -> Any:
        gradient = logarithms * logarithms.dtype.type(label_smoothing - 1)
        if weight is not None:
            gradient *= np.asarray(weight).reshape(-1, *(1,) * (gradient.ndim - targets.axis - 1))
        gradient *= _per_class(_each_loss(g, reduction, targets.divisor), targets)
        return gradient

    return y, each(input=of_input, target=of_target)


def _nll_loss(input: Any, target: Any, weight: Any, reduction: Any, ignore_index: Any, **old: Any) -> Any:
    y = F.nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction, **old)
    given = floats("nll_loss", ("weight",), input=input, weight=weight)
    scores = given["input"]
    targets = targets_of("nll_loss", scores, target, given.get("weight"), ignore_index)

    def of_input(g: Array) -> Any:
        each_loss = _each_loss(g, reduction, targets.divisor)
        with np.errstate(all="ignore"):
            weights = targets.kept(np.asarray(-targets.weights * each_loss))
        return targets._replace(weights=weights).shares(scores)

    return y, each(input=of_input)


def _mse_loss(input: Any, target: Any, reduction: Any, weight: Any, **old: Any) -> tuple[Array, Backward]:
    y = F.mse_loss(input, target, reduction=reduction, weight=weight, **old)
    given = floats("mse_loss", ("weight",), input=input, target=target, weight=weight)
    apart, weights = F.sub(given["input"], given["target"]), given.get("weight")
    count = apart.size if weights is None else float(weights.sum(dtype=np.float64))

    def difference(g: Array) -> Any:
        gradient = F.mul(apart, np.asarray(2 * _each_loss(g, reduction, count), apart.dtype))
        return gradient if weights is None else F.mul(gradient, weights)

    def of_weight(g: Array) -> Any:
        squares = F.mul(apart, apart)
        if reduction == "mean":  # the sum of the weights is below the line
            squares = squares - y
        return summed_to(given["weight"].shape, squares * _each_loss(g, reduction, count))

    return y, each(
        input=lambda g: summed_to(given["input"].shape, difference(g)),
        target=lambda g: summed_to(given["target"].shape, F.mul(difference(g), -1.0)),
        weight=of_weight,
    )


RULES: dict[str, Rule] = {"cross_entropy": _cross_entropy, "mse_loss": _mse_loss, "nll_loss": _nll_loss}
