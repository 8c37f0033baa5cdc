"""ONNX -> Graph. The package ``onnx`` is imported when a file is read, not here.

file      opening and checking a file    tensors  the arrays in it and beside it
reader    its nodes, one after the other values   what a tensor of the network is known to be
nodes     the graph as it stands there   inputs   what a file says of its inputs
fold      nodes of constants             missing  what is not supported
ops       one entry for each operator, one file per family
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import FastconvError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...graph import Graph
    from ...graph.ops.spec import Shape

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    dynamic: bool | None = None,
) -> Graph:
    """Read a model from an ``.onnx`` file.

    Parameters
    ----------
    path : str or os.PathLike
        Weights that the file keeps outside are read from its own folder only.
    input_shape : sequence of int, or mapping of str to sequence of int, optional
        (C, H, W) of one image, for the sizes that the file leaves open. Those that it fixes must
        agree. Where there are several inputs: name -> shape, of those that leave sizes open.
    dynamic : bool, optional
        Whether images of other sizes are taken too, which needs a file that leaves open all sizes behind the channels;
        by default where it does and no node depends on the size. The file is then read for other sizes, too.

    Returns
    -------
    Graph
        With float32 weights, or float64 where an input of the file is float64. Its nodes and outputs
        have the names of the file's, and its inputs where there are several.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ModelFormatError
        The file is not a model, or damaged, or malicious. No size is believed that the files
        themselves are too small for.
    UnsupportedOperatorError
        The network is not one that fastconv computes. All operators that are missing are named.
    ShapeError, ArgumentError, DTypeError
        Sizes, attributes or element types that do not fit.
    MissingExtraError
        The package ``onnx`` is not installed.
    """
    from .file import open_model

    try:
        model, nbytes = open_model(path)
        from .reader import Reader
        from .tensors import Tensors

        tensors = Tensors(os.fspath(path), nbytes)
        reader = Reader(model, tensors, input_shape)
        graph = reader.read()
        if dynamic or (dynamic is None and reader.open):
            return _dynamic(graph, reader.open, lambda shape: Reader(model, tensors, shape).read(), dynamic)
        return graph
    except FastconvError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def _dynamic(graph: Graph, open: bool, read: Callable[[Shape], Graph], asked: bool | None) -> Graph:
    """Return the network for images of any size; unless that was asked for, as it is where its size cannot vary."""
    from ...graph.dynamic import check_one, compare_readings

    with suppress(*(() if asked else (FastconvError,))):
        check_one(graph.inputs)
        if not open:
            raise ShapeError(
                f"the file fixes the image size at {graph.input_shape}; export it with its height and width dynamic, "
                "or leave out dynamic=True"
            )
        return compare_readings(graph, read, "the network")
    return graph
