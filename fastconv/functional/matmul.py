"""Linear layers, matrix products and attention, on the caller's memory: nothing is packed before a call, as weights
may change from call to call."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import attributes as at
from ..machine.cpu import kernels
from .one_op import Array, floats, one_op, threads

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["bmm", "linear", "matmul", "scaled_dot_product_attention"]

_linear_rows = kernels().linear_rows


def linear(input: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """Apply ``input @ weight.T + bias`` to the last axis.

    Parameters
    ----------
    input : (..., I)
    weight : (O, I) or (I,)
    bias : (O,) or (), optional

    Returns
    -------
    (..., O), or (...) where ``weight`` is (I,)
    """
    y: Array = _linear_rows(input, weight, bias, threads())
    if y is not NotImplemented:
        return y
    arrays = floats("linear", input=input, weight=weight, bias=bias)
    x, w, b = arrays["input"], arrays["weight"], arrays.get("bias")
    if x.ndim == 0:
        raise ShapeError("linear: input needs at least one axis, (..., in_features), got a scalar")
    if w.ndim not in (1, 2):
        raise ShapeError(f"linear: weight must be (out_features, in_features) or (in_features,), got shape {w.shape}")
    if w.shape[-1] != x.shape[-1]:
        raise ShapeError(f"linear: weight {w.shape} takes {w.shape[-1]} features, input {x.shape} has {x.shape[-1]}")
    if b is not None and b.shape != w.shape[:-1]:
        raise ShapeError(f"linear: bias must have shape {w.shape[:-1]}, as weight is {w.shape}, got shape {b.shape}")
    if w.ndim == 1:
        y = _linear_rows(x, w[np.newaxis], None if b is None else b.reshape(1), threads())
        column: Array = y.reshape(x.shape[:-1])
        return column
    y = _linear_rows(x, w, b, threads())
    assert y is not NotImplemented
    return y


Prepared = tuple["Callable[..., Any]", int]


def _starts(shape: tuple[int, ...], lead: tuple[int, ...], repeat: int = 1) -> Array:
    """Return where the matrices of an array begin, in elements, for each index of what its leading axes broadcast to.

    repeat: of the last leading axis, each index so many times.
    """
    *own, rows, columns = shape
    places = np.arange(prod(own), dtype=np.int64).reshape(own) * (rows * columns)
    if repeat > 1:
        places = np.repeat(places, repeat, -1)
    return np.ascontiguousarray(np.broadcast_to(places, lead)).reshape(-1)


def _lead(function: str, **shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return what leading axes broadcast to."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        given = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(
            f"{function}: the leading axes, {given}, do not broadcast: sizes must be equal, or 1 in one of them"
        ) from None


def _matmul(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    first, second = (array.shape for array in arrays)
    if not first or not second:
        raise ShapeError(f"matmul: input and other need at least one axis, got {first} and {second}")
    x, z = first if len(first) > 1 else (1, *first), second if len(second) > 1 else (*second, 1)
    if x[-1] != z[-2]:
        raise ShapeError(
            f"matmul: input {first} has {x[-1]} columns and other {second} has {z[-2]} rows; they must be as many"
        )
    lead = _lead("matmul", input=x[:-2], other=z[:-2])
    out = (*lead, *(x[-2:-1] if len(first) > 1 else ()), *(z[-1:] if len(second) > 1 else ()))
    m, k, o = x[-2], x[-1], z[-1]
    if o == 1 and len(z) == 2:  # a product of each row with one vector: nothing needs another order
        return lambda input, other: _linear_rows(input, other.reshape(1, k), None, threads).reshape(out), 0
    double = arrays[0].dtype == np.float64
    if double:
        from ..compile.conv.im2col import bind_blas

        bind_blas()
    if len(z) == 2 and not double:  # rows of all matrices are one matrix's; BLAS's bits depend on how many there are
        m, places = prod(x[:-1]), (np.zeros(1, np.int64), np.zeros(1, np.int64))
    else:
        places = _starts(x, lead), _starts(z, lead)
    products, dtype = kernels().products, arrays[0].dtype
    plan = np.concatenate([np.array([m, k, o], np.int64), *places])

    def run(input: Array, other: Array) -> Array:
        y: Array = np.empty(out, dtype)
        if y.size:
            if k:
                products(input, other, y, plan, threads)
            else:  # an empty sum
                y[...] = 0
        return y

    return run, plan.nbytes


_run_matmul = one_op("matmul", _matmul, ("input", "other"), images=False).run


def matmul(input: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Multiply matrices, the last two axes; those in front broadcast.

    Parameters
    ----------
    input : (..., M, K) or (K,)
    other : (..., K, N) or (K,)

    Returns
    -------
    (..., M, N), without M where ``input`` is (K,), without N where ``other`` is
    """
    result: Array = _run_matmul((input, other), ())
    return result


def bmm(input: npt.ArrayLike, mat2: npt.ArrayLike) -> Array:
    """Multiply matrices, (B, M, K) with (B, K, N), of equally long batches: `matmul` that broadcasts nothing."""
    arrays = floats("bmm", input=input, mat2=mat2)
    first, second = (array.shape for array in arrays.values())
    if len(first) != 3 or len(second) != 3 or first[0] != second[0] or first[2] != second[1]:
        raise ShapeError(f"bmm: needs input (B, M, K) and mat2 (B, K, N), got {first} and {second}")
    result: Array = _run_matmul(tuple(arrays.values()), ())
    return result


def _attention(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    function = "scaled_dot_product_attention"
    query, key, value, *masks = (array.shape for array in arrays)
    causal, scale, grouped = values
    causal, grouped = at.boolean(f"{function}: is_causal", causal), at.boolean(f"{function}: enable_gqa", grouped)
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) < 2:
            raise ShapeError(f"{function}: {name} needs at least two axes, got {shape}")
    if query[-1] != key[-1] or key[-2] != value[-2]:
        raise ShapeError(
            f"{function}: needs query (..., L, E), key (..., S, E) and value (..., S, Ev), got {query}, {key}, {value}"
        )
    repeat = 1
    if grouped:
        if min(len(query), len(key)) < 3 or key[-3] != value[-3] or not key[-3] or query[-3] % key[-3]:
            raise ShapeError(
                f"{function}: with enable_gqa, query has a multiple of the heads, axis -3, that key and value both "
                f"have; got {query}, {key} and {value}"
            )
        repeat = query[-3] // key[-3]
    heads = [(*shape[:-3], shape[-3] * repeat) if repeat > 1 else shape[:-2] for shape in (key, value)]
    lead = _lead(function, query=query[:-2], key=heads[0], value=heads[1])
    (rows, features), (keys, columns) = query[-2:], value[-2:]
    scale = max(features, 1) ** -0.5 if scale is None else at.number(f"{function}: scale", scale)
    out = (*lead, rows, columns)
    mask = (1,) * (2 - len(masks[0])) + masks[0] if masks else (1, 1)
    try:
        fits = np.broadcast_shapes(mask, (*lead, rows, keys)) == (*lead, rows, keys)
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{function}: attn_mask {mask} does not broadcast to the scores, {(*lead, rows, keys)}")
    steps = (mask[-1] if mask[-2] > 1 else 0, int(mask[-1] > 1))
    if arrays[0].dtype == np.float64 or not keys or not features:
        return _composed(repeat, scale, causal), 0
    starts = [_starts(shape, lead, n) for shape, n in ((query, 1), (key, repeat), (value, repeat), (mask, 1))]
    plan = np.concatenate([np.array([rows, keys, features, columns, *steps, causal], np.int64), *starts])
    attention = kernels().attention

    def run(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        y: Array = np.empty(out, np.float32)
        if y.size:
            attention(q, k, v, mask, y, plan, scale, threads)
        return y

    return run, plan.nbytes


def _composed(repeat: int, scale: float, causal: bool) -> Callable[..., Array]:
    """Make attention of the functions for each of its parts."""
    from .norm import softmax

    def run(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        if repeat > 1:
            k, v = np.repeat(k, repeat, -3), np.repeat(v, repeat, -3)
        scores = matmul(q * scale, np.swapaxes(k, -1, -2))
        if causal:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -np.inf)
        if mask is not None:
            scores = scores + mask
        weights = softmax(scores, -1)
        weights[(scores == -np.inf).all(-1)] = 0  # no key is seen: as in PyTorch
        return matmul(weights, v)

    return run


_run_attention = one_op(
    "scaled_dot_product_attention", _attention, ("query", "key", "value", "attn_mask"), images=False
).run


def scaled_dot_product_attention(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    attn_mask: npt.ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """Return ``softmax(scale * query @ key.T + attn_mask) @ value``.

    Vaswani et al., "Attention Is All You Need", 2017.

    Parameters
    ----------
    query : (..., L, E)
    key : (..., S, E)
    value : (..., S, Ev)
        The leading axes of the three broadcast.
    attn_mask : (..., L, S) or what broadcasts to that, optional
        Numbers are added to the scores; of bools, the keys that are true are seen.
    dropout_p : float
        Must be 0: dropout is for training.
    is_causal : bool
        Each query sees the keys up to its own place alone. Not together with ``attn_mask``.
    scale : float, optional
        By default ``1 / sqrt(E)``.
    enable_gqa : bool
        Let each head of key and value, axis -3, serve several of query's.

    Returns
    -------
    (..., L, Ev); 0 for a query that sees no key, as in PyTorch.
    """
    function = "scaled_dot_product_attention"
    if dropout_p != 0:
        raise ArgumentError(f"{function}: dropout_p must be 0, dropout is for training, got {at.shown(dropout_p)}")
    arrays: tuple[Any, ...] = (query, key, value)
    if attn_mask is not None:
        if is_causal:
            raise ArgumentError(f"{function}: attn_mask and is_causal cannot both be given; put both into attn_mask")
        mask = np.asarray(attn_mask)
        if mask.dtype == np.bool_:
            like = np.asarray(query).dtype
            mask = np.where(mask, like.type(0), like.type(-np.inf)) if like.kind == "f" else mask
        arrays = (*arrays, mask)
    result: Array = _run_attention(arrays, (is_causal, scale, enable_gqa))
    return result
