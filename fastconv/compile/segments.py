"""How many images go through the network together: segments of its steps, each with a chunk of its own.

Activations are largest early in a network and weights late. Early steps want few images at a time, whose activations
stay in cache from one step to the next; late steps want many, because weights that do not stay in cache come from
memory once for each chunk. (VGG-16's are 553 MB, three quarters of them in its first linear layer.)
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..machine.description import Machine
    from .tensors import Step, Tensor

__all__ = ["Segment", "divide", "lives"]

_CHUNK_SHARE = 3 / 8  # of L2: activations of the images that go through a small network together
_CHUNK_IMAGES = 56  # four full tiles of rows for the linear layers; more gives nothing
_RESIDENT_SHARE = 1 / 2  # of L2: weights that stay there from one image to the next
_LATE_SHARE = 3 / 8  # of a thread's part of the last level: activations of a chunk in the late segment
_LATE_IMAGES = (16, 12, 8, 6, 4, 3, 2)  # chunks that are considered; beyond 16 there is a sixteenth to gain


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


def divide(steps: Sequence[Step], space: int, machine: Machine, threads: int, together: int) -> list[Segment]:
    """Divide the steps into one segment, or an early and a late one.

    Parameters
    ----------
    steps
    space
        The memory space of activations.
    machine
    threads
        Of a call; they share the last level of cache.
    together
        Images that should go through the network together, if memory allows.
    """
    alive = lives(steps, space)
    image_bytes = max(1, sum(tensor.bytes for tensor, _, _ in alive))
    late_bytes = int(_LATE_SHARE * machine.llc_bytes) // threads
    chunk = max(1, min(_CHUNK_IMAGES, int(_CHUNK_SHARE * machine.l2_bytes) // image_bytes))
    chunk = max(chunk, min(together, late_bytes // image_bytes))
    whole = [Segment(len(steps), chunk)]
    if sum(step.constants for step in steps) <= _RESIDENT_SHARE * machine.l2_bytes:
        return whole

    held = _held(alive, len(steps))
    best, gained = whole, 0.0
    for images in _LATE_IMAGES:
        if images <= chunk:
            break
        cut, gain = _late(steps, held, late_bytes // images, chunk, images, machine)
        if gain > gained:
            late = [Segment(len(steps), images)]
            best, gained = [Segment(cut, chunk), *late] if cut else late, gain
    return best


def _held(alive: Sequence[tuple[Tensor, int, int]], count: int) -> list[int]:
    """Return the bytes of an image's activations that are alive at each step."""
    change = [0] * (count + 1)
    for tensor, first, last in alive:
        change[first] += tensor.bytes
        change[last + 1] -= tensor.bytes
    return list(accumulate(change))[:count]


def _late(
    steps: Sequence[Step], held: Sequence[int], room: int, chunk: int, images: int, machine: Machine
) -> tuple[int, float]:
    """Return where a late segment of so many images pays most, and the bytes of traffic it saves for each image.

    A step of it reads its weights once for `images` instead of `chunk`; what it reads and writes may leave L2.
    """
    cut, gained, gain = len(steps), 0.0, 0.0
    l2 = _RESIDENT_SHARE * machine.l2_bytes
    for index in range(len(steps) - 1, -1, -1):
        if held[index] > room:
            break
        step = steps[index]
        touched = sum(ref.tensor.root.bytes for ref in step.refs)
        leaves = touched if chunk * touched <= l2 < images * touched else 0
        gain += step.constants * (1 / chunk - 1 / images) - leaves
        if gain > gained:
            cut, gained = index, gain
    return cut, gained
