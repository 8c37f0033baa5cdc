"""The oracle of functions of one element or two: a part of ``reference.py``, which has their names too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def _f64(values: ArrayLike) -> F64:
    return np.array(values, dtype=np.float64)


def _number(truth: Any) -> F64:
    return np.asarray(truth, np.float64)


def floor(input: ArrayLike) -> F64:
    return np.floor(_f64(input))


def ceil(input: ArrayLike) -> F64:
    return np.ceil(_f64(input))


def round(input: ArrayLike) -> F64:
    """Halves to the even one."""
    return np.rint(_f64(input))


def trunc(input: ArrayLike) -> F64:
    return np.trunc(_f64(input))


def sign(input: ArrayLike) -> F64:
    """0 for NaN."""
    return np.nan_to_num(np.sign(_f64(input)))


def sin(input: ArrayLike) -> F64:
    with np.errstate(all="ignore"):
        return np.sin(_f64(input))


def cos(input: ArrayLike) -> F64:
    with np.errstate(all="ignore"):
        return np.cos(_f64(input))


def pow(input: ArrayLike, exponent: float = 2.0) -> F64:
    """A power; to 1/2 and -1/2 it is the square root, NaN of -inf."""
    x = _f64(input)
    with np.errstate(all="ignore"):
        if exponent in (0.5, -0.5):
            return np.sqrt(x) if exponent > 0 else 1 / np.sqrt(x)
        return float_power(x, exponent)


def isnan(input: ArrayLike) -> F64:
    return _number(np.isnan(_f64(input)))


def threshold(input: ArrayLike, threshold: float = 0.1, value: float = 20.0) -> F64:
    x = _f64(input)
    return np.where(x <= threshold, value, x)


def hardshrink(input: ArrayLike, lambd: float = 0.5) -> F64:
    x = _f64(input)
    return np.where((x >= -lambd) & (x <= lambd), 0.0, x)


def softshrink(input: ArrayLike, lambd: float = 0.5) -> F64:
    x = _f64(input)
    return np.where(x > lambd, x - lambd, np.where(x < -lambd, x + lambd, x * 0.0))


def tanhshrink(input: ArrayLike) -> F64:
    x = _f64(input)
    return x - np.tanh(x)


def float_power(input: ArrayLike, other: ArrayLike) -> F64:
    with np.errstate(all="ignore"):
        return np.asarray(np.power(_f64(input), _f64(other)))


def fmod(input: ArrayLike, other: ArrayLike) -> F64:
    """What is left of a division, with the sign of the dividend."""
    with np.errstate(all="ignore"):
        return np.fmod(_f64(input), _f64(other))


def remainder(input: ArrayLike, other: ArrayLike) -> F64:
    """What is left of a division, with the sign of the divisor."""
    x, y = _f64(input), _f64(other)
    with np.errstate(all="ignore"):
        rest = np.fmod(x, y)
        return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


def eq(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(_f64(input) == _f64(other))


def ne(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(_f64(input) != _f64(other))


def lt(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(_f64(input) < _f64(other))


def le(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(_f64(input) <= _f64(other))


def gt(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(_f64(input) > _f64(other))


def ge(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(_f64(input) >= _f64(other))


def logical_not(input: ArrayLike) -> F64:
    return _number(_f64(input) == 0)


def logical_and(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(np.logical_and(_f64(input), _f64(other)))


def logical_or(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(np.logical_or(_f64(input), _f64(other)))


def logical_xor(input: ArrayLike, other: ArrayLike) -> F64:
    return _number(np.logical_xor(_f64(input), _f64(other)))


def where(*inputs: ArrayLike, **constants: ArrayLike) -> F64:
    """`input` where `condition` is not 0, else `other`; those that are not named come in this order."""
    given = iter(inputs)
    condition, x, y = (
        _f64(constants[role] if role in constants else next(given)) for role in ("condition", "input", "other")
    )
    return np.where(condition != 0, x, y)


def prelu(input: ArrayLike, weight: ArrayLike) -> F64:
    """The weight is one, or one for each index of the second axis."""
    x, w = _f64(input), _f64(weight)
    return np.where(x > 0, x, x * (w.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else w))


def glu(input: ArrayLike, dim: int = -1) -> F64:
    first, second = np.split(_f64(input), 2, dim)
    return first / (1 + np.exp(-second))


def local_response_norm(input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> F64:
    """``x / (k + alpha * mean(x^2))^beta``, the mean over neighbouring channels, zeros beyond them."""
    x = _f64(input)
    padded = np.pad(x * x, [(0, 0), (size // 2, (size - 1) // 2)] + [(0, 0)] * (x.ndim - 2))
    total = np.sum([padded[:, i : i + x.shape[1]] for i in range(size)], axis=0)
    return x / (k + alpha / size * total) ** beta
