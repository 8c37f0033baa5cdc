"""Numbers in attributes that follow the size of the image: the target of a reshape, of a resize, the end of a slice.

A node says for each of them what it follows: an axis of an earlier value, times a fraction; or, one number of a
reshape, what the others leave. They are settled wherever the size is known, and stand as plain numbers then. What
follows what is found by comparing readings of one network for several sizes (`followed`). Imported for such networks.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ModelFormatError, ShapeError
from .attributes import MAX_INTEGER, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from . import Graph, Node
    from .ops.spec import Attributes, Shape

__all__ = ["Size", "applied", "by_numbers", "checked", "followed", "masked"]


class Size(NamedTuple):
    """One number of an attribute.

    Attributes
    ----------
    attr, place
        The attribute's name, and the number's place in it; 0 where it is one number.
    source
        The value that is followed, an input of the network or an earlier node; empty where the number of a reshape is
        what the others leave.
    axis
        Of the source, counted with the batch.
    times, over
        The number is ``size * times / over``, which must be whole.
    """

    attr: str
    place: int
    source: str = ""
    axis: int = 1
    times: int = 1
    over: int = 1


def checked(sizes: Any) -> tuple[Size, ...]:
    """Return what a file or caller claims to be sizes; what they refer to is checked as they are `applied`."""
    if not isinstance(sizes, (tuple, list)):
        raise ModelFormatError(f"sizes must be a list, got {shown(sizes)}")
    result = []
    for given in sizes:
        row = tuple(given) if isinstance(given, (tuple, list)) else ()
        if len(row) != 6 or [type(item) for item in row] != [str, int, str, int, int, int]:
            raise ModelFormatError(
                f"each of sizes must be [attribute, place, source, axis, times, over], got {shown(given)}"
            )
        size = Size(*row)
        if size.place < 0 or not 1 <= size.times <= MAX_INTEGER or not 1 <= size.over <= MAX_INTEGER:
            raise ModelFormatError(f"sizes: place must not be negative, times and over at least 1, got {shown(given)}")
        result.append(size)
    return tuple(result)


def applied(sizes: Sequence[Size], attributes: Attributes, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Return attributes with the numbers that follow, for the shapes of what comes before a node.

    Raises
    ------
    ModelFormatError
        There is no such attribute, number, value or axis.
    ShapeError
        A number is not whole.
    """
    result = dict(attributes)
    for size in sizes:
        value = result.get(size.attr)
        numbers = [value] if isinstance(value, int) else list(value) if isinstance(value, tuple) else []
        if size.place >= len(numbers) or not isinstance(numbers[size.place], int):
            raise ModelFormatError(f"sizes: there is no number {size.place} in the attribute {shown(size.attr)}")
        numbers[size.place] = _number(size, shapes)
        result[size.attr] = numbers[0] if isinstance(value, int) else tuple(numbers)
    return result


def _number(size: Size, shapes: Mapping[str, Shape]) -> int:
    if not size.source:
        return -1
    shape = shapes.get(size.source)
    if shape is None:
        raise ModelFormatError(f"sizes: {shown(size.source)} is no input and no earlier node")
    if not 1 <= size.axis <= len(shape):
        raise ModelFormatError(f"sizes: {shown(size.source)} of shape {shape} has no axis {size.axis}")
    number, rest = divmod(shape[size.axis - 1] * size.times, size.over)
    if rest:
        raise ShapeError(
            f"{size.attr} takes {size.times}/{size.over} of axis {size.axis} of {size.source}, which has the shape "
            f"{shape}; the images need another size"
        )
    return number


def masked(attributes: Attributes, sizes: Sequence[Size]) -> Attributes:
    """Return attributes whose numbers that follow are all 0, to compare the rest."""
    result = dict(attributes)
    for size in sizes:
        value = result[size.attr]
        if isinstance(value, tuple):
            result[size.attr] = (*value[: size.place], 0, *value[size.place + 1 :])
        else:
            result[size.attr] = 0
    return result


def by_numbers(readings: Sequence[Graph]) -> list[Graph]:
    """Return readings of a network that multiply by a number, or add one, where they had one for each channel.

    Readers write `GraphBuilder.affine` for ``x * 0.5``, a batch norm. Where the first axis follows the image's size,
    as that of attention over pixels, it would have as many weights.
    """
    nodes = [list(graph.nodes) for graph in readings]
    for i, alike in enumerate(zip(*nodes, strict=False)):
        if any(node.op != "batch_norm" for node in alike):
            continue
        if len({node.weights["running_mean"].size for node in alike}) == 1:
            continue
        found = [_by_number(node) for node in alike]
        if found[0] is not None and all(other == found[0] for other in found):
            op, number = found[0]
            for own, node in zip(nodes, alike, strict=True):
                other = np.array(number, node.weights["running_mean"].dtype)
                own[i] = node.replace(op=op, attrs={}, weights={"other": other})
    return [graph.replace(nodes=own) for graph, own in zip(readings, nodes, strict=True)]


def _by_number(node: Node) -> tuple[str, float] | None:
    """Return the arithmetic that a batch norm does, if all channels have one number."""
    none = np.zeros(1), np.ones(1)
    scale, shift = node.weights.get("weight", none[1]), node.weights.get("bias", none[0])
    uniform = all((array == array[:1]).all() and array.size for array in (scale, shift))
    if (
        not uniform
        or node.attrs["eps"]
        or node.weights["running_mean"].any()
        or (node.weights["running_var"] != 1).any()
    ):
        return None
    if not shift[0]:
        return "mul", float(scale[0])
    return ("add", float(shift[0])) if scale[0] == 1 else None


def followed(graph: Graph, others: Sequence[Graph]) -> list[Node]:
    """Return the nodes of a network, whose numbers follow the size of the image where other readings of it show how.

    Parameters
    ----------
    graph
        As it was read for one size.
    others
        For other sizes. Where their nodes are not alike, or nothing explains a number, it is left alone.
    """
    readings = [graph, *others]
    nodes = list(graph.nodes)
    for i, node in enumerate(nodes):
        alike = [other.nodes[i] for other in readings if i < len(other.nodes)]
        if len(alike) != len(readings) or any(
            (n.name, n.op, n.inputs) != (node.name, node.op, node.inputs) for n in alike
        ):
            break
        sizes = [size for key in node.attrs for size in _sizes(i, key, alike, readings)]
        if sizes:
            nodes[i] = node.replace(sizes=tuple(sizes))
    return nodes


def _sizes(i: int, key: str, alike: Sequence[Node], readings: Sequence[Graph]) -> list[Size]:
    """Return what the numbers of one attribute follow; nothing where one of them is not explained."""
    values = [node.attrs[key] for node in alike]
    if all(value == values[0] for value in values[1:]):
        return []
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    if len({len(row) for row in rows}) != 1 or not all(type(item) is int for row in rows for item in row):
        return []
    differing = [j for j, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1]
    left = (alike[0].op, key) == ("reshape", "shape")
    if left and len(differing) == 1:
        return [Size(key, differing[0])]
    sizes = []
    for j in differing:
        found = _source([row[j] for row in rows], i, readings)
        if found is None and left:  # one number may be what the others leave
            found, left = ("", 1, 1, 1), False
        if found is None:
            return []
        sizes.append(Size(key, j, *found))
    return sizes


def _source(numbers: Sequence[int], i: int, readings: Sequence[Graph]) -> tuple[str, int, int, int] | None:
    """Return (source, axis, times, over) that give these numbers in all readings: the nearest, equal ones first."""
    fractions = None
    for name, axis, found in _candidates(i, readings):
        if list(found) == list(numbers):
            return name, axis, 1, 1
        common = gcd(numbers[0], found[0])
        if fractions is None and common and all(found):
            times, over = numbers[0] // common, found[0] // common
            if times and all(x * times == y * over for x, y in zip(found, numbers, strict=True)):
                fractions = name, axis, times, over
    return fractions


def _candidates(i: int, readings: Sequence[Graph]) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Yield the axes before a node that differ between readings: of its inputs, then others, the nearest first."""
    graph = readings[0]
    before = [*graph.nodes[i].inputs, *(node.name for node in reversed(graph.nodes[:i])), *graph.inputs]
    for name in dict.fromkeys(before):
        for axis, found in enumerate(zip(*(reading.shapes[name] for reading in readings), strict=False), 1):
            if len(set(found)) > 1:
                yield name, axis, found
