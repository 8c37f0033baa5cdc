"""Known networks as Graphs, in float32 and with random weights that keep activations near one."""

from __future__ import annotations

from itertools import count
from math import prod
from typing import Any

import numpy as np

from fastconv.graph import Graph
from fastconv.graph.builder import GraphBuilder


class Net(GraphBuilder):
    """Layers with random weights, each continuing from `last`; nodes bear their operator and a number."""

    def __init__(self, *input_shape: int, seed: int = 0) -> None:
        numbers = count()
        super().__init__(input_shape, naming=lambda op: f"{op}{next(numbers)}")
        self._rng = np.random.default_rng(seed)

    def conv(self, out: int, kernel: int = 3, source: str = "", **attrs: Any) -> str:
        """Append a convolution, padded to keep the size unless `attrs` say otherwise."""
        source = source or self.last
        into = self.shape(source)[0] // attrs.get("groups", 1)
        weights = {"weight": self._weight(out, into, kernel, kernel), "bias": self._normal(out)}
        return self.add("conv2d", source, weights=weights, **{"padding": kernel // 2, **attrs})

    def linear(self, out: int) -> str:
        into = self.shape(self.last)[-1]
        return self.add("linear", weights={"weight": self._weight(out, into), "bias": self._normal(out)})

    def norm(self) -> str:
        channels = self.shape(self.last)[0]
        weights = {role: self._normal(channels) for role in ("running_mean", "weight", "bias")}
        weights["running_var"] = self._rng.uniform(0.5, 2, channels).astype(np.float32)
        return self.add("batch_norm", weights=weights)

    def relu(self) -> str:
        return self.add("relu")

    def pool(self, kernel: int = 2, **attrs: Any) -> str:
        return self.add("max_pool2d", kernel_size=kernel, **attrs)

    def graph(self, *outputs: str) -> Graph:
        """Return the network so far; its output is `last` unless others are named."""
        return super().graph(outputs or None)

    def _normal(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape).astype(np.float32)

    def _weight(self, *shape: int) -> np.ndarray:
        scale = np.sqrt(np.float32(prod(shape[1:])))
        return np.asarray(self._normal(*shape) / scale, np.float32)


def lenet(size: int = 28) -> Graph:
    """LeNet; LeNet-5's 400 features at 32x32."""
    net = Net(1, size, size)
    for channels in (6, 16):
        net.conv(channels, 5, padding=0)
        net.relu()
        net.pool()
    net.add("flatten")
    for features in (120, 84):
        net.linear(features)
        net.relu()
    net.linear(10)
    return net.graph()


def cifar_conv() -> Graph:
    """conv(3→32) · ReLU · pool · conv(32→64) · ReLU · pool; a 64x8x8 map comes out."""
    net = Net(3, 32, 32)
    for channels in (32, 64):
        net.conv(channels)
        net.relu()
        net.pool()
    return net.graph()


def mixed() -> Graph:
    """Every kind of convolution, a residual, a cat, pools that overlap, both softmaxes."""
    net = Net(3, 21, 19)
    net.conv(20, 5, stride=2)
    net.norm()
    first = net.relu()
    net.conv(20, 3, groups=20)
    net.add("hardtanh", min_val=0.0, max_val=6.0)
    net.conv(20, 1)
    joined = net.add("add", net.last, first)
    net.conv(30, 3, groups=5)
    sloped = net.add("leaky_relu", negative_slope=0.1)
    dilated = net.conv(17, 3, source=joined, dilation=2, padding=2)
    net.add("cat", dilated, sloped, dim=1)
    net.pool(3, stride=2, padding=1)
    net.add("sigmoid")
    net.conv(33, 3)
    net.add("avg_pool2d", kernel_size=2)
    probabilities = net.add("softmax", dim=1)
    net.add("adaptive_avg_pool2d", output_size=1)
    net.add("flatten")
    net.linear(11)
    return net.graph(net.add("log_softmax", dim=1), probabilities)


def large_images() -> Graph:
    """Layers of 64x64 pixels, each worth sharing out among threads even for one image."""
    net = Net(8, 64, 64)
    net.conv(32)
    first = net.relu()
    net.conv(32)
    net.norm()
    net.add("add", net.last, first)
    net.relu()
    net.conv(48, 1)
    net.conv(48, 3, groups=48, stride=2)
    net.relu()
    net.conv(64, 5, stride=2)
    net.pool()
    net.conv(70)
    return net.graph()


def vgg() -> Graph:
    """Pairs of 3x3 convolutions, with batch norm, on sizes that leave tiles of every kind over."""
    net = Net(3, 37, 30)
    for channels in (16, 40, 64):
        for _ in range(2):
            net.conv(channels)
            net.norm()
            net.relu()
        net.pool()
    return net.graph()


NETWORKS = {
    "lenet": lenet,
    "lenet5": lambda: lenet(32),
    "cifar_conv": cifar_conv,
    "vgg": vgg,
    "mixed": mixed,
    "large_images": large_images,
}
