"""How many images go through the network together: segments of its steps, each with a chunk of its own.

Activations are largest early in a network and weights late. Early steps want few images at a time, whose activations
stay in cache from one step to the next; late steps want many, because weights that do not stay in cache come from
memory once for each chunk. (VGG-16's are 553 MB, three quarters of them in its first linear layer.)
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from .tensors import Segment, lives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..machine.description import Machine
    from .tensors import Step, Tensor

__all__ = ["divide"]

_LATE_IMAGES = (16, 12, 8, 6, 4, 3, 2)  # chunks that are considered; beyond 16 there is a sixteenth to gain
_L2_SHARE = 1 / 2  # of L2: what a step reads and writes


def divide(steps: Sequence[Step], space: int, machine: Machine, chunk: int, late_bytes: int) -> list[Segment]:
    """Divide the steps into an early and a late segment, or leave them one.

    Parameters
    ----------
    steps
    space
        The memory space of activations.
    machine
    chunk
        Images whose activations stay in cache, from one end of the network to the other.
    late_bytes
        What activations may take in the late segment.
    """
    held = _held(lives(steps, space), len(steps))
    best, gained = [Segment(len(steps), chunk)], 0.0
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
    l2 = _L2_SHARE * machine.l2_bytes
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
