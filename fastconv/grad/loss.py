"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..functional.loss import Targets, targets_of
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
    input: Any, target: Any, weight: Any, reduction: Any, ignore_index: Any, label_smoothing: Any, **old: Any
) -> tuple[Array, Backward]:
    y = F.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing, **old
    )
    given = floats("cross_entropy", ("weight",), input=input, weight=weight)
    scores, weights = given["input"], given.get("weight")
    targets = targets_of("cross_entropy", scores, target, weights, ignore_index, label_smoothing, True)

    def of_input(g: Array) -> Array:
        shares = targets.shares(scores)
        gradient = F.softmax(scores, targets.axis)
        gradient *= shares.sum(targets.axis, keepdims=True)
        gradient -= shares
        with np.errstate(all="ignore"):
            gradient *= _per_class(_each_loss(g, reduction, targets.divisor), targets)
        return targets.kept(gradient)

    def of_target(g: Array) -> Array:
        gradient = F.log_softmax(scores, targets.axis)
        gradient *= scores.dtype.type(label_smoothing - 1)
        if weights is not None:
            gradient *= weights.reshape(-1, *(1,) * (scores.ndim - targets.axis - 1))
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
