"""GraphBuilder: writes a Graph node by node; what every reader of a format, test and benchmark uses."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, ModelFormatError, ShapeError
from . import INPUT, Graph, Node, settle, shapes_of_inputs
from .checks import unique_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from .ops.spec import Shape
    from .preprocessing import Preprocessing

__all__ = ["GraphBuilder"]

_POOLED = {"mean": "adaptive_avg_pool2d", "amax": "adaptive_max_pool2d"}


class GraphBuilder:
    """Nodes in the order in which they are added, each under a name of its own.

    Parameters
    ----------
    input_shape
        Of one image, without batch: (C, H, W), or (F,); or a mapping of names to shapes, as for `Graph`.
    dtype
        float32 or float64, of all weights.
    naming
        ``op -> name`` for the nodes that are added without one; by default the op itself.

    Attributes
    ----------
    inputs : tuple of str
        The names of the inputs.
    nodes : list of Node
        As they were added.
    last : str
        The node added last, from which the next one continues unless it names its inputs; the first input before that.
    """

    def __init__(
        self,
        input_shape: Sequence[int] | Mapping[str, Sequence[int]],
        *,
        dtype: npt.DTypeLike = np.float32,
        naming: Callable[[str], str] | None = None,
    ) -> None:
        self.input_shape = input_shape
        self.inputs = tuple(input_shape) if isinstance(input_shape, Mapping) else (INPUT,)
        self.last = self.inputs[0] if self.inputs else INPUT
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._naming = naming
        self.nodes: list[Node] = []
        self._names = {*self.inputs}
        self._settled: list[Node] = []  # the first nodes, as far as a shape was asked for
        self._shapes: dict[str, Shape] = {}
        self._layers: dict[str, str] = {}  # signal -> the layer that makes it

    def add(
        self,
        op: str,
        /,
        *inputs: str,
        name: str | None = None,
        weights: Mapping[str, np.ndarray] | None = None,
        **attrs: Any,
    ) -> str:
        """Append a node and return its name: `name`, or ``name#2`` where that is taken.

        What it is made of is checked when a shape is asked for, or the graph.
        """
        wanted = name or (self._naming(op) if self._naming else op)
        unique, count = wanted, 1
        while unique in self._names:
            count += 1
            unique = f"{wanted}#{count}"
        self._names.add(unique)
        self.nodes.append(Node(unique, op, inputs or (self.last,), attrs, weights or {}))
        self.last = unique
        return unique

    def shape(self, name: str) -> Shape:
        """Return the shape of a node's output, or of an input, without batch.

        Raises
        ------
        FastconvError
            As constructing the Graph would, about a node up to the last one.
        """
        if not self._shapes:
            self._shapes.update(shapes_of_inputs(self.input_shape))
        for node in self.nodes[len(self._settled) :]:
            settled, self._shapes[node.name], _ = settle(node, self._shapes, self._dtype, self._settled)
            self._settled.append(settled)
        if name not in self._shapes:
            raise ModelFormatError(f"there is no node {name!r}; add it first")
        return self._shapes[name]

    def graph(
        self,
        outputs: Sequence[str] | None = None,
        *,
        labels: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        dynamic: bool = False,
        output_names: Sequence[str] | None = None,
    ) -> Graph:
        """Return the network so far; its output is `last` unless others are named.

        An output has the name of its node, and the `signal` of a layer's that of the layer.
        """
        outputs = (self.last,) if outputs is None else outputs
        if output_names is None and not self._layers.keys().isdisjoint(outputs):
            output_names = unique_names([self._layers.get(name, name) for name in outputs])
        return Graph(self.input_shape, self.nodes, outputs, labels, preprocessing, self._dtype, dynamic, output_names)

    # --- what formats spell in many ways and a Graph in one; each returns the name of the result ----

    def affine(self, x: str, scale: npt.ArrayLike = 1.0, shift: npt.ArrayLike = 0.0) -> str:
        """``x * scale + shift``: a batch normalisation with mean 0 and variance 1.

        `scale` and `shift` are numbers, or have one for each channel: they broadcast with the batched value, along its
        second axis only.
        """
        shape = self.shape(x)
        if not np.isfinite(scale).all():
            raise ArgumentError("scale must be finite: the mean of 0, which comes off first, would make it NaN")
        weights = {
            "weight": self._per_channel("scale", scale, shape),
            "bias": self._per_channel("shift", shift, shape),
            "running_mean": self._per_channel("mean", 0.0, shape),
            "running_var": self._per_channel("variance", 1.0, shape),
        }
        return self.add("batch_norm", x, weights=weights, eps=0.0)

    def _per_channel(self, what: str, value: npt.ArrayLike, shape: Shape) -> np.ndarray:
        """Return (C,) numbers of a value that broadcasts with (N, *shape) along the channels, or not at all."""
        array = np.asarray(value, np.float64)
        channels = shape[0] if shape else 0
        sizes = (1,) * (len(shape) + 1 - array.ndim) + array.shape
        ones = (1,) * (len(shape) - 1)
        if sizes not in ((1, 1, *ones), (1, channels, *ones)):
            raise ArgumentError(f"{what} must be a number, or one for each of {channels} channels, got {array.shape}")
        return np.broadcast_to(array.reshape(-1), (channels,)).astype(self._dtype)

    def clamp(self, x: str, min: float | None = None, max: float | None = None) -> str:
        """``minimum(maximum(x, min), max)``; a bound that is None is none."""
        low = -inf if min is None else min
        high = inf if max is None else max
        if (low, high) == (0, inf):
            return self.add("relu", x)
        # Where the two are the wrong way round, the result is max everywhere.
        return self.add("hardtanh", x, min_val=low if low < high else high, max_val=high)

    def reduce(self, op: str, x: str, dim: Sequence[int], keepdim: bool = False, **attrs: Any) -> str:
        """Reduce axes, counted with the batch; a mean or a maximum over all pixels of an image is a pooling."""
        shape = self.shape(x)
        pool = _POOLED.get(op)
        if pool is None or len(shape) != 3 or {axis % 4 for axis in dim} != {2, 3}:
            return self.add(op, x, dim=tuple(dim), keepdim=keepdim, **attrs)
        pooled = self.add(pool, x, output_size=1)
        return self.reshape(pooled, (shape[0], *(1 for _ in shape[1:] if keepdim)))

    def reshape(self, x: str, shape: Sequence[int], name: str | None = None) -> str:
        """Give the values another shape, without batch; to one axis it is `flatten`, for images of any size."""
        if tuple(shape) == self.shape(x):
            return x
        return self.flatten(x) if len(shape) == 1 else self.add("reshape", x, name=name, shape=tuple(shape))

    def image(self, x: str) -> str:
        """Give a signal (C, L) a height of 1; an image stays."""
        shape = self.shape(x)
        if len(shape) == 3:
            return x
        if len(shape) != 2:
            raise ShapeError(f"needs an image (C, H, W) or a signal (C, L), got shape {shape}")
        return self.reshape(x, (shape[0], 1, shape[1]), self._beside("image"))

    def signal(self, x: str) -> str:
        """Take away the height of an image (C, 1, L)."""
        channels, _, length = self.shape(x)
        signal = self.reshape(x, (channels, length), self._beside("signal"))
        self._layers[signal] = x
        return signal

    def _beside(self, name: str) -> str:
        """Return a name for what is not the layer itself, which has the name that naming gives."""
        given = self._naming(name) if self._naming else name
        return given if given.endswith(name) else f"{given}.{name}"

    def flatten(self, x: str) -> str:
        """Give the values one axis; one that has one already is returned."""
        return x if len(self.shape(x)) == 1 else self.add("flatten", x)
