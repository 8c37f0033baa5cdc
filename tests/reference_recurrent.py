"""The oracle of recurrent layers: a part of ``reference.py``, which has their names too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def _sigmoid(x: F64) -> F64:
    with np.errstate(over="ignore"):
        result: F64 = 1 / (1 + np.exp(-x))
    return result


def _walk(
    input: ArrayLike,
    state: ArrayLike | None,
    states: int,
    weights: dict[str, F64],
    step: Callable[[F64, F64, F64, list[F64]], list[F64]],
) -> list[F64]:
    """Return each state after every step, (..., T, D * H), of both directions where there are two.

    step: what the input adds, weight_hh, bias_hh, the states before -> the states after it.
    """
    x = np.array(input, np.float64)
    ways = ("", "_reverse") if "weight_ih_reverse" in weights else ("",)
    hidden = weights["weight_hh"].shape[1]
    lead, steps = x.shape[:-2], x.shape[-2]
    first = np.zeros((*lead, 1, states, len(ways), hidden))
    if state is not None:
        first = np.array(state, np.float64).reshape(first.shape)
    results = [np.empty((*lead, steps, len(ways), hidden)) for _ in range(states)]
    for d, way in enumerate(ways):
        weight, recurrent = weights["weight_ih" + way], weights["weight_hh" + way]
        bias, more = (weights.get(f"{role}{way}", np.zeros(len(weight))) for role in ("bias_ih", "bias_hh"))
        now = [first[..., 0, i, d, :] for i in range(states)]
        for t in reversed(range(steps)) if way else range(steps):
            now = step(x[..., t, :] @ weight.T + bias, recurrent, more, now)
            for result, after in zip(results, now, strict=True):
                result[..., t, d, :] = after
    return [result.reshape(*lead, steps, len(ways) * hidden) for result in results]


def lstm(input: ArrayLike, state: ArrayLike | None = None, cells: bool = False, **weights: F64) -> F64:
    """Hidden states, and behind them the cells where they are asked for."""

    def step(x: F64, weight: F64, bias: F64, now: list[F64]) -> list[F64]:
        h, c = now
        i, f, g, o = np.split(x + h @ weight.T + bias, 4, axis=-1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return [_sigmoid(o) * np.tanh(c), c]

    both = _walk(input, state, 2, weights, step)
    return np.concatenate(both, axis=-1) if cells else both[0]


def gru(input: ArrayLike, state: ArrayLike | None = None, linear_before_reset: bool = True, **weights: F64) -> F64:
    """Hidden states; the reset gate is applied to the product of the one before, or to the one before."""

    def step(x: F64, weight: F64, bias: F64, now: list[F64]) -> list[F64]:
        (h,) = now
        x_r, x_z, x_n = np.split(x, 3, axis=-1)
        w_r, w_z, w_n = np.split(weight, 3)
        b_r, b_z, b_n = np.split(bias, 3)
        r, z = _sigmoid(x_r + h @ w_r.T + b_r), _sigmoid(x_z + h @ w_z.T + b_z)
        n = np.tanh(x_n + (r * (h @ w_n.T + b_n) if linear_before_reset else (r * h) @ w_n.T + b_n))
        return [(1 - z) * n + z * h]

    return _walk(input, state, 1, weights, step)[0]


def rnn(input: ArrayLike, state: ArrayLike | None = None, nonlinearity: str = "tanh", **weights: F64) -> F64:
    """Hidden states."""

    def step(x: F64, weight: F64, bias: F64, now: list[F64]) -> list[F64]:
        (h,) = now
        y = x + h @ weight.T + bias
        return [np.tanh(y) if nonlinearity == "tanh" else np.maximum(y, 0)]

    return _walk(input, state, 1, weights, step)[0]
