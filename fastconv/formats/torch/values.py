"""What a tensor of an exported program is known to be while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..axes import Axes

__all__ = ["Unusable", "Value"]


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
        Shared by all that live in the same memory, so that in-place calls find them.
    """

    __slots__ = ("axes", "memory", "name", "shape")

    def __init__(self, name: str, axes: Axes, shape: tuple[int, ...], memory: object = None) -> None:
        self.name = name
        self.axes = axes
        self.shape = shape
        self.memory = object() if memory is None else memory


class Unusable:
    """In place of a value that the network must not use, with the reason."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
