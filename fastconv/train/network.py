"""`Network`: a network in a line per layer, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.attributes import pair, positive
from ..graph.builder import GraphBuilder

__all__ = ["Network"]

_KERNEL = pair(1)


class Network(GraphBuilder):
    """A network, node by node, whose weights are initialised from a seed as PyTorch's layers are.

        net = Network((1, 28, 28), seed=0)
        net.conv2d(6, 5)
        net.relu()
        net.max_pool2d(2)
        net.flatten()
        net.linear(10)
        trainer = Trainer(net.graph())

    Each method continues from the layer before, or from that named by ``x``, and returns the name of its own. `add`
    takes any operator: ``net.add("add", a, b)``, ``net.add("adaptive_avg_pool2d", output_size=1)``.

    Parameters
    ----------
    input_shape
        Of one image, without batch: (C, H, W), or (F,).
    seed : int
        Of the weights.
    """

    def __init__(self, input_shape: Sequence[int] | Mapping[str, Sequence[int]], seed: int = 0) -> None:
        super().__init__(input_shape)
        self._rng = np.random.default_rng(seed)

    def conv2d(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        x: str | None = None,
        *,
        groups: int = 1,
        bias: bool = True,
        name: str | None = None,
        **attrs: Any,
    ) -> str:
        """Convolve: (C, H, W) -> (channels, H', W'). ``attrs``: stride, padding and dilation, as of torch.nn.Conv2d."""
        x = x or self.last
        shape = self.shape(x)
        groups, channels = positive("groups", groups), positive("channels", channels)
        if len(shape) != 3 or shape[0] % groups:
            raise ShapeError(f"conv2d: needs an image (C, H, W), C a multiple of groups={groups}, {x} is {shape}")
        weight = (channels, shape[0] // groups, *_KERNEL("kernel_size", kernel_size))
        return self.add("conv2d", x, name=name, weights=self._drawn(weight, bias), groups=groups, **attrs)

    def linear(self, features: int, x: str | None = None, *, bias: bool = True, name: str | None = None) -> str:
        """Multiply by a matrix: (..., F) -> (..., features)."""
        x = x or self.last
        shape = self.shape(x)
        if not shape:
            raise ShapeError(f"linear: needs an axis of features besides the batch, {x} has none")
        return self.add("linear", x, name=name, weights=self._drawn((positive("features", features), shape[-1]), bias))

    def batch_norm(self, x: str | None = None, *, eps: float = 1e-5, name: str | None = None) -> str:
        """Normalise each channel: its weight 1, its bias and mean 0, its variance 1."""
        x = x or self.last
        channels = self.shape(x)[:1]
        ones = ("weight", "running_var")
        roles = ("running_mean", "running_var", "weight", "bias")
        weights = {role: np.full(channels, role in ones, np.float32) for role in roles}
        return self.add("batch_norm", x, name=name, weights=weights, eps=eps)

    def relu(self, x: str | None = None, *, name: str | None = None) -> str:
        """Return the larger of each value and 0."""
        return self.add("relu", x or self.last, name=name)

    def max_pool2d(self, kernel_size: int | Sequence[int], x: str | None = None, **attrs: Any) -> str:
        """Take the largest of each window. ``attrs``: stride, padding, dilation, ceil_mode and name."""
        return self.add("max_pool2d", x or self.last, kernel_size=kernel_size, **attrs)

    def dropout(self, p: float = 0.5, x: str | None = None, *, name: str | None = None) -> str:
        """Drop values with probability p, in training alone."""
        return self.add("dropout", x or self.last, name=name, p=p)

    def flatten(self, x: str | None = None) -> str:
        """Give the values one axis; one that has one already is returned."""
        return super().flatten(x or self.last)

    def _drawn(self, shape: tuple[int, ...], bias: bool) -> dict[str, np.ndarray]:
        """Draw a weight, and a bias, as torch.nn.Linear and Conv2d do: kaiming_uniform with a = sqrt(5).

        That is uniform within 1 / sqrt(fan_in) on both sides of 0 (He et al., "Delving Deep into Rectifiers", 2015).
        """
        bound = 1 / sqrt(max(prod(shape[1:]), 1))
        shapes = {"weight": shape, "bias": shape[:1]}
        return {
            role: self._rng.uniform(-bound, bound, size).astype(np.float32)
            for role, size in shapes.items()
            if bias or role == "weight"
        }
