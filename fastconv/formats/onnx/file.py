"""Opening an ``.onnx`` file: the message that it holds, its versions checked."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from ...errors import MissingExtraError, ModelFormatError
from ...graph.attributes import shown

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OLDEST_OPSET", "open_model", "opset_of", "text"]

MAX_FILE = 2**31 - 1
"""Bytes of one message of Protocol Buffers; a larger model keeps its weights in files of their own."""

OLDEST_OPSET = 7
"""Of 2017; before it, operators broadcast in another way."""

_BEGINNINGS = {
    b"version https://git-lfs": "is a pointer of Git LFS; fetch the file itself: git lfs pull",
    b"PK\x03\x04": "is a zip file (a PyTorch checkpoint, or an .npz?)",
    b"\x89HDF": "is an HDF5 file; convert the network with tf2onnx",
}


def open_model(path: str | os.PathLike[str]) -> tuple[ModelProto, int]:
    """Return the message in a file, its versions checked, and how many bytes it has.

    Raises
    ------
    OSError, MissingExtraError, ModelFormatError
        The last one without the path.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise MissingExtraError('ONNX files are read with the package onnx; pip install "fastconv[onnx]"') from None

    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError("is not a regular file")
        if status.st_size > MAX_FILE:
            raise ModelFormatError(
                f"has {status.st_size} bytes, more than the {MAX_FILE} of one message; save its weights beside it: "
                "onnx.save(model, path, save_as_external_data=True)"
            )
        data = file.read()
    if not data:
        raise ModelFormatError("is empty")
    for beginning, what in _BEGINNINGS.items():
        if data.startswith(beginning):
            raise ModelFormatError(what)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ModelFormatError("is not an ONNX file, or is damaged or cut short") from None
    _check_versions(model, onnx.IR_VERSION)
    return model, len(data)


def _check_versions(model: ModelProto, newest: int) -> None:
    if not model.HasField("graph") or not model.HasField("ir_version"):
        raise ModelFormatError("is not an ONNX file: it holds no graph")
    if model.ir_version > newest:
        raise ModelFormatError(
            f"has the format's version (IR) {model.ir_version}, the installed onnx knows {newest}; pip install -U onnx"
        )
    if model.ir_version < 1:
        raise ModelFormatError(f"has the impossible format version (IR) {model.ir_version}")


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that the file is written in."""
    import onnx

    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1:
        raise ModelFormatError(f"must say once which version of ONNX's operators (opset) it uses, says {len(versions)}")
    opset, newest = versions[0], onnx.defs.onnx_opset_version()
    if opset < OLDEST_OPSET:
        raise ModelFormatError(
            f"is written in opset {opset}, read are {OLDEST_OPSET} to {newest}; convert it: "
            f"onnx.version_converter.convert_version(model, {OLDEST_OPSET})"
        )
    if opset > newest:
        raise ModelFormatError(
            f"is written in opset {opset}, the installed onnx knows {OLDEST_OPSET} to {newest}; pip install -U onnx"
        )
    return int(opset)


def text(what: str, value: Any) -> str:
    """Return a string of the file; one that is not UTF-8 arrives as bytes."""
    if isinstance(value, str):
        return value
    try:
        return str(value, "utf-8")
    except (TypeError, ValueError):
        raise ModelFormatError(f"{what} is no text: {shown(value)}") from None
