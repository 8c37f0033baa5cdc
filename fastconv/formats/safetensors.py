"""``.safetensors`` -> Graph: a ``state_dict`` in the file format of Hugging Face.

The library reads and checks the file; only bfloat16, which NumPy lacks, is widened here. Like a plain
``.npz``, such a file holds weights alone; see :mod:`.state_dict` for the networks that are known.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import FastconvError, MissingExtraError, ModelFormatError
from . import state_dict
from .npz.archive import to_float32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..graph import Graph

__all__ = ["SafetensorsFile", "load"]

_BFLOAT16 = "BF16"
_FLOATS = ("F16", "F32", "F64", _BFLOAT16)


def load(
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    architecture: str | None = None,
    dynamic: bool | None = None,
) -> Graph:
    """Read the weights of a network from a ``.safetensors`` file.

    Parameters
    ----------
    path : str or os.PathLike
    input_shape : sequence of int, optional
        (C, H, W) of one image.
    architecture : str, optional
        Whose weights they are; by default of the LeNet family.
    dynamic : bool, optional
        Whether other sizes are taken too; by default not.

    Returns
    -------
    Graph
        With float32 weights: float16, bfloat16 and float64 are converted.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ModelFormatError
        The file is damaged or malicious, or its weights are not those of the network.
    ShapeError, ArgumentError
        The weights or `input_shape` do not fit the network, or there is no such architecture.
    MissingExtraError
        The package safetensors is not installed.
    """
    name = os.fspath(path)
    try:
        with SafetensorsFile(name) as file:
            return state_dict.read(file, input_shape, architecture, bool(dynamic))
    except FastconvError as error:
        raise type(error)(f"{name}: {error}") from None


class Header(NamedTuple):
    """What is known of a tensor before it is read."""

    dtype: str
    shape: tuple[int, ...]


class SafetensorsFile:
    """A ``.safetensors`` file open for reading; a context manager.

    Parameters
    ----------
    path : str

    Attributes
    ----------
    names : tuple of str
        The tensors, in an order that says nothing: the writer sorts them.
    """

    ordered = False

    def __init__(self, path: str) -> None:
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError:
            raise MissingExtraError(
                "the package safetensors is not installed; it is needed to read this file: "
                "pip install 'fastconv[safetensors]'"
            ) from None
        with open(path, "rb"):  # the library's own errors name neither the file nor the reason
            pass
        self._path = path
        self._error = SafetensorError
        try:
            self._file: Any = safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise ModelFormatError(
                f"is not a safetensors file, or a damaged one ({error}); save it again with safetensors"
            ) from None
        self.names: tuple[str, ...] = tuple(self._file.keys())  # type: ignore[no-untyped-call, unused-ignore]

    def __enter__(self) -> SafetensorsFile:
        self._file.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

    def header(self, name: str) -> Header:
        """Return dtype and shape of a tensor."""
        part = self._file.get_slice(name)
        return Header(part.get_dtype(), tuple(part.get_shape()))

    def read_weight(self, name: str) -> np.ndarray:
        """Return a tensor as float32."""
        dtype, shape = self.header(name)
        if dtype not in _FLOATS:
            raise self._fault(name, f"has dtype {dtype}; weights are floating-point numbers")
        try:
            array = self._bfloat16(name, shape) if dtype == _BFLOAT16 else self._file.get_tensor(name)
        except (self._error, MemoryError) as error:
            raise self._fault(name, f"cannot be read ({error})") from None
        # A copy: the library's own arrays may lie in the file, which may change.
        return to_float32(np.array(array), lambda what: self._fault(name, what))

    def _bfloat16(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a tensor of bfloat16 as float32: the same bits with 16 zeros behind them."""
        with open(self._path, "rb") as file:  # its header was checked when it was opened
            size = int.from_bytes(file.read(8), "little")
            begin, end = json.loads(file.read(size))[name]["data_offsets"]
            file.seek(8 + size + begin)
            bits = np.frombuffer(file.read(end - begin), "<u2")
        wide = bits.astype(np.uint32) << np.uint32(16)
        values: np.ndarray = wide.view(np.float32).reshape(shape)
        return values

    def _fault(self, name: str, what: str) -> ModelFormatError:
        return ModelFormatError(f"tensor {name!r:.200} {what}; save it again with safetensors")
