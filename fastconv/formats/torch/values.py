"""What a tensor of an exported program is known to be while it is read."""

from __future__ import annotations

__all__ = ["Unusable", "Value"]


class Value:
    """A tensor of the network: a node's output, or its input.

    Attributes
    ----------
    name : str
        The Graph's name for it.
    shape : tuple of int
        Batched.
    memory : object
        Shared by all that live in the same memory, so that in-place calls find them.
    """

    __slots__ = ("memory", "name", "shape")

    def __init__(self, name: str, shape: tuple[int, ...], memory: object = None) -> None:
        self.name = name
        self.shape = shape
        self.memory = object() if memory is None else memory


class Unusable:
    """In place of a value that the network must not use, with the reason."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
