"""Nodes whose inputs are all known are computed at once, for each size of the batch where it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FastconvError
from .ops import FOLDS, FUNCTIONS, REASONS
from .values import Sized

if TYPE_CHECKING:
    from .reader import Reader
    from .values import Constant

__all__ = ["fold"]

_NUMPY_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, MemoryError)


def fold(reader: Reader, op: str, args: list[Any], attrs: dict[str, Any]) -> tuple[Constant, ...]:
    """Return the outputs of a node of constants."""
    if op not in FOLDS:
        raise reader.unsupported("of constants" if op in FUNCTIONS else REASONS.get(op, ""))
    sized = any(isinstance(arg, Sized) for arg in args)
    rounds = []
    for i in range(len(reader.batches) if sized else 1):
        known = [arg.arrays[i] if isinstance(arg, Sized) else arg for arg in args]
        reader.charge(sum(arg.size for arg in known if arg is not None))
        try:
            with np.errstate(all="ignore"):
                result = FOLDS[op].compute(reader, *known, **attrs)
        except FastconvError:
            raise
        except _NUMPY_ERRORS as error:
            raise reader.error(f"cannot be computed: {error}") from None
        rounds.append([np.asarray(item) for item in (result if isinstance(result, tuple) else (result,))])
    if not sized:
        return tuple(rounds[0])
    return tuple(_merged(arrays, FOLDS[op].moves) for arrays in zip(*rounds, strict=True))


def _merged(arrays: tuple[np.ndarray, ...], moves: bool) -> Constant:
    """One array where an operator that only moves elements gives the same for every size of the batch."""
    first = arrays[0]
    if moves and all(array.shape == first.shape and np.array_equal(array, first) for array in arrays[1:]):
        return first
    return Sized(arrays)
