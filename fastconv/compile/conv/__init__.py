"""The kernels of a convolution: one file each, one ordered table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ArgumentError, UnsupportedOperatorError
from .depthwise import DEPTHWISE
from .direct import DIRECT
from .im2col import IM2COL
from .packed import PACKED
from .pixels import PIXELS
from .winograd import WINOGRAD_2X2, WINOGRAD_4X4

if TYPE_CHECKING:
    from ...machine.description import Machine
    from .kernel import ConvKernel, Layer

__all__ = ["KERNELS", "candidates", "choose"]

KERNELS: tuple[ConvKernel, ...] = (DEPTHWISE, WINOGRAD_4X4, WINOGRAD_2X2, PIXELS, DIRECT, PACKED, IM2COL)
"""In the order of preference where two cost the same."""


def candidates(layer: Layer, machine: Machine, algorithm: str = "auto") -> list[ConvKernel]:
    """Return the kernels that can do a layer under an algorithm of `compile_graph`, in the table's order."""
    return [
        kernel
        for kernel in KERNELS
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
        for kernel in KERNELS:
            if kernel.name == name:
                if kernel.can(layer, machine):
                    return kernel
                raise UnsupportedOperatorError(f"{layer.name}: kernel={name!r} cannot do this convolution")
        raise ArgumentError(f"kernel: needs one of {', '.join(kernel.name for kernel in KERNELS)}, got {name!r}")
    able = candidates(layer, machine, algorithm)
    if not able:
        raise UnsupportedOperatorError(
            f"{layer.name}: algorithm={algorithm!r} cannot do this convolution in "
            f"{'float64' if layer.double else 'float32'}; use algorithm='auto' or 'im2col'"
        )
    return min(able, key=lambda kernel: kernel.margin * kernel.cost(layer, machine))
