"""The ``.npz`` container, named arrays in a zip file, read without trusting it.

``numpy.load`` is not used, for two reasons. Importing :mod:`zipfile`, which it does, takes longer
than all that fastconv does between its own import and the first prediction. And a loader has to
know every size *before* it allocates: here the shape in a ``.npy`` header must account for exactly
the bytes that the zip directory gives the member, and those must lie inside the file. Pickled data
is never interpreted.

Writing is rare and may take its time, so :mod:`.write` does use :mod:`zipfile`.
"""

from __future__ import annotations

import ast
import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import crc32
from .zip import DEFLATED, ZipReader

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ...errors import ModelFormatError
    from .zip import Member

DOCUMENT = "fastconv.json"
"""The array that holds fastconv's own description of a model: the JSON text, one dimension of uint8."""

MAX_DIMENSIONS = 32
"""What every NumPy can hold; a weight has four at most."""

MAX_HEADER = 1024
"""Bytes of a ``.npy`` header. An array of numbers needs 118; only structured dtypes need more."""

_MAGIC = b"\x93NUMPY"
_PREAMBLE = 12  # magic, version, and the length of the header in two bytes or four
_NUMBERS = frozenset(f"{kind}{size}" for kind in "iufc" for size in (1, 2, 4, 8, 16)) | {"b1"}


class Header:  # a NamedTuple would take a part of a millisecond of every start to make
    """What a ``.npy`` header says, and the bytes that it takes itself."""

    __slots__ = ("dtype", "fortran_order", "raw", "shape")

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...], fortran_order: bool, raw: bytes) -> None:
        self.dtype = dtype
        self.shape = shape
        self.fortran_order = fortran_order
        self.raw = raw


def to_float32(array: np.ndarray, error: Callable[[str], ModelFormatError]) -> np.ndarray:
    """Return a weight as float32 in this machine's byte order; `error` makes the error of what is wrong with it."""
    if array.dtype == np.float32:  # in this machine's byte order
        return array
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise error(f"has dtype {array.dtype.name}; weights are floating-point numbers")
    with np.errstate(over="ignore"):
        converted = array.astype(np.float32, copy=False)
    if array.dtype.itemsize == 8 and not np.array_equal(np.isinf(array), np.isinf(converted)):
        raise error("holds a finite number too large for float32")
    return converted


class Archive:
    """An ``.npz`` file open for reading; a context manager.

    Parameters
    ----------
    path : str or os.PathLike

    Attributes
    ----------
    names : tuple of str
        The arrays in the order of the file, without the suffix ``.npy``.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ModelFormatError
        It is not an ``.npz``, or a damaged or malicious one. The message names the member, not the
        path.
    """

    ordered = True  # as saved

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._zip = ZipReader(path)
        try:
            self._members = {
                self._array_name(member): member
                for member in self._zip.members.values()
                if not (member.name.endswith("/") and member.size == 0)  # a folder
            }
        except BaseException:
            self._zip.close()
            raise
        self.names = tuple(self._members)
        self._headers: dict[str, Header] = {}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._zip.close()

    def header(self, name: str) -> Header:
        """Dtype and shape of array `name`, checked against the bytes that the file has for it."""
        if name not in self._headers:
            member = self._members[name]
            beginning = self._zip.read(member, MAX_HEADER + _PREAMBLE)
            self._headers[name] = self._parse(member, beginning)
        return self._headers[name]

    def read(self, name: str) -> np.ndarray:
        """Array `name` in the file's dtype: C-contiguous, aligned, its checksum verified."""
        header, member = self.header(name), self._members[name]
        try:
            if member.method == DEFLATED:
                data = self._zip.read(member)
                flat = np.frombuffer(data[len(header.raw) :], header.dtype).copy()
                checksum = crc32(data)
            else:
                flat = np.empty(math.prod(header.shape), header.dtype)
                target = flat.view(np.uint8).data
                self._zip.read_into(member, len(header.raw), target)
                checksum = crc32(target, crc32(header.raw))
        except MemoryError:
            raise self.error(name, f"needs {member.size} bytes of memory, too many") from None
        if checksum != member.checksum:
            raise self.error(name, "is damaged: its checksum is wrong")
        array: np.ndarray = flat.reshape(header.shape)
        if header.fortran_order:
            array = flat.reshape(header.shape[::-1]).T.copy(order="C")
        return array

    def read_weight(self, name: str) -> np.ndarray:
        """Array `name` as float32 in this machine's byte order."""
        return to_float32(self.read(name), lambda what: self.error(name, what))

    def error(self, name: str, what: str) -> ModelFormatError:
        """An error about array `name`."""
        return self._zip.error(what, self._members[name])

    def _array_name(self, member: Member) -> str:
        if member.name.endswith(".npy"):
            return member.name[: -len(".npy")]
        if member.name.endswith("/data.pkl"):
            raise self._zip.error("is a PyTorch checkpoint (torch.save), which is pickled and never opened")
        raise self._zip.error("is not an .npy array", member)

    def _parse(self, member: Member, data: bytes) -> Header:
        """Parse the header at the beginning of `data`."""
        if data[:6] != _MAGIC or len(data) < _PREAMBLE:
            raise self._zip.error("is not an .npy array", member)
        version = data[6], data[7]
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise self._zip.error(f"has .npy version {data[6]}.{data[7]}; 1.0 to 3.0 are read", member)
        start = 10 if version == (1, 0) else 12
        length = int.from_bytes(data[8:start], "little")
        if length > MAX_HEADER:
            raise self._zip.error(f"has a header of {length} bytes, more than {MAX_HEADER}", member)
        if start + length > len(data):
            raise self._zip.error("is cut short inside its header", member)
        descr, fortran_order, shape = self._fields(member, data[start : start + length])
        header = Header(self._dtype(member, descr), shape, fortran_order, data[: start + length])
        expected = math.prod(shape) * header.dtype.itemsize
        if len(header.raw) + expected != member.size:
            raise self._zip.error(
                f"claims shape {shape} of {header.dtype.name}, {expected} bytes, "
                f"but holds {member.size - len(header.raw)}",
                member,
            )
        return header

    def _fields(self, member: Member, text: bytes) -> tuple[object, bool, tuple[int, ...]]:
        """The header's dtype, order and shape, checked but for the dtype."""
        fields = _usual(text) or _literal(text)
        if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
            raise self._zip.error("has a header that no .npy array has", member)
        shape, fortran_order = fields["shape"], fields["fortran_order"]
        if (
            not isinstance(shape, tuple)
            or len(shape) > MAX_DIMENSIONS
            or not all(type(n) is int and n >= 0 for n in shape)
            or math.prod(n or 1 for n in shape) > max(1, member.size)  # an empty array claims too
        ):
            raise self._zip.error(f"has the impossible shape {shape!r:.80}", member)
        if not isinstance(fortran_order, bool):
            raise self._zip.error("has a header that no .npy array has", member)
        return fields["descr"], fortran_order, shape

    def _dtype(self, member: Member, descr: object) -> np.dtype[Any]:
        if isinstance(descr, str) and descr[:1] in "<>=|":
            if descr[1:] in _NUMBERS:
                with contextlib.suppress(TypeError):  # such as <f1, or <c32 where there is none
                    return np.dtype(descr)
            if descr[1:] == "O":
                raise self._zip.error(
                    "holds pickled Python objects, which are never opened; save each tensor by "
                    "its name: numpy.savez(path, "
                    "**{k: v.numpy() for k, v in net.state_dict().items()})",
                    member,
                )
            if descr[1:2] == "V":
                raise self._zip.error(
                    f"has dtype {descr} (bfloat16?), which NumPy cannot read. Save tensor.float()",
                    member,
                )
        raise self._zip.error(f"has dtype {descr!r:.80}, not one of numbers", member)


def _usual(text: bytes) -> dict[str, Any] | None:
    """A header in the spelling of NumPy; None if it is in another. It takes 3 us, where ast.literal_eval needs 40."""
    words = text.split(b"'")
    if len(words) != 9 or not words[3].isascii() or b"\\" in words[3]:
        return None
    order, sizes = words[6][2:-2], words[8][3:].partition(b")")[0]
    numbers = [size.strip(b" ") for size in sizes.split(b",") if size]
    if not all(map(bytes.isdigit, numbers)):
        return None
    fields = {"descr": words[3].decode("ascii"), "fortran_order": order == b"True", "shape": tuple(map(int, numbers))}
    # What NumPy writes of these fields, to the byte; else the header only looks like that.
    exactly = f"{{{', '.join(f'{key!r}: {value!r}' for key, value in fields.items())}, }}"
    return fields if text.rstrip(b" \n") == exactly.encode() else None


def _literal(text: bytes) -> Any:
    """A header in any other spelling; None if it is none."""
    if b"\\" in text:  # no dtype has one, and literal_eval would warn of it
        return None
    try:
        return ast.literal_eval(text.decode("utf-8"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
