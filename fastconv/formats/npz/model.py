"""fastconv's own ``.npz`` -> Graph.

It holds the Graph as JSON, in the array ``fastconv.json``, beside one plain array
per weight; ``docs/format.md`` specifies it. The JSON is checked here for what a Graph cannot check:
types, unknown keys, the references to arrays. All the rest (ops, attributes, shapes) is the Graph's
business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, ModelFormatError
from ...graph import INPUT, Graph, Node, checks
from .archive import DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...graph.preprocessing import Preprocessing
    from .archive import Archive

FORMAT = "fastconv"
VERSION = 1

MAX_DOCUMENT = 16 << 20
"""Bytes of JSON; ResNet-152 takes 0.1 MB."""

# JSON has no such numbers; no attribute has these strings.
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}

# The fields of graph.preprocessing.Preprocessing, which is imported where a file has any of them.
_PREPROCESSING = ("resize_size", "crop_size", "interpolation", "antialias", "scale", "mean", "std")

_WHITESPACE = " \t\n\r"  # JSON's

_REMEDY = "save the model again, or see docs/format.md"


def read(
    archive: Archive,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    dynamic: bool | None = None,
) -> Graph:
    """Read the Graph in `archive`, for images of `input_shape` instead of the one saved where it is given.

    input_shape: with several inputs, of those by name that have another.
    dynamic: whether other sizes are taken too; by default as the file says.
    """
    document = _parse(archive)
    _check_keys(
        "the document",
        document,
        required=("format", "version", "inputs" if "inputs" in document else "input_shape", "nodes", "outputs"),
        optional=("output_names", "labels", "dynamic", "tuned", *_PREPROCESSING),
    )
    weights = _Weights(archive)
    nodes = [
        _node(f"nodes[{position}]", entry, weights) for position, entry in enumerate(_list("nodes", document["nodes"]))
    ]
    weights.check_all_used()
    saved = _inputs(document)
    inputs = saved
    if input_shape is not None:
        from ...graph.inputs import given_for

        inputs = {**saved, **given_for(saved, input_shape)}
    given = {key: document[key] for key in _PREPROCESSING if document.get(key) is not None}
    return Graph(
        input_shape=inputs,
        nodes=tuple(nodes),
        outputs=tuple(_list("outputs", document["outputs"])),
        labels=_names("labels", document.get("labels")),
        preprocessing=_preprocessing(given, saved, inputs) if given else None,
        dtype=np.dtype(np.float32),
        dynamic=_dynamic(document.get("dynamic", False), dynamic),
        output_names=_names("output_names", document.get("output_names")),
        tuned=_object("tuned", document.get("tuned", {})) if inputs == saved else {},
    )


def _inputs(document: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The shape of each input by name, as the file has it."""
    if "inputs" not in document:
        return {INPUT: tuple(_list("input_shape", document["input_shape"]))}
    result: dict[str, tuple[Any, ...]] = {}
    for position, entry in enumerate(_list("inputs", document["inputs"])):
        where = f"inputs[{position}]"
        if not isinstance(entry, dict):
            raise _wrong(where, "an object", entry)
        _check_keys(where, entry, required=("name", "shape"), optional=())
        name = entry["name"]
        if not isinstance(name, str):
            raise _wrong(f"{where}.name", "a string", name)
        if name in result:
            raise ModelFormatError(f"{where}: the name {name!r:.80} is taken already; give every input its own")
        result[name] = tuple(_list(f"{where}.shape", entry["shape"]))
    return result


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value


def _names(where: str, value: Any) -> tuple[Any, ...] | None:
    """A list that may be missing or null."""
    return None if value is None else tuple(_list(where, value))


def _dynamic(saved: Any, asked: bool | None) -> bool:
    """Whether images of other sizes are taken."""
    if not isinstance(saved, bool):
        raise _wrong("dynamic", "true or false", saved)
    if asked and not saved:
        raise ArgumentError(
            "dynamic=True: the network was saved for one image size, and what depends on it may be settled; convert it "
            "again with dynamic=True, or pass input_shape= for another size"
        )
    return saved if asked is None else asked


def _preprocessing(given: dict[str, Any], saved: Mapping[str, Any], inputs: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that was saved for images as in `saved`, for those in `inputs`."""
    from ...graph.preprocessing import Preprocessing

    for key in ("mean", "std"):
        if key in given:
            _list(key, given[key])
    preprocessing = Preprocessing(**given)
    if inputs == saved or len(saved) != 1:
        return preprocessing  # the Graph sees whether it fits
    saved_shape, shape = (checks.input_shape(shape) for ends in (saved, inputs) for shape in ends.values())
    return preprocessing.settled(saved_shape).at_size(saved_shape, shape)


def _parse(archive: Archive) -> dict[str, Any]:
    """The JSON document, of a version that is read here."""
    header = archive.header(DOCUMENT)
    if header.dtype != np.uint8 or len(header.shape) != 1:
        raise archive.error(DOCUMENT, "must be the JSON text, as one dimension of uint8")
    if header.shape[0] > MAX_DOCUMENT:
        raise archive.error(DOCUMENT, f"has {header.shape[0]} bytes, more than {MAX_DOCUMENT}")
    text = archive.read(DOCUMENT).tobytes()
    try:
        document = _loads(text.decode("utf-8"))
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


class _Decoding:
    """What json's scanner asks a decoder for: JSON as RFC 8259 has it, with the refusals of this format."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self) -> None:
        self.object_pairs_hook = _unique
        self.parse_constant = _refuse_constant
        self.memo: dict[str, str] = {}


def _loads(text: str) -> Any:
    """Parse JSON with the scanner of `json.loads`, whose import takes 1.2 ms for patterns that are not needed here."""
    try:
        from _json import make_scanner
    except ImportError:  # not CPython
        import json

        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    begin = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        document, end = make_scanner(_Decoding())(text, begin)  # type: ignore[arg-type]  # anything with these
    except StopIteration as error:
        raise ValueError(f"there is no value at character {error.value}") from None
    if text[end:].strip(_WHITESPACE):
        raise ValueError(f"there is more behind the document, at character {end}")
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
    _check_keys(where, entry, required=("name", "op", "inputs"), optional=("attrs", "weights", "fused", "sizes"))
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
        sizes=tuple(_list(f"{where}: sizes", entry.get("sizes", []))),
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
