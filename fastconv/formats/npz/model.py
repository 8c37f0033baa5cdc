"""Graph <-> ``.npz``: fastconv's own files, and plain ``state_dict`` files (read only).

fastconv's own kind holds the Graph as JSON, in the array ``fastconv.json``, beside one plain array
per weight; ``docs/format.md`` specifies it. The JSON is checked here for what a Graph cannot check:
types, unknown keys, the references to arrays. All the rest (ops, attributes, shapes) is the Graph's
business.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FastconvError, ModelFormatError
from ...graph import Graph, Node
from ...graph.graph import array_id
from .archive import Archive, write

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = "fastconv"
VERSION = 1

DOCUMENT = "fastconv.json"
"""The array that holds the JSON text: one dimension of uint8."""

MAX_DOCUMENT = 16 << 20
"""Bytes of JSON; ResNet-152 takes 0.1 MB."""

# JSON has no such numbers; no attribute has these strings.
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}

_REMEDY = "save the model again, or see docs/format.md"


def load(path: str | os.PathLike[str], input_shape: Sequence[int] | None = None) -> Graph:
    """Read a model from an ``.npz`` file.

    Parameters
    ----------
    path : str or os.PathLike
        Either fastconv's own kind, or a plain ``state_dict`` of the LeNet family
        (see :mod:`fastconv.formats.state_dict`).
    input_shape : sequence of int, optional
        (C, H, W) of one image. A plain ``state_dict`` needs it where the size does not follow from
        the first linear layer; a file of fastconv's own is read for this size instead of the one
        saved.

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
        The network is not one that fastconv computes, or not at this `input_shape`.
    """
    try:
        with Archive(path) as archive:
            if DOCUMENT in archive.names:
                return _read(archive, input_shape)
            from . import state_dict

            return state_dict.read(archive, input_shape)
    except FastconvError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


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
    document, weights = _describe(graph)
    write(path, {DOCUMENT: document, **weights})


# Writing -----------------------------------------------------------------------------------------


def _describe(graph: Graph) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The document, and the weights that it refers to by name."""
    import json

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
        nodes.append(entry)
    document = {"format": FORMAT, "version": VERSION, "input_shape": graph.input_shape}
    document |= {"nodes": nodes, "outputs": graph.outputs}
    document |= {"labels": graph.labels, "mean": graph.mean, "std": graph.std}
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


# Reading -----------------------------------------------------------------------------------------


def _read(archive: Archive, input_shape: Sequence[int] | None) -> Graph:
    document = _parse(archive)
    _check_keys(
        "the document",
        document,
        required=("format", "version", "input_shape", "nodes", "outputs"),
        optional=("labels", "mean", "std"),
    )
    weights = _Weights(archive)
    nodes = [
        _node(f"nodes[{position}]", entry, weights) for position, entry in enumerate(_list("nodes", document["nodes"]))
    ]
    weights.check_all_used()
    saved_shape = _list("input_shape", document["input_shape"])
    extras = {
        key: tuple(_list(key, document[key])) for key in ("labels", "mean", "std") if document.get(key) is not None
    }
    return Graph(
        input_shape=tuple(saved_shape if input_shape is None else input_shape),
        nodes=tuple(nodes),
        outputs=tuple(_list("outputs", document["outputs"])),
        dtype=np.dtype(np.float32),
        **extras,
    )


def _parse(archive: Archive) -> dict[str, Any]:
    """The JSON document, of a version that is read here."""
    import json

    header = archive.header(DOCUMENT)
    if header.dtype != np.uint8 or len(header.shape) != 1:
        raise archive.error(DOCUMENT, "must be the JSON text, as one dimension of uint8")
    if header.shape[0] > MAX_DOCUMENT:
        raise archive.error(DOCUMENT, f"has {header.shape[0]} bytes, more than {MAX_DOCUMENT}")
    text = archive.read(DOCUMENT).tobytes()
    try:
        document = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise archive.error(DOCUMENT, "is not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise archive.error(DOCUMENT, f"is not JSON that can be read: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise archive.error(DOCUMENT, f'does not describe a model: it needs "format": "{FORMAT}"')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelFormatError(
            f"has format version {version!r:.40}, and this fastconv reads version {VERSION}; "
            "upgrade with pip install --upgrade fastconv"
        )
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f'{name} is not a JSON number; write the string "inf", "-inf" or "nan"')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(f"a key occurs twice among {[key for key, _ in pairs]!r:.200}")
    return result


def _node(where: str, entry: Any, weights: _Weights) -> Node:
    if not isinstance(entry, dict):
        raise _wrong(where, "an object", entry)
    _check_keys(where, entry, required=("name", "op", "inputs"), optional=("attrs", "weights", "fused"))
    for key in ("name", "op"):
        if not isinstance(entry[key], str):
            raise _wrong(f"{where}.{key}", "a string", entry[key])
    where = f"node {entry['name']!r:.80}"
    attrs, roles = entry.get("attrs", {}), entry.get("weights", {})
    for key, value in (("attrs", attrs), ("weights", roles)):
        if not isinstance(value, dict):
            raise _wrong(f"{where}: {key}", "an object", value)
    return Node(
        name=entry["name"],
        op=entry["op"],
        inputs=_strings(f"{where}: inputs", entry["inputs"]),
        attrs={key: _decode(f"{where}: {key}", value) for key, value in attrs.items()},
        weights={role: weights.get(f"{where}: {role}", name) for role, name in roles.items()},
        fused=_strings(f"{where}: fused", entry.get("fused", [])),
    )


class _Weights:
    """The arrays of an archive as float32; nodes that name the same array get the same one."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._unread = dict.fromkeys(name for name in archive.names if name != DOCUMENT)
        self._arrays: dict[str, np.ndarray] = {}

    def get(self, where: str, name: object) -> np.ndarray:
        if not isinstance(name, str):
            raise _wrong(where, "the name of an array", name)
        if name in self._unread:
            self._arrays[name] = self._archive.read_weight(name)
            del self._unread[name]
        if name not in self._arrays:
            raise ModelFormatError(f"{where}: there is no array {name!r:.80} in the file; {_REMEDY}")
        return self._arrays[name]

    def check_all_used(self) -> None:
        for name in self._unread:
            raise self._archive.error(name, "belongs to no node")


def _decode(where: str, value: Any) -> Any:
    """An attribute: a scalar, or a flat list of scalars as a tuple."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return tuple([_decode(where, item) for item in value])
    if isinstance(value, (list, dict)):
        raise _wrong(where, "a value or a flat list of values", value)
    if isinstance(value, float) and not math.isfinite(value):  # 1e999 is valid JSON
        raise _wrong(where, "a number that float64 can hold", value)
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _check_keys(where: str, found: dict[str, Any], *, required: Sequence[str], optional: Sequence[str]) -> None:
    for key in found:
        if key not in required and key not in optional:
            raise ModelFormatError(f"{where} has the unknown key {key!r:.80}; {_REMEDY}")
    for key in required:
        if key not in found:
            raise ModelFormatError(f"{where} has no {key!r}; {_REMEDY}")


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return value


def _strings(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(where, "a list of strings", value)
    return tuple(value)


def _wrong(where: str, needed: str, value: Any) -> ModelFormatError:
    return ModelFormatError(f"{where} must be {needed}, got {value!r:.80}; {_REMEDY}")
