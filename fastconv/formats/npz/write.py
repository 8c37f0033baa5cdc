"""Graph -> fastconv's own ``.npz``, written atomically; apart from the readers, since a start writes nothing."""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from ...errors import ArgumentError
from ...graph import INPUT, array_id
from .archive import DOCUMENT, MAX_HEADER
from .model import FORMAT, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...graph import Graph


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a Graph; see `fastconv.formats.npz.save`."""
    document, weights = describe(graph)
    write(path, {DOCUMENT: document, **weights})


def describe(graph: Graph) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The document, and the weights that it refers to by name."""
    arrays: dict[str, np.ndarray] = {}
    names: dict[tuple[int, tuple[int, ...]], str] = {}  # array_id -> name in the file
    nodes = []
    for position, node in enumerate(graph.nodes):
        roles = {}
        for role, array in node.weights.items():
            identity = array_id(array)
            if identity not in names:
                names[identity] = _array_name(node.name, role, position)
                arrays[names[identity]] = array.astype("<f4", copy=False)
            roles[role] = names[identity]
        entry: dict[str, Any] = {"name": node.name, "op": node.op, "inputs": node.inputs}
        entry["attrs"] = {k: _encode(v) for k, v in node.attrs.items() if v is not None}
        entry["weights"] = roles
        if node.fused:
            entry["fused"] = node.fused
        if node.sizes:
            entry["sizes"] = node.sizes
        nodes.append(entry)
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if graph.inputs.keys() == {INPUT}:
        document["input_shape"] = graph.input_shape
    else:
        document["inputs"] = [{"name": name, "shape": shape} for name, shape in graph.inputs.items()]
    document |= {"nodes": nodes, "outputs": graph.outputs}
    if graph.output_names != graph.outputs:
        document["output_names"] = graph.output_names
    document |= {"labels": graph.labels, "mean": graph.mean, "std": graph.std}
    if graph.preprocessing is not None:
        document |= graph.preprocessing.given()
    if graph.dynamic:
        document["dynamic"] = True
    if graph.tuned:
        document["tuned"] = {machine: dict(choices) for machine, choices in graph.tuned.items()}
    text = json.dumps(document, allow_nan=False)
    return np.frombuffer(text.encode("ascii"), np.uint8), arrays


def _array_name(node: str, role: str, position: int) -> str:
    """``<node>/<role>``, unless that would be no good file name for one who unpacks the zip."""
    parts = node.split("/")
    if node.isprintable() and "\\" not in node and len(node) <= 200 and not {"", ".."} & {*parts}:
        return f"{node}/{role}"
    return f"#{position}/{role}"


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to `path` as an uncompressed ``.npz``, atomically.

    Another process sees the old file or the new one, never a part. The same arrays give the same
    bytes. A symbolic link is followed, and the permissions are those of any new file (the umask's).

    Parameters
    ----------
    path : str or os.PathLike
        Taken as it is: no suffix is added.
    arrays : mapping of str to ndarray
        The names are without suffix.

    Raises
    ------
    OSError
        The file cannot be written. Nothing is left behind, and an older file is untouched.
    ArgumentError
        `path` exists and is neither a file nor a folder, but a device or a pipe.
    """
    target = os.path.realpath(os.fspath(path))
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        raise ArgumentError(f"{os.fspath(path)}: is not a regular file; give the name of one")
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".fastconv-{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)  # less the umask, as for any open()
    try:
        with open(descriptor, "wb") as file:
            _write_zip(file, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(folder)


def _write_zip(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            array = np.ascontiguousarray(array).reshape(array.shape)  # the former makes 0-d 1-d
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, so that every system writes the same bytes
            entry.external_attr = 0o644 << 16
            entry.file_size = array.nbytes + MAX_HEADER  # lets zipfile decide on ZIP64
            with archive.open(entry, "w") as member:
                npy.write_array_header_1_0(member, npy.header_data_from_array_1_0(array))
                member.write(array.reshape(-1).view(np.uint8).data)


def _sync_folder(folder: str) -> None:
    """Make the new name itself durable where the system can (Windows cannot)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse; the file is complete
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
