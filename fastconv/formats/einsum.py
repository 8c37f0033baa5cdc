"""An einsum of two operands as a product of matrices: of the axes that both have, some are summed."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Einsum", "Operand", "einsum"]


class Operand(NamedTuple):
    """How an operand becomes matrices: its axes in another order, and the letters that each of the new ones joins."""

    dims: tuple[int, ...]
    joined: tuple[str, ...]

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the matrices' shape."""
        return tuple(prod(sizes[letter] for letter in letters) for letters in self.joined)


class Einsum(NamedTuple):
    """`first` and `second` are multiplied as matrices; the product has the axes `made`, and is permuted by `dims`."""

    words: tuple[str, str]
    first: Operand
    second: Operand
    made: str
    dims: tuple[int, ...]

    def sizes(self, *shapes: Sequence[int]) -> dict[str, int]:
        """Return the size for each letter.

        Raises
        ------
        ValueError
            An operand has other axes, or a letter two sizes; the message says so.
        """
        result: dict[str, int] = {}
        for word, shape in zip(self.words, shapes, strict=True):
            if len(word) != len(shape):
                raise ValueError(f"of an operand with {len(shape)} axes")
            for x, size in zip(word, shape, strict=True):
                if result.setdefault(x, size) != size:
                    raise ValueError(f"with {x} of the sizes {result[x]} and {size}")
        return result


def einsum(equation: str) -> Einsum:
    """Read an equation with an arrow.

    Raises
    ------
    ValueError
        It is no product of two operands' matrices; the message says why.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    words = tuple(inputs.split(","))
    if len(words) != 2:
        raise ValueError("of other than two operands")
    if not arrow or "." in equation or any(len(set(word)) < len(word) for word in (*words, output)):
        raise ValueError("with an ellipsis or a diagonal, or without an arrow")
    first, second = words
    shared = "".join(x for x in first if x in second and x in output)
    summed = "".join(x for x in first if x in second and x not in output)
    rows, columns = ("".join(x for x in word if x not in other) for word, other in ((first, second), (second, first)))
    made = shared + rows + columns
    if sorted(made) != sorted(output):
        raise ValueError("that sums over an axis of one operand")
    return Einsum(
        (first, second),
        Operand(tuple(map(first.index, shared + rows + summed)), (*shared, rows, summed)),
        Operand(tuple(map(second.index, shared + summed + columns)), (*shared, summed, columns)),
        made,
        tuple(map(made.index, output)),
    )
