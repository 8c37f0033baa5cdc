"""The kernels of a convolution: one file each, one ordered table."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import ArgumentError, UnsupportedOperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...machine.description import Machine
    from .kernel import ConvKernel, Layer

__all__ = ["KERNELS", "Row", "candidates", "choose"]


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
