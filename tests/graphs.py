"""Builders of nodes and graphs for tests: float64, with weights that name and size determine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.graph import INPUT, Graph, Node

F64 = NDArray[np.float64]


def random(*shape: int, seed: int = 0) -> F64:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def conv(name: str, source: str, out: int, into: int, kernel: int = 3, **attrs: Any) -> Node:
    """Return a convolution, padded to keep the size unless `attrs` say otherwise."""
    seed = sum(name.encode())
    weights = {"weight": random(out, into, kernel, kernel, seed=seed), "bias": random(out)}
    return Node(name, "conv2d", (source,), {"padding": kernel // 2, **attrs}, weights)


def linear(name: str, source: str, out: int, into: int) -> Node:
    return Node(name, "linear", (source,), {}, {"weight": random(out, into), "bias": random(out)})


def norm(name: str, source: str, channels: int, **attrs: Any) -> Node:
    weights = {
        "running_mean": random(channels, seed=1),
        "running_var": random(channels, seed=2) ** 2,
        "weight": random(channels, seed=3),
        "bias": random(channels, seed=4),
    }
    return Node(name, "batch_norm", (source,), attrs, weights)


def op(name: str, kind: str, *sources: str, **attrs: Any) -> Node:
    return Node(name, kind, sources, attrs)


def pool(name: str, source: str, kernel: Any = 2, kind: str = "max", **attrs: Any) -> Node:
    return Node(name, f"{kind}_pool2d", (source,), {"kernel_size": kernel, **attrs})


def build(shape: tuple[int, ...], *nodes: Node, outputs: tuple[str, ...] = ()) -> Graph:
    """Return a graph of these nodes, the last one its output unless `outputs` are named."""
    return Graph(shape, nodes, outputs or (nodes[-1].name,))


def one(kind: str, shape: tuple[int, ...], attrs: Any = None, weights: dict[str, Any] | None = None) -> Graph:
    """Return a graph of one node that bears its operator's name."""
    return build(shape, Node(kind, kind, (INPUT,), attrs or {}, weights or {}))


def lenet_nodes() -> list[Node]:
    return [
        conv("conv1", INPUT, 6, 1, kernel=5, padding=0),
        op("relu1", "relu", "conv1"),
        pool("pool1", "relu1"),
        conv("conv2", "pool1", 16, 6, kernel=5, padding=0),
        op("relu2", "relu", "conv2"),
        pool("pool2", "relu2", [2, 2]),
        op("flatten", "flatten", "pool2"),
        linear("fc1", "flatten", 120, 256),
        op("relu3", "relu", "fc1"),
        linear("fc2", "relu3", 10, 120),
    ]


def lenet(*input_shape: int, **fields: Any) -> Graph:
    """Return the network for 28x28 images; for another `input_shape` it is refused."""
    return Graph(input_shape or (1, 28, 28), tuple(lenet_nodes()), ("fc2",), **fields)
