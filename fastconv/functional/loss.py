"""Losses: how far outputs are from what they should be, as one number, or as one for each."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import attributes as at
from .arithmetic import mul, sub
from .norm import log_softmax
from .one_op import Array, floats

if TYPE_CHECKING:
    import numpy.typing as npt

    Reduction = Literal["mean", "sum", "none"]

__all__ = ["cross_entropy", "mse_loss", "nll_loss"]  # and `Targets` with what makes them, for `fastconv.grad`


class Targets(NamedTuple):
    """What a loss of classes counts: minus the sum of logarithms of probabilities, each times its share."""

    axis: int  # of the classes
    places: Array | None  # of each target's class, in the flattened scores; None where targets are probabilities
    counted: Array | None  # which targets are not ignored; None where all count
    weights: Array  # of each target, 0 where it is ignored; or of each class of it, the scores' shape
    divisor: float  # what 'mean' divides by

    def losses(self, logarithms: Array) -> Array:
        """Return one loss for each target; 0, whatever the logarithm, for one that is ignored."""
        with np.errstate(all="ignore"):
            if self.places is None or self.weights.ndim == logarithms.ndim:
                losses = -(self.weights * logarithms).sum(self.axis)
            else:
                losses = -self.weights * logarithms.take(self.places)
            return self.kept(np.asarray(losses))

    def kept(self, values: Array) -> Array:
        """Return values of targets, or of their classes, with 0 where the target is ignored."""
        if self.counted is None:
            return values
        counted = self.counted if values.ndim == self.counted.ndim else np.expand_dims(self.counted, self.axis)
        return np.where(counted, values, values.dtype.type(0))

    def shares(self, scores: Array) -> Any:
        """Return what each class of each target counts, in an array of its own like `scores`."""
        if self.weights.ndim == scores.ndim:
            return self.weights.copy()
        shares = np.zeros_like(scores)
        shares.put(self.places, self.weights)  # type: ignore[arg-type]
        return shares


def targets_of(
    function: str,
    scores: Array,
    target: npt.ArrayLike,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float = 0.0,
    probabilities: bool = False,
) -> Targets:
    """Check what a loss of classes takes. `probabilities`: the targets may be such."""
    if not scores.ndim:
        raise ShapeError(f"{function}: input must be (C,), (N, C) or (N, C, ...), got a scalar")
    axis = min(scores.ndim - 1, 1)
    count = scores.shape[axis]
    if weight is not None and weight.shape != (count,):
        raise ShapeError(
            f"{function}: weight must be ({count},), one number for each class of input {scores.shape}, got shape "
            f"{weight.shape}"
        )
    smoothing = at.number(f"{function}: label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ArgumentError(f"{function}: label_smoothing must be 0..1, got {smoothing}")
    spread = smoothing / max(count, 1)  # to each class
    of_classes = np.ones(count, scores.dtype) if weight is None else weight
    of_classes = of_classes.reshape(-1, *(1,) * (scores.ndim - axis - 1))
    array = np.asarray(target)
    if probabilities and array.shape == scores.shape and array.dtype.kind == "f":
        shares = floats(function, input=scores, target=array)["target"]
        shares = (shares * scores.dtype.type(1 - smoothing) + scores.dtype.type(spread)) * of_classes
        return Targets(axis, None, None, shares, scores.size / count if count else 0.0)
    shape = scores.shape[:axis] + scores.shape[axis + 1 :]
    if array.dtype.kind not in "iu":
        either = f", or probabilities, {scores.dtype.name} of shape {scores.shape}" if probabilities else ""
        raise DTypeError(
            f"{function}: target is {array.dtype} of shape {array.shape}, it must hold indices of classes, integers of "
            f"shape {shape}{either}"
        )
    if array.shape != shape:
        raise ShapeError(f"{function}: target must have shape {shape}, as input is {scores.shape}, got {array.shape}")
    if array.size and not count:
        raise ShapeError(f"{function}: input must have at least one class, got shape {scores.shape}")
    index, counted = _indices(function, array, count, ignore_index)
    weights = np.ones(shape, scores.dtype) if weight is None else weight[index]
    if counted is not None:
        weights = np.where(counted, weights, scores.dtype.type(0))
    total = float(weights.sum(dtype=np.float64))
    inner = prod(shape[axis:])  # the classes of a target are so many elements apart
    first = np.arange(prod(shape), dtype=np.int64).reshape(shape)
    places = first + first // max(inner, 1) * (inner * (count - 1)) + index * inner
    if not smoothing:
        return Targets(axis, places, counted, weights, total)
    own = Targets(axis, places, counted, weights * scores.dtype.type(1 - smoothing), total)
    shares = own.shares(scores)
    shares += of_classes * scores.dtype.type(spread)
    return own._replace(weights=own.kept(shares))


def _indices(function: str, target: Array, count: int, ignore_index: int) -> tuple[Array, Array | None]:
    """Return the classes of targets, 0 where they are ignored, and where they count, None for everywhere."""
    ignore_index = at.integer(f"{function}: ignore_index", ignore_index)
    most = np.iinfo(np.int64).max  # what int64 cannot hold is beyond all classes
    narrow = np.minimum(target, np.uint64(most)) if target.dtype.type is np.uint64 else target
    index = narrow.astype(np.int64)
    if not index.size or 0 <= index.min() <= index.max() < count <= ignore_index or ignore_index < 0 <= index.min():
        counted = None
    else:
        counted = index != ignore_index
        index = np.where(counted, index, 0)
    if index.size and not 0 <= index.min() <= index.max() < count:
        wrong = target[(index < 0) | (index >= count)][0]
        raise ArgumentError(
            f"{function}: target holds {wrong}, classes are 0..{count - 1}; what has none is marked by "
            f"ignore_index={ignore_index}"
        )
    return index, counted


def _reduced(function: str, losses: Array, reduction: str, count: float) -> Array:
    """Return losses, their sum, or that divided by `count`: NaN where that is 0, as in PyTorch."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"{function}: reduction must be 'mean', 'sum' or 'none', got {at.shown(reduction)}")
    if reduction == "none":
        return losses
    with np.errstate(all="ignore"):
        total = losses.sum(dtype=np.float64)
        return np.asarray(total / np.float64(count) if reduction == "mean" else total).astype(losses.dtype)


def _refuse_old(function: str, **old: Any) -> None:
    """Refuse arguments that PyTorch has deprecated."""
    for name, value in old.items():
        if value is not None:
            raise ArgumentError(f"{function}: {name} is deprecated in PyTorch and not taken here; pass reduction")


def cross_entropy(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return the cross entropy of the softmax of scores and the classes that are right.

    Parameters
    ----------
    input : (N, C), (N, C, ...) or (C,)
        Scores of any size.
    target : (N,), (N, ...) or (); or the input's shape
        Indices of classes, of an integer type; or probabilities of all of them, of the input's type.
    weight : (C,), optional
        What each class counts.
    size_average, reduce : None
        PyTorch's old names for ``reduction``; they must be left out.
    ignore_index : int
        An index that does not count.
    reduction : {'mean', 'sum', 'none'}
        ``'mean'`` divides by what the indices count together, or by the number of targets that are probabilities.
    label_smoothing : float
        So much of each target, 0 to 1, is spread over all classes (Szegedy et al., "Rethinking the Inception
        Architecture for Computer Vision", 2016).

    Returns
    -------
    (), or the input's shape without its classes with ``reduction='none'``
    """
    _refuse_old("cross_entropy", size_average=size_average, reduce=reduce)
    return entropy_of(input, target, weight, ignore_index, reduction, label_smoothing)[0]


def entropy_of(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Array, Array, Targets]:
    """Return `cross_entropy`, the logarithms of the softmax of scores, and what the targets count."""
    function = "cross_entropy"
    given = floats(function, ("weight",), input=input, weight=weight)
    targets = targets_of(function, given["input"], target, given.get("weight"), ignore_index, label_smoothing, True)
    logarithms = log_softmax(given["input"], targets.axis)
    return _reduced(function, targets.losses(logarithms), reduction, targets.divisor), logarithms, targets


def nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: Reduction = "mean",
) -> Array:
    """Return minus the logarithms of the probabilities of the classes that are right: negative log likelihood.

    Parameters
    ----------
    input : (N, C), (N, C, ...) or (C,)
        Logarithms of probabilities, as `log_softmax` returns them.
    target : (N,), (N, ...) or ()
        Indices of classes, of an integer type.
    weight, size_average, ignore_index, reduce, reduction
        As of `cross_entropy`.

    Returns
    -------
    (), or the target's shape with ``reduction='none'``
    """
    _refuse_old("nll_loss", size_average=size_average, reduce=reduce)
    given = floats("nll_loss", ("weight",), input=input, weight=weight)
    targets = targets_of("nll_loss", given["input"], target, given.get("weight"), ignore_index)
    return _reduced("nll_loss", targets.losses(given["input"]), reduction, targets.divisor)


def mse_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    size_average: None = None,
    reduce: None = None,
    reduction: Reduction = "mean",
    weight: npt.ArrayLike | None = None,
) -> Array:
    """Return the squares of ``input - target``.

    Parameters
    ----------
    input, target : any shapes that broadcast
    size_average, reduce : None
        PyTorch's old names for ``reduction``; they must be left out.
    reduction : {'mean', 'sum', 'none'}
        ``'mean'`` divides by the number of squares, or by the sum of the weights.
    weight : the input's shape, optional
        What each square counts.

    Returns
    -------
    (), or what the shapes broadcast to with ``reduction='none'``
    """
    _refuse_old("mse_loss", size_average=size_average, reduce=reduce)
    given = floats("mse_loss", ("weight",), input=input, target=target, weight=weight)
    apart = sub(given["input"], given["target"])
    losses, weights = mul(apart, apart), given.get("weight")
    if weights is None:
        return _reduced("mse_loss", losses, reduction, losses.size)
    if weights.shape != given["input"].shape:
        raise ShapeError(f"mse_loss: weight must have the input's shape {given['input'].shape}, got {weights.shape}")
    return _reduced("mse_loss", mul(losses, weights), reduction, float(weights.sum(dtype=np.float64)))
