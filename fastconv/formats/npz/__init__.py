"""Graph <-> `.npz`: fastconv's own files (`model`, `write`), and PyTorch's `state_dict` (`..state_dict`), read only.

`stored` reads a Graph from a file and keeps that open, so that large weights need not stay in memory as well.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import ArgumentError, FastconvError, ModelFormatError
from .archive import DOCUMENT, Archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ...graph import Graph

__all__ = ["is_own", "load", "save"]


def load(
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    architecture: str | None = None,
    dynamic: bool | None = None,
) -> Graph:
    """Read a model from an ``.npz`` file.

    Parameters
    ----------
    path : str or os.PathLike
        Either fastconv's own kind, or a plain ``state_dict`` (see :mod:`..state_dict`).
    input_shape : sequence of int, or mapping of str to sequence of int, optional
        (C, H, W) of one image. A plain ``state_dict`` needs it where the size does not follow from
        the first linear layer; a file of fastconv's own is read for this size instead of the one
        saved; where it has several inputs, a mapping of names to shapes, of those that have another.
    architecture : str, optional
        Of a plain ``state_dict`` that is not of the LeNet family.
    dynamic : bool, optional
        Whether other sizes are taken too; by default as the file says, and not for a plain ``state_dict``.

    Returns
    -------
    Graph
        With float32 weights: float16 and float64 are converted.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ModelFormatError
        The file is not a model, or damaged, or malicious. Pickled data is never interpreted, and no
        size is believed that the file itself is too small for.
    UnsupportedOperatorError, ShapeError, ArgumentError
        The network is not one that fastconv computes, or not at this `input_shape`; there is no such architecture, or
        the file needs none.
    """
    with named(path), Archive(path) as archive:
        return read(archive, input_shape, architecture, dynamic)


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors about what a file holds begin with its path."""
    try:
        yield
    except FastconvError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def is_own(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is of fastconv's own kind."""
    try:
        with Archive(path) as archive:
            return DOCUMENT in archive.names
    except ModelFormatError:
        return False


def read(
    archive: Archive,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None,
    architecture: str | None,
    dynamic: bool | None,
) -> Graph:
    """Read the Graph in an open file; see `load`."""
    if DOCUMENT in archive.names:
        from . import model

        if architecture is not None:
            raise ArgumentError("the file says itself how its layers are connected; leave architecture out")
        return model.read(archive, input_shape, dynamic)
    from .. import state_dict

    return state_dict.read(archive, input_shape, architecture, bool(dynamic))


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write `graph` to `path`, atomically; the same graph gives the same bytes.

    Weights are written as float32. Arrays that nodes share are written once.

    Parameters
    ----------
    graph : Graph
    path : str or os.PathLike
        Taken as it is: no suffix is added.

    Raises
    ------
    OSError
        The file cannot be written. Nothing is left behind, and an older file is untouched.
    """
    from .write import write_graph

    write_graph(graph, path)
