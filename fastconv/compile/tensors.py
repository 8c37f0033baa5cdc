"""Activations in memory: tensors, what a step sees of one, and steps.

Inside, images are channels last (NHWC). A tensor may carry a border of zeros, wide enough for every convolution that
pads it, so that these read it in place and nobody copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NCHW", "NHWC", "ROWS", "Border", "Ref", "Step", "Tensor"]

# Layouts of a value: an image's two, and for anything else row-major with its last axis in the lanes.
NHWC, NCHW, ROWS = "nhwc", "nchw", "rows"

Border: TypeAlias = tuple[int, int, int, int]  # top, bottom, left, right
NONE: Border = (0, 0, 0, 0)


class Tensor:
    """One activation: (h, w, c) per image.

    Attributes
    ----------
    dtype
        Of the elements.
    nchw
        Channels are planes; else they are the last axis.
    border
        Rows and columns of zeros around the image.
    base
        The tensor whose memory this one views, or None where it owns its memory.
    space, offset
        Where it begins: a memory space (kernels/step.pxi) and bytes into it; of a view, behind its base.
    """

    __slots__ = ("base", "border", "c", "dtype", "h", "nchw", "offset", "space", "strides", "w")

    def __init__(
        self,
        h: int,
        w: int,
        c: int,
        dtype: np.dtype[Any],
        *,
        nchw: bool = False,
        space: int | None = None,
        border: Border = NONE,
        base: Tensor | None = None,
    ) -> None:
        self.h, self.w, self.c, self.dtype = h, w, c, dtype
        self.nchw, self.border, self.base = nchw, border, base
        self.space, self.offset = space, 0
        top, bottom, left, right = border
        row, rows = w + left + right, h + top + bottom
        # of image, row, pixel and channel, in elements
        self.strides = (c * rows * row, row, 1, rows * row) if nchw else (rows * row * c, row * c, c, 1)

    def part(self, h: int, w: int, c: int, elements: int = 0) -> Tensor:
        """Return a view of (h, w, c) of this tensor under its strides, from an element on."""
        view = Tensor(h, w, c, self.dtype, nchw=self.nchw, base=self)
        view.strides, view.offset = self.strides, elements * self.dtype.itemsize
        return view

    def reshaped(self, h: int, w: int, c: int, *, nchw: bool = False) -> Tensor:
        """Return a view of the same memory, which has no border, under another shape."""
        return Tensor(h, w, c, self.dtype, nchw=nchw, base=self)

    @property
    def root(self) -> Tensor:
        """The tensor that owns the memory."""
        return self if self.base is None else self.base.root

    @property
    def size(self) -> int:
        """Elements per image, border and all."""
        return self.strides[0]

    @property
    def bytes(self) -> int:
        """Bytes per image, border and all."""
        return self.size * self.dtype.itemsize

    def place(self) -> tuple[int, int]:
        """Return the memory space, and the bytes to where the first row of the image, without border, begins."""
        top, _, left, _ = self.border
        offset = self.offset + (top * self.strides[1] + left * self.strides[2]) * self.dtype.itemsize
        if self.base is None:
            assert self.space is not None
            return self.space, offset
        space, behind = self.base.place()
        return space, behind + offset


class Ref:
    """A tensor as one step sees it: from some rows and columns of its border on."""

    __slots__ = ("left", "tensor", "top")

    def __init__(self, tensor: Tensor, top: int = 0, left: int = 0) -> None:
        self.tensor, self.top, self.left = tensor, top, left

    def view(self) -> dict[str, Any]:
        """Return the fields of kernels/step.pxi's View."""
        t = self.tensor
        image, row, pixel, channel = t.strides
        space, offset = t.place()
        offset -= (self.top * row + self.left * pixel) * t.dtype.itemsize
        return {
            "place": {"space": space, "offset": offset},
            "image": image,
            "row": row,
            "pixel": pixel,
            "channel": channel,
            "h": t.h,
            "w": t.w,
            "c": t.c,
        }


class Step:
    """One kernel call to be: what it reads and writes, the record of its family, and how it is cut into units.

    Attributes
    ----------
    cut
        Images that go together -> (rows, block, parts) as kernels/step.pxi's Units, and bytes of scratch.
    alone
        The step shares out its own work and must have one caller.
    """

    __slots__ = ("alone", "cut", "kernel", "label", "node", "record", "work", "x", "y", "z")

    def __init__(
        self,
        kernel: str,
        node: str,
        x: Ref,
        y: Ref,
        record: dict[str, Any],
        *,
        z: Ref | None = None,
        label: str = "",
        work: int = 0,
        cut: Callable[[int], tuple[int, int, int, int]] | None = None,
        alone: bool = False,
    ) -> None:
        self.kernel, self.node, self.x, self.y, self.z, self.record = kernel, node, x, y, z, record
        self.label, self.work, self.alone = label or kernel, work, alone
        self.cut = cut or (lambda images: (y.tensor.h, 1, 1, 0))

    @property
    def refs(self) -> list[Ref]:
        """What it reads and writes."""
        return [self.x, self.y] if self.z is None else [self.x, self.y, self.z]

    def spec(self, rows: int, block: int, parts: int) -> dict[str, Any]:
        """Return what `Program` is built from, cut into such units."""
        return {
            "kernel": self.kernel,
            "node": self.node,
            "label": self.label,
            "x": self.x.view(),
            "y": self.y.view(),
            "z": None if self.z is None else self.z.view(),
            "units": {"rows": rows, "block": block, "parts": parts},
            "work": self.work,
            "alone": self.alone,
            "record": self.record,
        }
