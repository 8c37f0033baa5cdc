"""Graph: a network as frozen, checked, portable data.

A Graph is what every file format is read into and what compile starts from. Constructing one normalises the
attributes of its nodes, infers every shape, and finds all that a file can get wrong; no kernel sees an unchecked size.
Nodes carry the vocabulary of ``torch.nn.functional`` (see ``ops``) and weights in PyTorch's layouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import Any

import numpy as np

from . import attributes as at
from .errors import (
    ArgumentError,
    DTypeError,
    FastconvError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)
from .ops import MAX_ELEMENTS, OPS, REQUIRED, FeatureMismatch, OpSpec, unfused_shape

__all__ = ["INPUT", "Graph", "Node", "find_input_shape"]

INPUT = "input"  # the name of the graph's one input

Shape = tuple[int, ...]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_MAX_RANK = 32  # NumPy 1.26's limit


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation; its one output carries the node's name.

    Attributes
    ----------
    name
        Unique in its graph: the module's path (``features.0``) or the op's name and a counter.
    op
        A key of :data:`fastconv.ops.OPS`.
    inputs
        ``INPUT`` or names of earlier nodes.
    attrs
        As given; in a Graph normalised: every attribute present, pairs as tuples, negative axes resolved.
    weights
        Role -> array in PyTorch's layout, float32 or float64; in a Graph C-contiguous. An optional one that is
        absent is not a key.
    fused
        Names of the nodes that rewriting has absorbed into this one, first to last, without its own.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = (INPUT,)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    fused: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> Node:
        """Return a copy with the fields in `changes` replaced."""
        return replace(self, **changes)

    def __str__(self) -> str:
        attrs = [f"{key}={value!r}" for key, value in self.attrs.items() if value is not None]
        weights = [
            f"{role}: {'x'.join(map(str, array.shape))}" for role, array in self.weights.items()
        ]
        return f"{' + '.join((*self.fused, self.name))} = {self.op}({', '.join([*self.inputs, *attrs, *weights])})"


@dataclass(frozen=True, eq=False)
class Graph:
    """A checked network.

    Parameters
    ----------
    input_shape
        Of one image, without batch: (C, H, W), or (F,).
    nodes
        In topological order. They are normalised copies afterwards; the arrays are shared, never modified, and
        copied only where they are not C-contiguous.
    outputs
        Names of nodes; a name may repeat.
    labels
        One per class, that is per element of the first axis of the first output.
    mean, std
        Per channel, in units of 0..1 (torchvision's convention); given one, the other is 0 or 1.
    dtype
        float32 or float64; by default the weights', or float32 where there are none.

    Attributes
    ----------
    shapes
        Name -> inferred shape without batch, of every node and of ``INPUT``.

    Raises
    ------
    FastconvError
        The subclass that fits; the message names the node, what it got, what it needs and the remedy.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    dtype: np.dtype[Any] = None  # type: ignore[assignment]  # settled in __post_init__
    shapes: Mapping[str, Shape] = field(init=False)

    def __post_init__(self) -> None:
        def settle(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        input_shape = _check_input_shape(self.input_shape)
        settle("input_shape", input_shape)
        dtype = None if self.dtype is None else _check_dtype("dtype", np.dtype(self.dtype))
        shapes = {INPUT: input_shape}
        nodes: list[Node] = []
        for given in self.nodes:
            node, shape, dtype = _settle_node(given, shapes, dtype, nodes)
            nodes.append(node)
            shapes[node.name] = shape
        settle("nodes", tuple(nodes))
        settle("shapes", shapes)
        settle("dtype", dtype or _FLOAT32)
        settle("outputs", _check_outputs(self.outputs, shapes))
        if self.labels is not None:
            settle("labels", _check_labels(self.labels, shapes[self.outputs[0]]))
        if self.mean is not None or self.std is not None:
            mean, std = _check_preprocessing(self.mean, self.std, input_shape)
            settle("mean", mean)
            settle("std", std)

    def replace(self, **changes: Any) -> Graph:
        """Return a Graph with the fields in `changes` replaced, checked anew."""
        return replace(self, **changes)

    def node(self, name: str) -> Node:
        """Return the node of that name; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def consumers(self) -> dict[str, list[Node]]:
        """Return name -> the nodes that read it, one entry per use, for INPUT and every node."""
        result: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for name in node.inputs:
                result[name].append(node)
        return result

    @property
    def parameters(self) -> int:
        """The number of trained values; shared arrays count once, running statistics do not count (as in PyTorch)."""
        arrays = {
            (array.__array_interface__["data"][0], array.shape): array.size
            for node in self.nodes
            for role, array in node.weights.items()
            if role in ("weight", "bias")
        }
        return sum(arrays.values())

    def macs(self, node: Node) -> int:
        """Return the multiply-accumulates of a conv2d or linear node for one image; 0 for the other ops."""
        if node.op not in ("conv2d", "linear"):
            return 0
        shape = unfused_shape(self.shapes[node.inputs[0]], node.op, node.attrs, node.weights)
        return prod(shape) * prod(node.weights["weight"].shape[1:])

    def __str__(self) -> str:
        lines = [f"input {_dims(self.input_shape)} {self.dtype}"]
        lines += [f"{node} -> {_dims(self.shapes[node.name])}" for node in self.nodes]
        lines.append(f"outputs {', '.join(self.outputs)}; {self.parameters:,} parameters")
        return "\n".join(lines)


def _dims(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


# --- the checks, in the order in which they run -------------------------------------------------


def _check_input_shape(shape: Any) -> Shape:
    sizes = at.integers("input_shape", shape)
    if len(sizes) > _MAX_RANK or any(size < 0 for size in sizes):
        raise ShapeError(
            f"input_shape must be (C, H, W) or (F,), without batch, got {at.shown(shape)}"
        )
    _check_size(sizes)
    return sizes


def _check_size(shape: Shape) -> None:
    if prod(shape) > MAX_ELEMENTS:
        raise ShapeError(
            f"a tensor of shape {at.shown(shape)} has {prod(shape)} elements, more than the {MAX_ELEMENTS} supported"
        )


def _check_dtype(what: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 or float64 in the machine's byte order; refuse anything else."""
    if dtype == _FLOAT32:
        return _FLOAT32
    if dtype == _FLOAT64:
        return _FLOAT64
    raise DTypeError(
        f"{what} is {dtype.str}, needs float32 or float64; convert it with .astype(numpy.float32)"
    )


def _settle_node(
    given: Node, shapes: dict[str, Shape], dtype: np.dtype[Any] | None, before: Sequence[Node]
) -> tuple[Node, Shape, np.dtype[Any] | None]:
    """Check one node against the tensors before it; return it normalised, its shape and the graph's dtype so far."""
    name = given.name
    if not isinstance(name, str) or not name:
        raise ModelFormatError(f"a node's name must be a non-empty string, got {at.shown(name)}")
    try:
        if name in shapes:
            what = "the graph's input" if name == INPUT else "an earlier node"
            raise ModelFormatError(f"the name is already that of {what}; names must be unique")
        spec = OPS.get(given.op) if isinstance(given.op, str) else None
        if spec is None:
            raise UnsupportedOperatorError(
                f"operator {at.shown(given.op)} is not supported; supported are {', '.join(OPS)}"
            )
        inputs = _check_inputs(given, spec, shapes)
        weights, dtype = _check_weights(given, spec, dtype)
        attrs = _normalise(given.attrs, spec)
        shape = spec.infer([shapes[source] for source in inputs], attrs, weights)
        _check_size(shape)
    except FeatureMismatch as error:
        raise ShapeError(f"{name}: {_explain_features(error, given, before, shapes)}") from None
    except FastconvError as error:
        raise type(error)(f"{name}: {error}") from None
    return Node(name, given.op, inputs, attrs, weights, tuple(given.fused)), shape, dtype


def _check_inputs(given: Node, spec: OpSpec, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    if isinstance(given.inputs, str) or not isinstance(given.inputs, Sequence):
        raise ModelFormatError(f"inputs must be a tuple of names, got {at.shown(given.inputs)}")
    inputs = tuple(given.inputs)
    least, most = spec.arity
    if not least <= len(inputs) <= most:
        needs = (
            f"{least}"
            if least == most
            else f"{least} or more"
            if most > 2
            else f"{least} or {most}"
        )
        raise ModelFormatError(f"{given.op} needs {needs} inputs, got {len(inputs)}")
    for source in inputs:
        if not isinstance(source, str) or source not in shapes:
            raise ModelFormatError(
                f"reads {at.shown(source)}, which is neither {INPUT!r} nor an earlier node; "
                f"nodes must be listed after what they read"
            )
    return inputs


def _check_weights(
    given: Node, spec: OpSpec, dtype: np.dtype[Any] | None
) -> tuple[dict[str, np.ndarray], np.dtype[Any] | None]:
    """Return the weights C-contiguous and the graph's dtype so far."""
    weights: dict[str, np.ndarray] = {}
    for role, array in given.weights.items():
        rank = spec.required.get(role) or spec.optional.get(role)
        if rank is None:
            known = ", ".join((*spec.required, *spec.optional)) or "none"
            raise ModelFormatError(f"{given.op} has no weight {at.shown(role)}; it takes {known}")
        if not isinstance(array, np.ndarray):
            raise ModelFormatError(f"{role} must be a NumPy array, got {type(array).__name__}")
        if array.ndim != rank:
            raise ShapeError(f"{role} must have {rank} axes, got shape {array.shape}")
        own = _check_dtype(role, array.dtype)
        if dtype is not None and own != dtype:
            raise DTypeError(
                f"{role} is {own}, the rest of the graph is {dtype}; convert it with .astype(numpy.{dtype})"
            )
        dtype = own
        flags = array.flags
        weights[role] = array if flags.c_contiguous and flags.aligned else array.copy(order="C")
    for role in spec.required:
        if role not in weights:
            raise ModelFormatError(f"{given.op} needs the weight {role!r}, which is missing")
    return weights, dtype


def _normalise(given: Mapping[str, Any], spec: OpSpec) -> dict[str, Any]:
    """Return every attribute of the op, defaults filled in, each in its one spelling."""
    attrs = {}
    found = 0
    for key, (default, normaliser) in spec.attributes.items():
        if key in given:
            found += 1
            attrs[key] = normaliser(key, given[key])
        elif default is REQUIRED:
            raise ArgumentError(f"needs the attribute {key!r}, which is missing")
        else:
            attrs[key] = normaliser(key, default)
    if found != len(given):
        unknown = next(key for key in given if key not in attrs)
        known = ", ".join(spec.attributes) or "none"
        raise ArgumentError(f"unknown attribute {at.shown(unknown)}; known are {known}")
    return attrs


def _check_outputs(outputs: Any, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    if isinstance(outputs, str) or not isinstance(outputs, Sequence) or not outputs:
        raise ModelFormatError(
            f"outputs must be a non-empty tuple of node names, got {at.shown(outputs)}"
        )
    for name in outputs:
        if not isinstance(name, str) or name not in shapes:
            raise ModelFormatError(f"output {at.shown(name)} is not a node of the graph")
        if name == INPUT:
            raise ModelFormatError(
                f"output {name!r} is the graph's input; return it through an identity node"
            )
    return tuple(outputs)


def _check_labels(labels: Any, shape: Shape) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ArgumentError(f"labels must be a tuple of strings, got {at.shown(labels)}")
    wrong = [label for label in labels if not isinstance(label, str)]
    if wrong:
        raise ArgumentError(
            f"labels must be strings, got {at.shown(wrong[0])}; pass [str(x) for x in labels]"
        )
    classes = shape[0] if shape else 1
    if len(labels) != classes:
        raise ArgumentError(f"labels must name the output's {classes} classes, got {len(labels)}")
    return tuple(labels)


def _check_preprocessing(
    mean: Any, std: Any, shape: Shape
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    channels = shape[0] if shape else 1
    result = []
    for name, value, default in (("mean", mean, 0.0), ("std", std, 1.0)):
        if value is None:
            result.append((default,) * channels)
            continue
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise ArgumentError(f"{name} must be a tuple of numbers, got {at.shown(value)}")
        numbers = tuple(at.number(name, item) for item in value)
        if len(numbers) != channels:
            raise ArgumentError(
                f"{name} must have one number for each of {channels} channels, got {len(numbers)}"
            )
        if not all(isfinite(item) and (name == "mean" or item > 0) for item in numbers):
            raise ArgumentError(
                f"{name} must be finite{' and positive' if name == 'std' else ''}, got {numbers}"
            )
        result.append(numbers)
    return result[0], result[1]


# --- the remedy for a wrong input size ----------------------------------------------------------

_LARGEST_SIDE = 1024
_SEARCH_BUDGET = 20_000  # nodes inferred in one search: at most some tenths of a second


def _explain_features(
    error: FeatureMismatch, given: Node, before: Sequence[Node], shapes: Mapping[str, Shape]
) -> str:
    """Say what a linear layer that does not fit needs, and which input size would give it."""
    source = next((node for node in before if node.name == given.inputs[0]), None)
    flattened = source is not None and source.op in ("flatten", "reshape")
    problem = f"expects {error.expected} features, the {'flattened ' if flattened else ''}input has {error.got}"
    fitting = None
    if flattened and len(shapes[INPUT]) == 3:
        fitting = find_input_shape([*before, given], shapes[INPUT][0])
    if fitting is None:
        return f"{problem}; check the layer before it, or its weight"
    return f"{problem}; pass input_shape={fitting}"


def find_input_shape(nodes: Sequence[Node], channels: int) -> Shape | None:
    """Return the smallest square (channels, S, S) that all `nodes` accept, or None where none is found.

    The nodes are inferred for one size after another; a reshape to a fixed size or 'same' padding that was settled
    already stays as it is.
    """
    sides = min(_LARGEST_SIDE, _SEARCH_BUDGET // max(len(nodes), 1))
    for side in range(1, sides + 1):
        shapes: dict[str, Shape] = {INPUT: (channels, side, side)}
        try:
            for node in nodes:
                spec = OPS[node.op]
                sources = [shapes[name] for name in node.inputs]
                shapes[node.name] = spec.infer(sources, _normalise(node.attrs, spec), node.weights)
        except FastconvError:
            continue
        return shapes[INPUT]
    return None
