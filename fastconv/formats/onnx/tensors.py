"""The arrays of a model, in its file or in others of its folder, read without trusting what it says of them.

An array is made only where the bytes for it are there: what an array in the file claims is set against
the bytes that the message holds, and what one outside claims against the size of that file. A file's
bytes are read once at most; a model whose arrays overlap in more than equal ones is refused.
"""

from __future__ import annotations

import math
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DTypeError, ModelFormatError
from ...graph.attributes import shown
from ...graph.checks import MAX_RANK
from .file import text

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = ["DTYPES", "Tensors", "type_name"]

# Number of the element type -> (dtype in the file, the field that holds it where raw_data does not).
# The field's own elements are at least as wide.
_TYPES = {
    1: ("<f4", "float_data"),
    2: ("<u1", "int32_data"),
    3: ("<i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("|b1", "int32_data"),
    10: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
    12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
}

_HALF = np.dtype("<f2")
DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype("f4" if dtype == "<f2" else dtype[1:]) for number, (dtype, _) in _TYPES.items()
}
"""Number of the element type -> the dtype that it is computed in: float16 as float32."""


def type_name(number: int) -> str:
    """Return ONNX's name of an element type, or its number where there is none."""
    import onnx

    names: dict[int, str] = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return names.get(number, f"number {number}")


class Tensors:
    """Reads the arrays of one model.

    Parameters
    ----------
    path
        Of the model; the arrays outside are in its folder.
    nbytes
        Of the model.

    Attributes
    ----------
    nbytes : int
    outside : int
        Elements that were read from other files.
    """

    def __init__(self, path: str, nbytes: int) -> None:
        self.nbytes = nbytes
        self._folder = os.path.dirname(os.path.abspath(path))
        self.outside = 0
        self._outside: dict[tuple[Any, ...], np.ndarray] = {}
        self._left: dict[str, int] = {}  # bytes that may still be read of each file
        self._initializers: dict[str, np.ndarray] = {}

    def initializer(self, name: str, tensor: TensorProto) -> np.ndarray:
        """Return the array of that name: of one model, always the same, which is read once."""
        if name not in self._initializers:
            self._initializers[name] = self.read(tensor, f"initializer {shown(name)}")
        return self._initializers[name]

    def read(self, tensor: TensorProto, what: str) -> np.ndarray:
        """Return an array in its dtype of `DTYPES`; errors begin with `what`."""
        if tensor.data_type not in _TYPES:
            raise DTypeError(
                f"{what} has elements of type {type_name(tensor.data_type)}; read are "
                f"{', '.join(type_name(number) for number in _TYPES)}"
            )
        if tensor.HasField("segment"):
            raise ModelFormatError(f"{what} is only a segment of a tensor")
        dtype, field = _TYPES[tensor.data_type]
        shape = tuple(tensor.dims)
        if len(shape) > MAX_RANK or min(shape, default=0) < 0:
            raise ModelFormatError(f"{what} has the impossible shape {shown(shape)}")
        flat = self._flat(tensor, what, np.dtype(dtype), field, math.prod(shape))
        try:
            array = flat.reshape(shape)
        except ValueError:  # an empty one, whose other sizes NumPy cannot hold
            raise ModelFormatError(f"{what} has the impossible shape {shown(shape)}") from None
        return array.astype(DTYPES[tensor.data_type], copy=False)

    def _flat(self, tensor: TensorProto, what: str, dtype: np.dtype[Any], field: str, count: int) -> np.ndarray:
        if tensor.data_location == tensor.EXTERNAL:
            return self._external(tensor, what, dtype, count)
        if tensor.HasField("raw_data"):
            data = tensor.raw_data
            if len(data) != count * dtype.itemsize:
                raise ModelFormatError(
                    f"{what} claims {count} elements of {dtype.itemsize} bytes, but holds {len(data)} bytes"
                )
            return np.frombuffer(data, dtype)
        values = getattr(tensor, field)
        if len(values) != count:
            raise ModelFormatError(f"{what} claims {count} elements, but holds {len(values)}")
        if dtype.kind == "f" and dtype != _HALF:
            return np.fromiter(values, dtype, count)
        wide = np.fromiter(values, np.uint64 if field == "uint64_data" else np.int64, count)
        bits = np.dtype("<u2") if dtype == _HALF else dtype
        narrow = wide.astype(bits)
        if not np.array_equal(narrow, wide):
            raise ModelFormatError(f"{what} holds numbers that its element type cannot")
        return narrow.view(dtype)

    # --- in other files ---------------------------------------------------------------------------

    def _external(self, tensor: TensorProto, what: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        entries = {text(what, entry.key): text(what, entry.value) for entry in tensor.external_data}
        path, size = self._inside(entries.get("location", ""), what)
        expected = count * dtype.itemsize
        offset, length = (self._number(entries, key, default, what) for key, default in (("offset", 0), ("length", -1)))
        if length not in (-1, expected):
            raise ModelFormatError(f"{what} needs {expected} bytes, but claims {length} in {shown(path)}")
        if offset + expected > size:
            raise ModelFormatError(
                f"{what} lies at {offset} to {offset + expected} of {shown(path)}, which has {size} bytes"
            )
        key = (path, offset, dtype, count)
        if key not in self._outside:
            self._left[path] = self._left.get(path, size) - expected
            if self._left[path] < 0:
                raise ModelFormatError(f"{what} overlaps other tensors in {shown(path)}")
            flat = np.fromfile(path, dtype, count, offset=offset)
            if len(flat) != count:
                raise ModelFormatError(f"{what} is cut short in {shown(path)}")
            self._outside[key] = flat
            self.outside += count
        return self._outside[key]

    def _inside(self, location: str, what: str) -> tuple[str, int]:
        """Return the path and the size of a regular file in the model's folder."""
        parts = location.replace("\\", "/").split("/")
        if not location or os.path.isabs(location) or ".." in parts or location[1:2] == ":" or "\0" in location:
            raise ModelFormatError(f"{what} lies in {shown(location)}; only files of the model's own folder are read")
        folder = os.path.realpath(self._folder)
        path = os.path.realpath(os.path.join(folder, location))
        if os.path.commonpath((folder, path)) != folder:
            raise ModelFormatError(f"{what} lies in {shown(location)}, which leads out of the model's own folder")
        try:
            status = os.stat(path)
        except OSError as error:
            raise ModelFormatError(f"{what} lies in {shown(location)}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError(f"{what} lies in {shown(location)}, which is no file")
        return path, status.st_size

    def _number(self, entries: dict[str, str], key: str, default: int, what: str) -> int:
        value = entries.get(key)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise ModelFormatError(f"{what} has the {key} {shown(value)}, which is no number of bytes")
        return int(value)
