"""The kernels of a convolution: what they are asked, and one ordered table of them; each has a file of its own."""

from __future__ import annotations

from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, UnsupportedOperatorError
from ...graph.ops.activation import ACTIVATIONS
from ..tensors import NHWC

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...graph import Node
    from ...kernels._kernels import Kernels
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Border, Tensor

__all__ = ["KERNELS", "ConvKernel", "Layer", "Row", "applicable", "candidates", "choose", "share", "whole"]


class Layer:
    """A convolution, as kernels judge it.

    Attributes
    ----------
    x, out
        (c, h, w) of the input, and of the output before a fused pool.
    at_hand
        The layouts in which the input exists already.
    returned
        Nobody but the caller, who wants NCHW, reads the output.
    weights_in_call
        The weights are not known yet: a step must be able to pack them.
    """

    __slots__ = (
        "activation",
        "at_hand",
        "dilation",
        "double",
        "groups",
        "kernel",
        "name",
        "out",
        "padding",
        "pool",
        "residual",
        "returned",
        "stride",
        "weights_in_call",
        "x",
    )

    def __init__(
        self,
        node: Node,
        x: tuple[int, int, int],
        out: tuple[int, int, int],
        at_hand: set[str],
        returned: bool,
        double: bool,
        weights_in_call: bool = False,
    ) -> None:
        attrs = node.attrs
        self.weights_in_call = weights_in_call
        self.name, self.x, self.out, self.double = node.name, x, out, double
        self.at_hand, self.returned = at_hand, returned
        self.kernel: tuple[int, int] = node.weights["weight"].shape[2:]
        self.stride: tuple[int, int] = attrs["stride"]
        self.dilation: tuple[int, int] = attrs["dilation"]
        self.padding: Border = attrs["padding"]
        self.groups: int = attrs["groups"]
        self.activation: tuple[Any, ...] | None = attrs["activation"]
        self.pool: tuple[Any, ...] | None = attrs["pool"]
        self.residual = len(node.inputs) > 1

    @property
    def taps(self) -> int:
        """Elements of a kernel's window."""
        return prod(self.kernel)

    @property
    def products(self) -> int:
        """Multiply-adds of one output element."""
        return self.x[0] // self.groups * self.taps

    @property
    def monotonic(self) -> bool:
        """Whether max-pooling may come before bias and activation: neither, nor rounding, changes an order."""
        return self.activation is None or ACTIVATIONS[self.activation[0]].monotonic(*self.activation[1:])

    @property
    def pools_first(self) -> bool:
        """Whether a fused pool comes before bias and activation."""
        return self.pool is not None and self.pool[0] == "max" and self.monotonic


class ConvKernel:
    """One kernel: what it can do, what that would cost, and how its step is made.

    Attributes
    ----------
    name
        Of its own in the table.
    compiled
        The compiled kernel that computes it; several may share one, whose record says which it is.
    label
        For people.
    algorithm
        The algorithm of `compile_graph` that it belongs to.
    exact
        An infinity or a NaN reaches only the outputs whose window it stands in.
    margin
        The estimate is multiplied by this before it is compared: above 1, the kernel must gain something to be chosen.
    layout
        How it reads its input.
    planes
        It reads and writes whole planes, NCHW without a border; the others write NHWC.
    serial
        Its step shares out its own work.
    """

    name = ""
    compiled = ""
    label = ""
    algorithm = "direct"
    exact = True
    margin = 1.0
    layout = NHWC
    planes = False
    serial = False

    def can(self, layer: Layer, machine: Machine) -> bool:
        """Tell whether it computes this layer at all."""
        raise NotImplementedError

    def cost(self, layer: Layer, machine: Machine) -> float:
        """Estimate the cycles of one image on one core; `can` holds."""
        raise NotImplementedError

    def fuses_pool(self, layer: Layer, kernels: Kernels) -> bool:
        """Tell whether it pools as it goes. Every kernel fuses every activation and a residual."""
        return False

    def border(self, layer: Layer) -> Border:
        """Return the border of zeros that its input needs."""
        return layer.padding

    def describe(self, layer: Layer) -> str:
        """Return the label for this layer."""
        return self.label

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of its record, weights packed. epilogue: the fields `activation` and, if fused, `pool`."""
        raise NotImplementedError

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        """Return (rows, block, parts) of the units and the bytes of scratch, for so many images at once."""
        raise NotImplementedError


def whole(size: int, width: int) -> int:
    """Return `size`, up to a multiple of `width`."""
    return -(-size // width) * width


def share(block: int, rows: int, parts: int, threads: int) -> int:
    """Shrink a block of rows until the units divide evenly among the threads."""
    blocks = -(-rows // block)
    if parts % threads:
        blocks = -(-blocks // threads) * threads
    return max(1, -(-rows // blocks))


class Row:
    """A kernel's row in the table. Its file is loaded when it is first needed: each costs a start 0.1 ms.

    Attributes
    ----------
    name
        The kernel's, and in capitals that of the object in its file.
    file
        The module in this folder.
    likely
        ``(layer, algorithm) -> bool``: False only where the kernel cannot do the layer, or another one is always
        cheaper. Its own `can` and `cost` decide wherever this is true.
    """

    __slots__ = ("file", "likely", "name")

    def __init__(self, name: str, file: str, likely: Callable[[Layer, str], bool]) -> None:
        self.name, self.file, self.likely = name, file, likely

    def load(self) -> ConvKernel:
        """Return the kernel."""
        kernel: ConvKernel = getattr(import_module(f".{self.file}", __package__), self.name.upper())
        return kernel


KERNELS = (
    Row("depthwise", "depthwise", lambda layer, algorithm: layer.groups > 1),
    Row("grouped", "grouped", lambda layer, algorithm: layer.groups > 1),
    Row("winograd_4x4", "winograd", lambda layer, algorithm: layer.kernel == (3, 3)),
    Row("winograd_2x2", "winograd", lambda layer, algorithm: layer.kernel == (3, 3)),
    Row("pixels", "pixels", lambda layer, algorithm: layer.groups == 1),
    Row("pointwise", "pointwise", lambda layer, algorithm: layer.kernel == (1, 1)),
    Row("direct", "direct", lambda layer, algorithm: not layer.double),
    Row("packed", "packed", lambda layer, algorithm: algorithm == "packed"),  # direct, and im2col besides
    Row("im2col", "im2col", lambda layer, algorithm: layer.double or algorithm == "im2col"),
)
"""In the order of preference where two cost the same."""


def candidates(layer: Layer, machine: Machine, algorithm: str = "auto", *, likely: bool = False) -> list[ConvKernel]:
    """Return the kernels that can do a layer under an algorithm of `compile_graph`, in the table's order.

    With `likely`, only those of them that may be the cheapest.
    """
    kernels = [row.load() for row in KERNELS if not likely or row.likely(layer, algorithm)]
    return [
        kernel
        for kernel in kernels
        if (kernel.exact if algorithm == "exact" else algorithm in ("auto", kernel.algorithm))
        and kernel.can(layer, machine)
    ]


def applicable(layer: Layer, machine: Machine, name: str | None) -> str | None:
    """Return the name of a kernel where there is such a one and it can do a layer, else None."""
    return next((row.name for row in KERNELS if row.name == name and row.load().can(layer, machine)), None)


def choose(layer: Layer, machine: Machine, algorithm: str = "auto", name: str | None = None) -> ConvKernel:
    """Return the kernel of a layer: the one of that name, else the cheapest by estimate.

    Raises
    ------
    ArgumentError
        There is no kernel of that name.
    UnsupportedOperatorError
        The kernel, or every kernel of the algorithm, cannot do this layer.
    """
    if name is not None:
        for row in KERNELS:
            if row.name == name:
                kernel = row.load()
                if kernel.can(layer, machine):
                    return kernel
                raise UnsupportedOperatorError(f"{layer.name}: kernel={name!r} cannot do this convolution")
        raise ArgumentError(f"kernel: needs one of {', '.join(row.name for row in KERNELS)}, got {name!r}")
    able = candidates(layer, machine, algorithm, likely=True)
    if not able:
        raise UnsupportedOperatorError(
            f"{layer.name}: algorithm={algorithm!r} cannot do this convolution in "
            f"{'float64' if layer.double else 'float32'}; use algorithm='auto' or 'im2col'"
        )
    return min(able, key=lambda kernel: kernel.margin * kernel.cost(layer, machine))
