"""Run a Graph node by node with the oracle: float64, NCHW, one plain function per operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from numpy.typing import ArrayLike, NDArray

from fastconv.graph import Graph, Node

F64 = NDArray[np.float64]


def run_graph(graph: Graph, x: ArrayLike | tuple[ArrayLike, ...]) -> tuple[F64, ...]:
    """Compute the outputs of `graph` for a batch.

    Parameters
    ----------
    graph
        As it was read, or rewritten: fused activations, pools and residuals are understood.
    x
        (N, *graph.input_shape); for several inputs a tuple of such arrays.

    Returns
    -------
    One float64 array for each of ``graph.outputs``, batched.
    """
    values: dict[str, F64] = {}
    for (name, shape), array in zip(graph.inputs.items(), x if isinstance(x, tuple) else (x,), strict=True):
        values[name] = np.array(array, dtype=np.float64)
        if values[name].shape[1:] != shape:
            raise ValueError(f"{name} needs (N, *{shape}), got {values[name].shape}")
    (count,) = {len(value) for value in values.values()}
    with np.errstate(all="ignore"):  # NaN and infinity are results like any other
        for node in graph.nodes:
            value = run_node(node, *(values[name] for name in node.inputs))
            expected = (count, *graph.shapes[node.name])
            if value.shape != expected:
                raise AssertionError(f"{node.name}: inferred {expected}, computed {value.shape}")
            values[node.name] = value
    return tuple(values[name] for name in graph.outputs)


def run_node(node: Node, x: F64, *others: F64) -> F64:
    """Compute one node of a Graph (its attributes normalised) from its inputs."""
    weights = {role: array.astype(np.float64) for role, array in node.weights.items()}
    attrs = dict(node.attrs)
    activation, pool = attrs.pop("activation", None), attrs.pop("pool", None)
    y = _apply(node.op, attrs, weights, x, *others)
    if activation is not None:
        y = getattr(reference, activation[0])(y, *activation[1:])
    if pool is not None:
        kind, kh, kw, sh, sw = pool
        y = getattr(reference, f"{kind}_pool2d")(y, (kh, kw), (sh, sw))
    return y


def _apply(op: str, attrs: dict[str, Any], weights: dict[str, F64], x: F64, *others: F64) -> F64:
    """Compute an operator without what was fused to its end."""
    if op in ("conv2d", "linear"):
        if op == "conv2d":
            top, bottom, left, right = attrs.pop("padding")
            x = reference.pad(x, (left, right, top, bottom))
        result: F64 = getattr(reference, op)(x, **weights, **attrs)
        return result + others[0] if others else result
    if op == "conv_transpose2d":  # padding that differs between the ends of an axis is cut off
        top, bottom, left, right = attrs.pop("padding")
        whole = reference.conv_transpose2d(x, **weights, **attrs)
        return whole[..., top : whole.shape[-2] - bottom, left : whole.shape[-1] - right]
    if op == "pad":
        attrs["pad"] = attrs.pop("padding")
    y: F64 = getattr(reference, op)(x, *others, **weights, **attrs)
    return y
