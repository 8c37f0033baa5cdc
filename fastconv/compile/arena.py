"""Where every activation stands: tensors that are never alive together share memory."""

from __future__ import annotations

from collections.abc import Sequence

from .tensors import Step, Tensor

__all__ = ["ALIGN", "lay_out"]

ALIGN = 64  # bytes: a cache line


def lay_out(steps: Sequence[Step], arena: int, images: int, keep: bool) -> int:
    """Give each tensor in the space `arena` its offset; return the arena's size in bytes, for so many images.

    With `keep`, tensors with a border share their memory with no other: what is zero in them stays zero. The largest
    are placed first, each at the lowest offset that is free throughout its life (the greedy-by-size planner of
    Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    lives: dict[int, tuple[Tensor, int, int]] = {}
    for index, step in enumerate(steps):
        for ref in step.refs:
            tensor = ref.tensor.root
            if tensor.space == arena:
                first = lives[id(tensor)][1] if id(tensor) in lives else index
                lives[id(tensor)] = (tensor, first, index)
    if keep:
        last = len(steps)
        lives = {key: (t, 0, last) if any(t.border) else (t, a, b) for key, (t, a, b) in lives.items()}
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    for tensor, first, last in sorted(lives.values(), key=lambda life: -life[0].bytes):
        size = -(-tensor.bytes * images // ALIGN) * ALIGN
        offset = 0
        for start, end, born, died in sorted(placed):
            if born <= last and first <= died and start < offset + size and offset < end:
                offset = end
        tensor.offset = offset
        placed.append((offset, offset + size, first, last))
    return max((end for _, end, _, _ in placed), default=0)
