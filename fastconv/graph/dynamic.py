"""Networks whose image size may vary: that no node depends on the size it was made for.

A `Graph` that is made with ``dynamic=True`` is checked by itself (`check`): its nodes are settled for images of twice
the height and width, and must come out the same, but for numbers that say what they follow (`.sizes`). What a format
has settled before, such as the target of a resize, is seen only by reading the network for other sizes as well, and
comparing (`compare_readings`).
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FastconvError, ShapeError
from . import array_id, checks
from .attributes import shown
from .inputs import listed
from .ops import OPS
from .sizes import applied, by_numbers, followed, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from . import Graph, Node
    from .ops.spec import Attributes, Shape

__all__ = ["check", "check_one", "compare", "compare_readings", "compared_shapes"]

_REMEDY = "its image size cannot vary: leave out dynamic=True"


def check(given: Sequence[Node], settled: Sequence[Node], inputs: Mapping[str, Shape]) -> None:
    """Refuse nodes that do not take images of another size, or would mean something else for them.

    Parameters
    ----------
    given
        The nodes as a reader gives them.
    settled
        The same, settled for images of the shape in `inputs`.
    inputs
        Name -> shape of one image: (C, H, W), or more or fewer axes behind the channels.

    Raises
    ------
    ShapeError
        It names the node, and what depends on the size; or there are several inputs.
    """
    check_one(inputs)
    ((name, shape),) = inputs.items()
    if len(shape) < 2:
        raise ShapeError(f"dynamic=True is for images, (C, H, W); the input is {shape}; {_REMEDY}")
    other = (shape[0], *(2 * size for size in shape[1:]))
    checks.check_size(other)
    shapes = {name: other}
    for node, claimed in zip(settled, given, strict=True):
        spec = OPS[node.op]
        try:
            attributes = checks.attributes(claimed.attrs, node.op, spec)
            if node.sizes:
                attributes = checks.attributes(applied(node.sizes, attributes, shapes), node.op, spec)
            shapes[node.name], again = spec.infer([shapes[name] for name in node.inputs], attributes, node.weights)
        except FastconvError as error:
            raise ShapeError(
                f"{node.name}: {error}, where images have shape {other} in place of {shape}; {_REMEDY}"
            ) from None
        _compare_attributes(node, masked(again, node.sizes) if node.sizes else again, shape, other)


def check_one(inputs: Collection[str]) -> None:
    """Refuse several inputs, whose sizes may depend on each other."""
    if len(inputs) != 1:
        raise ShapeError(
            f"dynamic=True is for networks of one input; this one has {len(inputs)}, {listed(tuple(inputs))}; {_REMEDY}"
        )


def compared_shapes(shape: Shape) -> list[Shape]:
    """Return the shapes of images for which a network is read again: larger and odd, larger, smaller.

    An odd size shows what depends on how strides divide the image; a network that takes only multiples of
    its strides refuses it.
    """
    channels, *sizes = shape
    return [
        (channels, *(2 * size + 1 + 2 * axis for axis, size in enumerate(sizes))),
        (channels, *((2 + axis) * size for axis, size in enumerate(sizes))),
        (channels, *(size // 2 + 1 + axis for axis, size in enumerate(sizes))),
    ]


def _little_larger(shape: Shape) -> Iterator[Shape]:
    """Yield shapes one of which a network takes that refuses odd sizes.

    Of multiples of its own size alone, padding to a multiple of 7 would look like a fraction of that size.
    """
    channels, *sizes = shape
    for step in (2, 4, 8, 16, 32):
        yield (channels, *(size + step * (1 + axis) for axis, size in enumerate(sizes)))


def compare_readings(graph: Graph, read: Callable[[Shape], Graph], name: str) -> Graph:
    """Return a network for images of any size; refuse what is another network for other sizes.

    Numbers such as the target of a reshape follow the size then, where the readings show how. Constants may not, which
    are made from the size, nor branches.

    Parameters
    ----------
    graph
        As it was read.
    read
        Reads it for another shape of an image.
    name
        Of the network.
    """
    readings: list[Graph] = []
    refused: list[tuple[Shape, FastconvError]] = []

    def taken(shape: Shape) -> bool:
        try:
            readings.append(read(shape))
        except FastconvError as error:
            refused.append((shape, error))
            return False
        return True

    compared = [taken(shape) for shape in compared_shapes(graph.input_shape)]
    if not all(compared):
        any(taken(shape) for shape in _little_larger(graph.input_shape))
    graph, *readings = by_numbers([graph, *readings])
    varying = graph.replace(nodes=followed(graph, readings), dynamic=True)
    for shape, refusal in refused:
        _check_refused(varying, shape, refusal)
    for other in readings:
        try:
            own = varying.replace(input_shape=other.input_shape, dynamic=False)
        except FastconvError as error:
            compare(graph, other)  # which may say what differs
            raise ShapeError(f"{error}; {_REMEDY}") from None
        compare(own, other, graph.input_shape)
    if not any(other.input_shape > graph.input_shape for other in readings):
        raise ShapeError(f"{name} takes no larger images than {graph.input_shape}; leave out dynamic=True")
    return varying


def _check_refused(graph: Graph, shape: Shape, error: FastconvError) -> None:
    """Refuse a network that fails for a size which its layers would take."""
    try:
        graph.replace(input_shape=shape, dynamic=False)
    except FastconvError:
        return
    raise ShapeError(f"the image size cannot vary: {error}; leave out dynamic=True") from None


def compare(first: Graph, other: Graph, read: Shape | None = None) -> None:
    """Refuse two readings of one network, for two sizes, that differ in more than shapes.

    read: the shape of an image that `first` was read for, where it is settled for another.

    Raises
    ------
    ShapeError
        It names the first node that differs, and in what.
    """
    sizes = read or first.input_shape, other.input_shape
    for node, again in zip_longest(first.nodes, other.nodes):
        if node is None or again is None or (node.name, node.op, node.inputs) != (again.name, again.op, again.inputs):
            raise _depends(node or again, "the node itself", *sizes)
        _compare_attributes(node, again.attrs, *sizes)
        for role in {**node.weights, **again.weights}:
            one, two = node.weights.get(role), again.weights.get(role)
            if one is None or two is None:
                raise _depends(node, role, *sizes)
            if array_id(one) != array_id(two) and not np.array_equal(one, two, equal_nan=True):
                raise _depends(node, role, *sizes)
    if first.outputs != other.outputs:
        raise ShapeError(
            f"the outputs are {', '.join(first.outputs)} for images of {sizes[0]}, {', '.join(other.outputs)} for "
            f"{sizes[1]}; {_REMEDY}"
        )


def _compare_attributes(node: Node, again: Attributes, shape: Shape, other: Shape) -> None:
    attrs = masked(node.attrs, node.sizes) if node.sizes else node.attrs
    for key, value in attrs.items():
        now = again[key]
        if now != value and (value == value or now == now):  # NaN is a value of pad
            raise _depends(node, f"{key}, {shown(value)} or {shown(now)},", shape, other)


def _depends(node: Node, what: str, shape: Shape, other: Shape) -> ShapeError:
    return ShapeError(
        f"{node.name}: {node.op} depends on the image size: {what} differs between images of {shape} and {other}; "
        f"{_REMEDY}"
    )
