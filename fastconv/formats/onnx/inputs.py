"""What a file says of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DTypeError, ShapeError, UnsupportedOperatorError
from ...graph import INPUT
from ...graph.attributes import MAX_INTEGER, integers, shown
from ...graph.inputs import given_for
from .file import text
from .tensors import DTYPES, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onnx import TensorShapeProto, ValueInfoProto

__all__ = ["Input", "batch_of", "inputs_of"]

MAX_BATCH = 2**20
"""Images that a file may fix its batch at; with all elements of a tensor they are counted in 64 bits."""


def inputs_of(infos: Sequence[ValueInfoProto], given: Any) -> dict[str, Input]:
    """Return each input by the name that the Graph has for it: the file's, or `INPUT` where there is one.

    given: `input_shape` as for `fastconv.load`.
    """
    names = [text("an input", info.name) for info in infos] if len(infos) > 1 else [INPUT]
    shapes = {} if given is None else given_for(names, given)
    return {name: Input(info, shapes.get(name)) for name, info in zip(names, infos, strict=True)}


def batch_of(inputs: Iterable[Input]) -> int | None:
    """Return the number of images, where the file fixes it; all inputs have the same."""
    fixed = [given for given in inputs if given.batch is not None]
    for given in fixed:
        if given.batch != fixed[0].batch:
            raise UnsupportedOperatorError(
                f"input {shown(given.name)} has a batch of {given.batch} in front, {shown(fixed[0].name)} one of "
                f"{fixed[0].batch}; networks whose inputs have one batch are supported"
            )
    return fixed[0].batch if fixed else None


class Input:
    """An input of a network.

    Parameters
    ----------
    info : ValueInfoProto
    given : sequence of int, optional
        The shape of one image, for sizes that the file leaves open.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one image.
    batch : int or None
        The number of images, where the file fixes it.
    open : bool
        Whether the file leaves open all sizes behind the channels, of which there are some.
    dtype : numpy.dtype
        To compute in: float64 where the input has it, else float32.
    floating : bool
        False where the input is of integers, which a Cast has to turn into numbers first. Those of more
        bits than float32 has are refused.
    """

    def __init__(self, info: ValueInfoProto, given: Sequence[int] | None) -> None:
        self.name = text("an input", info.name)
        if not info.type.HasField("tensor_type"):
            raise UnsupportedOperatorError(f"input {shown(self.name)} is no tensor")
        kind = info.type.tensor_type
        dtype = DTYPES.get(kind.elem_type)
        if dtype is None or dtype.kind not in "fiu" or (dtype.kind != "f" and dtype.itemsize > 2):
            raise DTypeError(
                f"input {shown(self.name)} has elements of type {type_name(kind.elem_type)}; needs FLOAT, DOUBLE or "
                "FLOAT16, or integers of 8 or 16 bits"
            )
        self.floating = dtype.kind == "f"
        self.dtype = dtype if self.floating else np.dtype(np.float32)
        self.batch: int | None = None
        self.open = not kind.HasField("shape")
        shape = None if given is None else integers("input_shape", given)
        if kind.HasField("shape"):
            shape = self._fit(kind.shape, shape)
        elif shape is None:
            raise ShapeError(f"input {shown(self.name)} has no shape; pass input_shape=, that of one image")
        self.shape = shape

    def _fit(self, said: TensorShapeProto, given: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the shape of one image; the file's first axis is the batch."""
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in said.dim]
        what = f"input {shown(self.name)} has the shape ({', '.join('?' if s is None else str(s) for s in sizes)})"
        if any(size is not None and not 0 <= size <= MAX_INTEGER for size in sizes):
            raise ShapeError(f"{what}, which is impossible")
        if not sizes or sizes[0] == 0:
            raise ShapeError(f"{what}, without a batch in front")
        self.batch = sizes[0]
        self.open = len(sizes) > 2 and all(size is None for size in sizes[2:])
        if self.batch is not None and self.batch > MAX_BATCH:
            raise ShapeError(f"{what}: a batch of more than {MAX_BATCH}")
        if given is not None:
            pairs = zip(given, sizes[1:], strict=False)
            if len(given) != len(sizes) - 1 or any(size not in (None, own) for own, size in pairs):
                raise ShapeError(f"{what} with the batch in front, which input_shape={given} does not fit")
            return given
        if None in sizes[1:]:
            raise ShapeError(f"{what}; pass input_shape=, the shape of one image, to say what ? is")
        return tuple(size for size in sizes[1:] if size is not None)
