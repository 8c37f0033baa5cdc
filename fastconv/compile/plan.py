"""Where every activation lies: tensors of a program, and the arena that holds them.

Inside, images are channels-last. A tensor may carry a border of zeros, wide enough for every convolution
that pads it, so that these read it in place and nobody copies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

__all__ = ["ARENA", "CALLER", "OUTPUTS", "Ref", "Step", "Tensor", "Value", "lay_out"]

ARENA, CALLER, OUTPUTS = 0, 1, 2  # memory spaces: the arena, the caller's input, the first of its outputs
_ALIGN = 16  # elements: a cache line of floats


@dataclass(eq=False)
class Tensor:
    """One activation: (h, w, c) per image, channels last or planar (the caller's order).

    Attributes
    ----------
    border
        Rows and columns of zeros: top, bottom, left, right.
    compact
        Somebody reads it as one run of memory, so it must have no border.
    of
        The tensor whose memory this one views, or None.
    """

    h: int
    w: int
    c: int
    planar: bool = False
    space: int = ARENA
    border: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    compact: bool = False
    of: Tensor | None = None
    offset: int = 0

    @classmethod
    def plain(cls, shape: tuple[int, ...], **more: Any) -> Tensor:
        """A tensor for anything but images: row-major, the last axis in the lanes."""
        return cls(1, prod(shape[:-1]), shape[-1] if shape else 1, **more)

    @property
    def root(self) -> Tensor:
        """The tensor that owns the memory."""
        return self if self.of is None else self.of.root

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Of image, row, pixel and channel, in elements."""
        top, bottom, left, right = self.border
        if self.planar:
            row = self.w + left + right
            plane = (self.h + top + bottom) * row
            return self.c * plane, row, 1, plane
        row = (self.w + left + right) * self.c
        return (self.h + top + bottom) * row, row, self.c, 1

    @property
    def size(self) -> int:
        """Elements per image, border and all."""
        return self.strides[0]

    def view(self, top: int = 0, left: int = 0, channel: int = 0) -> tuple[int, ...]:
        """As the kernels take it (kernels/step.pxi); its origin moved out into the border by `top` and `left`."""
        image, row, pixel, step = self.strides
        owner = self.root
        origin = (self.border[0] - top) * row + (self.border[2] - left) * pixel + channel * step
        return (owner.space, owner.offset + origin, image, row, pixel, step, self.h, self.w, self.c)


@dataclass
class Value:
    """A value of the graph in the layouts it exists in so far. Anything but an image has only a plain one."""

    shape: tuple[int, ...]
    last: Tensor | None = None  # channels last
    planar: Tensor | None = None  # PyTorch's order; for anything but an image, the only order


@dataclass(eq=False)
class Ref:
    """A tensor as one step sees it: shifted into its border, or from some channel on."""

    tensor: Tensor
    top: int = 0
    left: int = 0
    channel: int = 0
    c: int | None = None  # where the step sees fewer channels than the tensor has

    def view(self) -> tuple[int, ...]:
        """The numbers of kernels/step.pxi's View."""
        view = self.tensor.view(self.top, self.left, self.channel)
        return view if self.c is None else (*view[:-1], self.c)


@dataclass(eq=False)
class Step:
    """One kernel call to be: what it reads and writes, and its parameters by the names of `Program`."""

    kernel: str
    node: str
    x: Ref
    y: Ref
    z: Ref | None = None
    label: str = ""
    scratch: int = 0  # elements per thread
    parameters: dict[str, Any] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The dict that `Program` is built from."""
        return {
            "kernel": self.kernel,
            "node": self.node,
            "label": self.label or self.kernel,
            "x": self.x.view(),
            "y": self.y.view(),
            "z": self.z.view() if self.z is not None else None,
            **self.parameters,
        }


def lay_out(steps: list[Step], group: int, keep: bool) -> int:
    """Give each tensor in the arena its offset and return the arena's size, for `group` images, in elements.

    Tensors that are never alive together share memory (with `keep`, only those without a border do: the others are
    alive always, and what is zero in them stays zero). The largest are placed first, each at the lowest offset
    that is free throughout its life (the greedy-by-size planner of Pisarchyk and Lee, "Efficient Memory Management
    for Deep Neural Net Inference", 2020).
    """
    lives: dict[int, tuple[Tensor, int, int]] = {}
    for index, step in enumerate(steps):
        for ref in (step.x, step.y, step.z):
            if ref is None or ref.tensor.root.space != ARENA:
                continue
            tensor = ref.tensor.root
            first = lives[id(tensor)][1] if id(tensor) in lives else index
            lives[id(tensor)] = (tensor, first, index)
    if keep:
        last = len(steps)
        lives = {key: (t, 0, last) if any(t.border) else (t, a, b) for key, (t, a, b) in lives.items()}
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    for tensor, first, last in sorted(lives.values(), key=lambda life: -life[0].size):
        size = -(-tensor.size * group // _ALIGN) * _ALIGN
        offset = 0
        for start, end, born, died in sorted(placed):
            if born <= last and first <= died and start < offset + size and offset < end:
                offset = end
        tensor.offset = offset
        placed.append((offset, offset + size, first, last))
    return max((end for _, end, _, _ in placed), default=0)
