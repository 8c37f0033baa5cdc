"""Norms and softmax.

A norm is ``y = (x - mean) * scale * weight + bias``, scale = 1 / sqrt(var + eps). With s = sum of g * weight and
t = sum of g * weight * (x - mean) over the m elements that share their statistics, its gradient by x is

    scale * (g * weight - s / m - (x - mean) * scale^2 * t / m)

which is a combination of g, x and 1 whose factors belong to a channel, or to a channel of an image: one pass for the
sums, and one that combines.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import functional as F
from ..functional.norm import batch_norm_training
from ..functional.one_op import floats, threads
from ..functional.statistics import moments
from ..machine.cpu import kernels
from .rule import Array, Backward, Rule, of_input

__all__ = ["RULES"]

_ROWS = 256

_channel_sums = kernels().channel_sums
_combine = kernels().combine


def _batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: Any, momentum: Any, eps: Any
) -> tuple[Array, Backward]:
    optional = ("running_mean", "running_var", "weight", "bias")
    given = floats(
        "batch_norm", optional,
        input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    x = given["input"]
    if training:
        y, mean, var = batch_norm_training(input, running_mean, running_var, weight, bias, momentum, eps)
    else:
        y = F.batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    if not x.size:
        shapes = {name: given[name].shape for name in ("input", "weight", "bias") if name in given}
        return y, lambda g, wanted: {name: np.zeros(shape, g.dtype) for name, shape in shapes.items()}
    n, c = x.shape[:2]
    if not training:
        mean, var = (np.asarray(given[name], np.float64).reshape(c) for name in ("running_mean", "running_var"))
    scale = 1 / np.sqrt(var + eps)
    weights = np.asarray(given["weight"], np.float64).reshape(c) if weight is not None else np.ones(c)
    shared = x.size // c

    def backward(g: Array, wanted: Any) -> dict[str, Array]:
        found = {}
        sums = products = np.zeros(c)
        if training or "weight" in wanted or "bias" in wanted:
            sums, products = _sums(g, x, mean, n, c)
        if "input" in wanted:
            factors = np.zeros((c, 4))
            factors[:, 0] = weights * scale
            if training:
                factors[:, 1] = -factors[:, 0] * scale**2 * products / shared
                factors[:, 2] = mean
                factors[:, 3] = -factors[:, 0] * sums / shared
            found["input"] = _combined(g, x, factors, n)
        if "weight" in wanted:
            found["weight"] = (products * scale).astype(g.dtype).reshape(given["weight"].shape)
        if "bias" in wanted:
            found["bias"] = sums.astype(g.dtype).reshape(given["bias"].shape)
        return found

    return y, backward


def _sums(g: Array, x: Array, mean: Array, n: int, c: int) -> tuple[Array, Array]:
    """Return the sums of g, and of g * (x - mean), over each channel of (n, c, ...)."""
    if g.size == n * c and n > 1:  # one pixel: channels as rows
        g, x, n = np.ascontiguousarray(g.reshape(n, c).T), np.ascontiguousarray(x.reshape(n, c).T), 1
    sums = _channel_sums(g, None, x, mean, n, c, threads())
    return sums[:, 0], sums[:, 1]


def _combined(g: Array, x: Array, factors: Array, n: int) -> Any:
    """Return what `factors`, (c, 4), make of g, x and 1, for channels of (n, c, ...); as the kernel `combine`."""
    if g.size == n * len(factors) and n > 1:
        a, b, c, d = factors.T.astype(g.dtype)
        flat = (n, len(factors))
        return np.asarray(g.reshape(flat) * a + ((x.reshape(flat) - c) * b + d)).reshape(g.shape)
    result: Array = _combine(g, x, np.ascontiguousarray(factors), n, threads())
    return result


def _group_norm(input: Any, num_groups: Any, weight: Any, bias: Any, eps: Any) -> tuple[Array, Backward]:
    y = F.group_norm(input, num_groups, weight, bias, eps)
    x = floats("group_norm", input=input)["input"]
    n, c = x.shape[:2]
    groups, per = n * num_groups, c // num_groups
    mean, var = moments(x, 1, groups) if x.size else (np.zeros(groups),) * 2
    scale = 1 / np.sqrt(var + eps)
    weights = np.ones(c) if weight is None else np.asarray(weight, np.float64)
    shared = x.size // groups if groups else 1

    def backward(g: Array, wanted: Any) -> dict[str, Array]:
        if not x.size:
            return {"input": np.zeros_like(x), "weight": np.zeros(c, g.dtype), "bias": np.zeros(c, g.dtype)}
        means = np.repeat(mean, per)
        sums = _channel_sums(g, None, x, means, 1, n * c, threads()).reshape(groups, per, 2)
        whole = (sums * np.tile(weights.reshape(num_groups, per), (n, 1))[..., np.newaxis]).sum(1) / shared
        factors = np.empty((groups, per, 4))
        factors[..., 0] = scale[:, np.newaxis] * np.tile(weights.reshape(num_groups, per), (n, 1))
        factors[..., 1] = (-(scale**3) * whole[:, 1])[:, np.newaxis]
        factors[..., 2] = mean[:, np.newaxis]
        factors[..., 3] = (-scale * whole[:, 0])[:, np.newaxis]
        totals = sums.reshape(n, c, 2)
        return {
            "input": _combine(g, x, factors.reshape(n * c, 4), 1, threads()),
            "weight": (totals[..., 1] * np.repeat(scale, per).reshape(n, c)).sum(0).astype(g.dtype),
            "bias": totals[..., 0].sum(0).astype(g.dtype),
        }

    return y, backward


def _over_last_axes(
    function: str, x: Array, normalized_shape: Any, weight: Any, y: Array, eps: float, centred: bool
) -> tuple[Array, Backward]:
    """Return the rule's result for a norm of rows, centred or not."""
    size = prod(x.shape[x.ndim - len(tuple(normalized_shape)) :])
    rows = x.size // size if size else 0
    matrix = x.reshape(rows, size)
    weights = None if weight is None else np.asarray(weight, x.dtype).reshape(size)

    def backward(g: Array, wanted: Any) -> dict[str, Array]:
        shape = () if weight is None else np.shape(weight)
        if not x.size:
            nothing = np.zeros(tuple(normalized_shape), g.dtype)
            return {"input": np.zeros_like(x), "weight": nothing, "bias": nothing.copy()}
        if centred:
            mean, var = moments(matrix, 1, rows)
        else:
            mean = np.zeros(rows)
            var = _channel_sums(matrix, None, matrix, None, 1, rows, threads())[:, 1] / size
        scale = 1 / np.sqrt(var + eps)
        table = g.reshape(rows, size)
        found = {}
        if "input" in wanted:
            weighted = table if weights is None else F.mul(table, weights)
            sums = _channel_sums(weighted, None, matrix, mean, 1, rows, threads()) / size
            more = -scale * sums[:, 0] if centred else np.zeros(rows)
            factors = np.stack([scale, -(scale**3) * sums[:, 1], mean, more], -1)
            found["input"] = _combine(weighted, matrix, factors, 1, threads()).reshape(x.shape)
        if "weight" in wanted:
            factors = np.stack([np.zeros(rows), scale, mean, np.zeros(rows)], -1)
            normed = _combine(matrix, matrix, factors, 1, threads())
            found["weight"] = _over_rows(F.mul(table, normed)).reshape(shape)
        if "bias" in wanted:
            found["bias"] = _over_rows(table).reshape(tuple(normalized_shape))
        return found

    return y, backward


def _over_rows(table: Array) -> Array:
    """Sum over the first axis, some rows at a time, and these sums in double."""
    blocks = [table[first : first + _ROWS].sum(0) for first in range(0, max(len(table), 1), _ROWS)]
    return np.asarray(np.sum(blocks, 0, dtype=np.float64)).astype(table.dtype)


def _layer_norm(input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any) -> tuple[Array, Backward]:
    y = F.layer_norm(input, normalized_shape, weight, bias, eps)
    x = floats("layer_norm", input=input)["input"]
    return _over_last_axes("layer_norm", x, normalized_shape, weight, y, eps, True)


def _rms_norm(input: Any, normalized_shape: Any, weight: Any, eps: Any) -> tuple[Array, Backward]:
    y = F.rms_norm(input, normalized_shape, weight, eps)
    x = floats("rms_norm", input=input)["input"]
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _over_last_axes("rms_norm", x, normalized_shape, weight, y, eps, False)


def _softmax(input: Any, dim: Any, dtype: Any) -> tuple[Array, Backward]:
    y = F.softmax(input, dim, dtype=dtype)

    def gradient(g: Array) -> Array:
        found = F.mul(g, y)
        found -= y * _total(found, dim)
        return _of_type(input, found)

    return y, of_input(gradient)


def _log_softmax(input: Any, dim: Any, dtype: Any) -> tuple[Array, Backward]:
    y = F.log_softmax(input, dim, dtype=dtype)

    def gradient(g: Array) -> Array:
        found = F.exp(y)
        found *= _total(g, dim)
        return _of_type(input, np.subtract(g, found, out=found))

    return y, of_input(gradient)


def _total(x: Array, dim: Any) -> Any:
    return x.sum(int(dim) if x.ndim else None, keepdims=True)


def _of_type(input: Any, gradient: Array) -> Array:
    """Return a gradient in the input's own type, which `dtype` has converted."""
    return gradient.astype(np.asarray(input).dtype, copy=False)


def _local_response_norm(input: Any, size: Any, alpha: Any, beta: Any, k: Any) -> tuple[Array, Backward]:
    y = F.local_response_norm(input, size, alpha, beta, k)
    x = floats("local_response_norm", input=input)["input"]

    def over_channels(values: Array, before: int) -> Array:
        """Return the sum over `size` channels from so many before each."""
        channels = values.shape[1]
        sums = np.zeros(values.shape)
        for step in range(max(-before, 1 - channels), min(size - before, channels)):
            first, last = max(-step, 0), channels - max(step, 0)
            sums[:, first:last] += values[:, first + step : last + step]
        return sums.astype(values.dtype)

    def gradient(g: Array) -> Array:
        if not x.size:
            return np.zeros_like(x)
        under = over_channels(x * x, size // 2) * (alpha / size) + k
        share = g * x * under ** (-beta - 1)
        spread = over_channels(share, size - 1 - size // 2)
        return np.asarray(g * under**-beta - 2 * alpha * beta / size * x * spread, x.dtype)

    return y, of_input(gradient)


RULES: dict[str, Rule] = {
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
    "log_softmax": _log_softmax,
    "rms_norm": _rms_norm,
    "softmax": _softmax,
}
