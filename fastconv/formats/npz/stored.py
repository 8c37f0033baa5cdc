"""A Graph that stays in its file: large weights are read when someone asks, not kept beside those that were packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FastconvError, ModelFormatError
from ...graph import array_id
from . import named, read
from .archive import Archive

if TYPE_CHECKING:
    import os

    from ...graph import Graph

__all__ = ["Stored", "without_values"]


class Stored:
    """An open file, and how a Graph is read from it. Each call reads the Graph anew; any thread may call.

    The file that was opened is the one that is read: it may be renamed, replaced or deleted.

    Parameters
    ----------
    path : str or os.PathLike
    how
        The further arguments of `read`.

    Raises
    ------
    OSError, FastconvError
        As `load`.
    """

    __slots__ = ("_archive", "_how", "_path")

    def __init__(self, path: str | os.PathLike[str], *how: Any) -> None:
        self._path, self._how = path, how
        with named(path):
            self._archive = Archive(path)

    def __call__(self) -> Graph:
        with named(self._path):
            return read(self._archive, *self._how)

    def again(self) -> Graph:
        """Read what has been read before."""
        try:
            return self()
        except FastconvError as error:
            raise ModelFormatError(
                f"{error}. The file was written to after the model had been loaded from it; load it again, and replace "
                "files by renaming others"
            ) from None

    def __del__(self) -> None:
        if hasattr(self, "_archive"):  # it could be opened
            self._archive.close()


def without_values(graph: Graph) -> Graph:
    """Return a Graph whose weights have their shapes, take no memory, and are all NaN."""
    empty: dict[Any, np.ndarray] = {}

    def instead(array: np.ndarray) -> np.ndarray:
        key = array_id(array)
        if key not in empty:
            empty[key] = np.broadcast_to(np.full((), np.nan, array.dtype), array.shape)
        return empty[key]

    nodes = tuple(
        node.replace(weights={role: instead(array) for role, array in node.weights.items()}) for node in graph.nodes
    )
    result = object.__new__(type(graph))  # the constructor would copy the weights, to have them contiguous
    vars(result).update({**vars(graph), "nodes": nodes})
    return result
