"""What a tensor of an exported program is known to be while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..axes import Axes

__all__ = ["Part", "Unusable", "Value", "overlap"]


class Value:
    """A tensor of the network: a node's output, or its input.

    Attributes
    ----------
    name : str
        The Graph's name for it.
    axes : Axes
        How its axes lie on the Graph's.
    shape : tuple of int
        Batched.
    memory : object
        Shared by all that live in the same memory, so that in-place calls find them; a `Part` of one.
    within : tuple or None
        Of a view: the value that it is a view of, and ``(that, view) -> value``, which writes a changed view into it.
    """

    __slots__ = ("axes", "memory", "name", "shape", "within")

    def __init__(self, name: str, axes: Axes, shape: tuple[int, ...], memory: object = None) -> None:
        self.name = name
        self.axes = axes
        self.shape = shape
        self.memory = object() if memory is None else memory
        self.within: tuple[Value, Callable[[Value, Value], Value]] | None = None

    def inside(self, outer: Value, write: Callable[[Value, Value], Value]) -> Value:
        """Return this as a view of another value, where it is not that itself."""
        if self is not outer:
            self.within = outer, write
        return self


class Part:
    """The memory of a slice: a range of one axis of a node's output, in the memory of that."""

    __slots__ = ("place", "span", "whole")

    def __init__(self, whole: object, place: tuple[str, int], span: range) -> None:
        self.whole: object = whole
        self.place: tuple[str, int] | None = place
        self.span = span
        if isinstance(whole, Part):  # of a part: which elements of the whole these are is not followed
            self.whole, self.place = whole.whole, None


def overlap(one: object, other: object) -> bool:
    """Tell whether two memories may have an element in common."""
    if isinstance(one, Part) and isinstance(other, Part) and one.place == other.place is not None:
        apart = one.span.stop <= other.span.start or other.span.stop <= one.span.start
        return one.whole is other.whole and not apart
    return (one.whole if isinstance(one, Part) else one) is (other.whole if isinstance(other, Part) else other)


class Unusable:
    """In place of a value that the network must not use, with the reason."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
