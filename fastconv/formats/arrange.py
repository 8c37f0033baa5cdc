"""Arranger: writes the permutes and reshapes that bring tensors of another format into the order that a node needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import axes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    import numpy as np

    from ..graph.builder import GraphBuilder

    Place: TypeAlias = tuple[str, axes.Axes]

__all__ = ["Arranger"]


class Arranger:
    """Tensors are given as places: the node whose output they are, and how their axes lie on the Graph's.

    Parameters
    ----------
    builder : GraphBuilder
    batches : sequence of int
        The sizes of the batch for which everything must come out alike.
    """

    def __init__(self, builder: GraphBuilder, batches: Sequence[int]) -> None:
        self._builder = builder
        self._batches = tuple(batches)
        self._turned: dict[tuple[str, tuple[int, ...]], str] = {}  # by node and dims: its permuted output

    def arranged(self, name: str, its_axes: axes.Axes) -> Place:
        """Bring the Graph's axes into the tensor's order, but the batch first."""
        dims = axes.order(its_axes)
        if list(dims) == sorted(dims):
            return name, its_axes
        if (name, dims) not in self._turned:
            self._turned[name, dims] = self._builder.add("permute", name, dims=dims)
        return self._turned[name, dims], axes.arranged(its_axes)

    def alike(self, *places: Place) -> list[Place]:
        """Let the axes of tensors lie alike: those with fewer get some of size 1 in front.

        Raises
        ------
        MixedError
            They cannot.
        """
        if all(its_axes == places[0][1] for _, its_axes in places):
            return list(places)
        rank = max(len(its_axes) for _, its_axes in places)
        result = [self._padded(*self.arranged(*place), rank) for place in places]
        if any(its_axes != result[0][1] for _, its_axes in result):
            raise axes.MixedError
        return result

    def _padded(self, name: str, its_axes: axes.Axes, rank: int) -> Place:
        new = (1,) * (rank - len(its_axes))
        if not new:
            return name, its_axes
        return self._builder.reshape(name, (*new, *self._builder.shape(name))), axes.padded(its_axes, rank)

    def plain(self, name: str, its_axes: axes.Axes) -> str:
        """Return the node whose output has the batch first, and all axes in the tensor's order.

        Raises
        ------
        MixedError
            The batch is not an axis of its own, or not the first.
        """
        name, its_axes = self.arranged(name, its_axes)
        if its_axes != axes.identity(len(its_axes)):
            raise axes.MixedError
        return name

    def reshaped(self, name: str, its_axes: axes.Axes, targets: Sequence[Sequence[int]]) -> Place:
        """Give a tensor another shape, which is named for each size of the batch.

        Raises
        ------
        MixedError
            The batch would not stay whole, or the result depends on its size.
        """
        settled = self._settled(name, its_axes, targets)
        if settled is None:
            name, its_axes = self.arranged(name, its_axes)
            settled = self._settled(name, its_axes, targets)
            assert settled is not None  # of arranged axes
        return self._builder.reshape(name, settled[0]), settled[1]

    def _settled(
        self, name: str, its_axes: axes.Axes, targets: Sequence[Sequence[int]]
    ) -> tuple[tuple[int, ...], axes.Axes] | None:
        shape = self._builder.shape(name)
        first, *others = (
            axes.reshape(its_axes, shape, batch, tuple(target))
            for batch, target in zip(self._batches, targets, strict=True)
        )
        if any(other != first for other in others):
            raise axes.MixedError
        return first

    def constant(self, name: str, its_axes: axes.Axes, array: np.ndarray) -> np.ndarray:
        """Return a constant that broadcasts with the tensor as it does with the node's output, without the batch.

        Raises
        ------
        MixedError
            It is not the same for all images, or has more axes.
        """
        return axes.constant(its_axes, self._builder.shape(name), self._batches[0], array)
