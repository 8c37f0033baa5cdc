"""How the axes of a format's tensor lie on those of a Graph's value.

A value of a Graph has the batch first. Elsewhere the batch may be any axis, or a part of one: attention layers in
PyTorch put the images' windows or heads beside the batch into one axis, and apart again. So a reader knows for each
axis of a tensor which of the Graph's axes it is made of, outermost first, with 0 for the batch: each of these is a
part of exactly one. To transpose changes nothing else, and to reshape little more.

Where a format fixes the batch to one image, nothing tells its axis from others of size 1: it is the first of these
then, and where there is none, no axis has a 0.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Shape: TypeAlias = tuple[int, ...]
    Axes: TypeAlias = tuple[Shape, ...]

__all__ = ["Axes", "MixedError", "arranged", "constant", "identity", "order", "padded", "reshape", "sizes"]


class MixedError(Exception):
    """Elements of different images would come into one axis in an order that a Graph cannot express."""


def identity(rank: int) -> Axes:
    """Return the axes of a tensor that is as the Graph has it, of `rank` axes with the batch."""
    return tuple((axis,) for axis in range(rank))


def sizes(axes: Axes, shape: Shape, batch: int) -> Shape:
    """Return the tensor's sizes, for a value of this shape without the batch."""
    own = (batch, *shape)
    return tuple(prod(own[part] for part in parts) for parts in axes)


def order(axes: Axes) -> Shape:
    """Return the Graph's axes as the tensor has them, but the batch first: the `dims` of a permute."""
    return (0, *(part for parts in axes for part in parts if part))


def arranged(axes: Axes) -> Axes:
    """Return the axes after that permute: the Graph's in ascending order."""
    place = {axis: index for index, axis in enumerate(order(axes))}
    return tuple(tuple(place[part] for part in parts) for parts in axes)


def padded(axes: Axes, rank: int) -> Axes:
    """Return arranged axes with new ones in front, up to `rank`; the value gets as many axes of size 1 in front."""
    new = rank - len(axes)
    front = tuple((axis + 1,) for axis in range(new))
    return (*front, *(tuple(part + new if part else 0 for part in parts) for parts in axes))


def reshape(axes: Axes, shape: Shape, batch: int, target: Shape) -> tuple[Shape, Axes] | None:
    """Settle how a value becomes what another shape of the tensor lies on, by a reshape of its own.

    Parameters
    ----------
    axes, shape
        Of the tensor; of the value, without the batch.
    batch
        Its size, which should divide nothing else.
    target
        The tensor's new shape, with as many elements.

    Returns
    -------
    tuple or None
        The value's new shape and the tensor's new axes; None where the Graph's axes have to be brought into the
        tensor's order first.

    Raises
    ------
    MixedError
        The batch would become a part of an axis among others that it divides unevenly.
    """
    old = sizes(axes, shape, batch)
    if prod(old) != prod(target):
        raise MixedError
    if 0 in shape:
        return _empty(axes, batch, target)
    own = (batch, *shape)
    wide = [axis for axis in range(1, len(own)) if own[axis] != 1]
    runs: list[tuple[int, int, list[list[int | None]]]] = []  # place in the value, place in the tensor, axes
    last = -1
    for before, after in _runs(old, target):
        parts = [part for i in before for part in axes[i] if own[part] != 1]
        places = [wide.index(part) for part in parts if part]
        if places != list(range(places[0], places[0] + len(places)) if places else ()):
            return None
        last = places[0] if places else last  # axes of size 1 stay behind those that they follow in the tensor
        runs.append((last, len(runs), _pieces(parts, own, [target[j] for j in after])))
    if batch == 1:
        unit = next((piece for *_, pieces in runs for piece in pieces if piece == [1]), None)
        if unit is not None:
            unit[0] = None
    result: list[int] = []
    settled: dict[int, list[Shape]] = {}
    for _, index, pieces in sorted(runs, key=lambda run: run[:2]):
        settled[index] = [tuple(_append(result, size) for size in piece) for piece in pieces]
    return tuple(result), tuple(piece for _, index, _ in runs for piece in settled[index])


def _append(shape: list[int], size: int | None) -> int:
    """Give a value one more axis and return it; for None the batch, which it has."""
    if size is None:
        return 0
    shape.append(size)
    return len(shape)


def _runs(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Divide two shapes of as many elements, none of them empty, into the shortest runs of axes that have as many."""
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        while (here := prod(old[k] for k in left)) != (there := prod(new[k] for k in right)):
            shorter, at = (left, i) if here < there else (right, j)
            shorter.append(at + len(shorter))
        yield left, right
        i, j = i + len(left), j + len(right)


def _pieces(parts: Sequence[int], own: Shape, target: Sequence[int]) -> list[list[int | None]]:
    """Return what each new axis of a block is made of: sizes, and None for the batch."""
    if 0 not in parts:
        return [[size] for size in target]
    at = parts.index(0)
    before = prod(own[part] for part in parts[:at])
    after = prod(own[part] for part in parts[at + 1 :])
    for j, size in enumerate(target):
        front, back = prod(target[:j]), prod(target[j + 1 :])
        if before % front == 0 and after % back == 0 and size == (before // front) * own[0] * (after // back):
            outer, inner = before // front, after // back
            pieces: list[list[int | None]] = [[n] for n in target]
            pieces[j] = [n for n in (outer, None, inner) if n != 1]
            return pieces
    raise MixedError


def _empty(axes: Axes, batch: int, target: Shape) -> tuple[Shape, Axes] | None:
    """Reshape what holds nothing, where the batch stays in front."""
    if axes != identity(len(axes)):
        return None
    if not target or target[0] != batch:
        raise MixedError
    return target[1:], identity(len(target))


def constant(axes: Axes, shape: Shape, batch: int, array: np.ndarray) -> np.ndarray:
    """Return a constant that broadcasts with the tensor as one that broadcasts with the value, without the batch.

    Raises
    ------
    MixedError
        It is not the same for all images, or has more axes than the tensor.
    """
    if array.ndim > len(axes):
        raise MixedError
    own = (batch, *shape)
    array = array.reshape((1,) * (len(axes) - array.ndim) + array.shape)
    split: list[int] = []
    size: int
    for parts, size in zip(axes, array.shape, strict=True):
        whole = prod(own[part] for part in parts)
        if len(parts) == 1 and parts[0]:
            split.append(size)
        elif size in (1, whole):
            split += [1] * len(parts) if size == 1 else [own[part] for part in parts]
        else:
            raise MixedError
    flat = [part for parts in axes for part in parts]
    array = array.reshape(split)
    if 0 not in flat:
        flat, array = [0, *flat], array[np.newaxis]
    array = array.transpose([flat.index(axis) for axis in range(len(flat))])
    if len(array) > 1 and any(image.tobytes() != array[0].tobytes() for image in array[1:]):
        raise MixedError
    array = array[0, ...]  # still an array where one number is left
    while array.ndim and array.shape[0] == 1:
        array = array[0, ...]
    return array
