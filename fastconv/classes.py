"""From the outputs of a network to classes: their probabilities, and the best of them."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .graph import Graph

__all__ = ["best", "probabilities"]


def probabilities(outputs: NDArray[Any], graph: Graph) -> NDArray[np.float32]:
    """Return the softmax of the outputs (N, classes), or these where the network itself ends in softmax."""
    if not _ends_in_softmax(graph):
        with np.errstate(invalid="ignore"):  # an infinite output gives NaN, as in PyTorch
            logits = outputs.astype(np.float64)
            outputs = np.exp(logits - logits.max(axis=1, keepdims=True))
            outputs /= outputs.sum(axis=1, keepdims=True)
    return outputs.astype(np.float32, copy=False)


def best(outputs: NDArray[Any], graph: Graph, top: int) -> list[list[tuple[int | str, float]]]:
    """Return the `top` best classes of each row of outputs (N, classes), best first, with their probabilities."""
    try:
        count = -1 if isinstance(top, bool) else index(top)
    except TypeError:
        count = -1
    if count < 1:
        raise ArgumentError(f"predict: top must be the number of classes wanted, at least 1, got {top!r:.80}")
    # By the outputs, since probabilities may round to equal; NaN first and equal ones in order, as argmax has it.
    order = np.lexsort((-outputs, ~np.isnan(outputs)))[:, :count]
    shares = np.take_along_axis(probabilities(outputs, graph), order, axis=1).tolist()
    names = graph.labels or range(outputs.shape[1])
    return [
        [(names[i], share) for i, share in zip(row, row_shares, strict=True)]
        for row, row_shares in zip(order.tolist(), shares, strict=True)
    ]


def _ends_in_softmax(graph: Graph) -> bool:
    """Tell whether the one output, (classes,), holds probabilities already."""
    name = graph.outputs[0]
    while name not in graph.inputs:
        node = graph.node(name)
        if node.op == "softmax":
            return bool(node.attrs["dim"] == 1 and graph.shapes[name][0] == graph.shapes[graph.outputs[0]][0])
        if node.op not in ("identity", "dropout", "flatten", "reshape"):
            return False
        name = node.inputs[0]
    return False
