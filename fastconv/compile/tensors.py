"""Activations in memory: tensors, what a step sees of one, steps and segments of them, and where every tensor stands.

Inside, images are channels last (NHWC). A tensor may carry a border of zeros, wide enough for every convolution that
pads it, so that these read it in place and nobody copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    import numpy as np

__all__ = ["ALIGN", "NCHW", "NHWC", "ROWS", "Border", "Ref", "Segment", "Step", "Tensor", "lay_out", "lives"]

# Layouts of a value: an image's two, and for anything else row-major with its last axis in the lanes.
NHWC, NCHW, ROWS = "nhwc", "nchw", "rows"

Border: TypeAlias = "tuple[int, int, int, int]"  # top, bottom, left, right
NONE: Border = (0, 0, 0, 0)

ALIGN = 64  # bytes: a cache line


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
    size
        Elements per image, border and all.
    strides
        Of image, row, pixel and channel, in elements. From image to image, a view goes as its root does.
    """

    __slots__ = ("base", "border", "c", "dtype", "h", "nchw", "offset", "size", "space", "strides", "w")

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
        self.size = rows * row * c
        self.strides = (self.size, row, 1, rows * row) if nchw else (self.size, row * c, c, 1)

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
    """A tensor as one step sees it: from some rows and columns of its border on, or from an element on."""

    __slots__ = ("element", "left", "tensor", "top")

    def __init__(self, tensor: Tensor, top: int = 0, left: int = 0, element: int = 0) -> None:
        self.tensor, self.top, self.left, self.element = tensor, top, left, element

    def from_element(self, element: int) -> Ref:
        """Return the same from an element on."""
        return Ref(self.tensor, self.top, self.left, self.element + element)

    def view(self) -> dict[str, Any]:
        """Return the fields of kernels/step.pxi's View."""
        t = self.tensor
        _, row, pixel, channel = t.strides
        space, offset = t.place()
        offset += (self.element - self.top * row - self.left * pixel) * t.dtype.itemsize
        return {
            "place": {"space": space, "offset": offset},
            "image": t.root.strides[0],
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
    constants
        Bytes of what it reads that is the same for all images: weights, above all.
    serial
        The step shares out its own work and must have one caller.
    """

    __slots__ = ("constants", "cut", "kernel", "label", "node", "record", "serial", "work", "x", "y", "z")

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
        serial: bool = False,
    ) -> None:
        self.kernel, self.node, self.x, self.y, self.z, self.record = kernel, node, x, y, z, record
        self.label, self.work, self.serial, self.constants = label or kernel, work, serial, 0
        self.cut = cut or (lambda images: (y.tensor.h, 1, 1, 0))

    @property
    def refs(self) -> list[Ref]:
        """What it reads and writes."""
        return [self.x, self.y] if self.z is None else [self.x, self.y, self.z]

    def spec(self, alone: Sequence[int], together: Sequence[int]) -> dict[str, Any]:
        """Return what `Program` is built from: cut into such units for one image, or threads, and for a chunk."""
        return {
            "kernel": self.kernel,
            "node": self.node,
            "label": self.label,
            "x": self.x.view(),
            "y": self.y.view(),
            "z": None if self.z is None else self.z.view(),
            "alone": dict(zip(("rows", "block", "parts"), alone, strict=True)),
            "together": dict(zip(("rows", "block", "parts"), together, strict=True)),
            "work": self.work,
            "serial": self.serial,
            "record": self.record,
        }


class Segment:
    """Neighbouring steps through which a chunk of images goes together.

    Attributes
    ----------
    end
        One past its last step.
    images
        Of a chunk, at most.
    """

    __slots__ = ("end", "images")

    def __init__(self, end: int, images: int) -> None:
        self.end, self.images = end, images


def lives(steps: Sequence[Step], space: int) -> list[tuple[Tensor, int, int]]:
    """Return the tensors in a memory space, each with the first and the last step that touches it."""
    found: dict[int, tuple[Tensor, int, int]] = {}
    for index, step in enumerate(steps):
        for ref in step.refs:
            tensor = ref.tensor.root
            if tensor.space == space:
                first = found[id(tensor)][1] if id(tensor) in found else index
                found[id(tensor)] = (tensor, first, index)
    return list(found.values())


def lay_out(
    steps: Sequence[Step], segments: Sequence[Segment], arena: int, carried: int, keep: bool
) -> tuple[int, int]:
    """Give each tensor in the space `arena` its offset.

    Return the size in bytes of the arena, for the images that each segment has together, and of what an image carries
    from one segment to another. That stands side by side for each image, in a space of its own.

    With `keep`, tensors with a border share their memory with no other: what is zero in them stays zero. The largest
    are placed first, each at the lowest offset that is free throughout its life (the greedy-by-size planner of
    Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    carry: list[Tensor] = []
    together = 0
    for tensor, first, last in sorted(lives(steps, arena), key=lambda life: -life[0].bytes):
        segment = next(segment for segment in segments if first < segment.end)
        if last >= segment.end:
            tensor.space, tensor.offset = carried, together
            together += _aligned(tensor.bytes)
            carry.append(tensor)
            continue
        if keep and any(tensor.border):
            first, last = 0, len(steps)
        size = _aligned(tensor.bytes * segment.images)
        offset = 0
        for start, end, born, died in sorted(placed):
            if born <= last and first <= died and start < offset + size and offset < end:
                offset = end
        tensor.offset = offset
        placed.append((offset, offset + size, first, last))
    for tensor in carry:
        tensor.strides = (together // tensor.dtype.itemsize, *tensor.strides[1:])
    return max((end for _, end, _, _ in placed), default=0), together


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
