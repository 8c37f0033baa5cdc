"""The checks that constructing a Graph runs besides shape inference, in the order of their use.

Each takes what a file or a caller claims and returns it in its one spelling, or raises the error of
our hierarchy that fits. Nothing here names the node at fault; Graph adds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import (
    ArgumentError,
    DTypeError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)
from . import attributes as at
from .ops import OPS
from .ops.spec import ANY_RANK, REQUIRED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ops.spec import OpSpec, Shape
    from .preprocessing import Preprocessing

__all__ = ["MAX_ELEMENTS", "MAX_RANK"]

# No tensor of one image may have more elements: 4 TB of float32, beyond any use, far below 64 bits.
MAX_ELEMENTS = 2**40
# NumPy 1.26 allows 32 axes; one is the batch.
MAX_RANK = 31

FLOAT32: np.dtype[Any] = np.dtype(np.float32)
FLOAT64: np.dtype[Any] = np.dtype(np.float64)


def check_size(shape: Shape) -> None:
    """Refuse a tensor whose element count or rank no kernel should have to think about."""
    if len(shape) > MAX_RANK:
        raise ShapeError(f"a tensor of {len(shape)} axes, more than the {MAX_RANK} supported")
    # An empty axis counts as one: strides are products of the others.
    count = prod([size or 1 for size in shape])
    if count > MAX_ELEMENTS:
        raise ShapeError(
            f"a tensor of shape {at.shown(shape)} has {count} elements, more than the {MAX_ELEMENTS} supported"
        )


def input_shape(value: Any, what: str = "input_shape") -> Shape:
    """Return an input's shape as a tuple of non-negative ints."""
    shape = at.integers(what, value)
    if any(size < 0 for size in shape):
        raise ShapeError(f"{what} must be the sizes of one image, (C, H, W) or (F,), got {at.shown(value)}")
    check_size(shape)
    return shape


def dtype(what: str, value: Any) -> np.dtype[Any]:
    """Return float32 or float64 in the machine's byte order; refuse anything else."""
    if value is FLOAT32 or value is FLOAT64:
        return value
    try:
        value = np.dtype(value)
    except TypeError:
        name = at.shown(value)
    else:
        for known in (FLOAT32, FLOAT64):
            if value == known:
                return known
        name = value.name if value.isnative else value.str
    raise DTypeError(f"{what} is {name}, needs float32 or float64; convert it with .astype(numpy.float32)")


def spec_of(op: Any) -> OpSpec:
    """Return the table's entry of an operator."""
    spec = OPS.get(op) if isinstance(op, str) else None
    if spec is None:
        raise UnsupportedOperatorError(f"operator {at.shown(op)} is not supported; supported are {', '.join(OPS)}")
    return spec


def names(what: str, value: Any) -> tuple[str, ...]:
    """Return a list or tuple of strings as a tuple."""
    if not isinstance(value, (tuple, list)) or not all(isinstance(item, str) for item in value):
        raise ModelFormatError(f"{what} must be a tuple of names, got {at.shown(value)}")
    return tuple(value)


def inputs(value: Any, op: str, spec: OpSpec, known: Mapping[str, Shape]) -> tuple[str, ...]:
    """Return a node's inputs, each an input of the graph or an earlier node."""
    result = names("inputs", value)
    least, most = spec.arity
    if not least <= len(result) <= most:
        needs = {least, most} if most <= 2 else {f"{least} or more"}
        raise ModelFormatError(f"{op} needs {' or '.join(map(str, sorted(needs)))} inputs, got {len(result)}")
    for source in result:
        if source not in known:
            raise ModelFormatError(
                f"reads {at.shown(source)}, neither an input of the graph nor an earlier node; "
                "list nodes after what they read"
            )
    return result


def weights(
    value: Any, op: str, spec: OpSpec, expected: np.dtype[Any] | None
) -> tuple[dict[str, np.ndarray], np.dtype[Any] | None]:
    """Return the weights C-contiguous, and the graph's dtype so far (`expected`, or theirs)."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise ModelFormatError(f"weights must map roles to arrays, got {at.shown(value)}")
    result: dict[str, np.ndarray] = {}
    for role, array in value.items():
        rank = spec.required.get(role) or spec.optional.get(role)
        if rank is None:
            known = ", ".join((*spec.required, *spec.optional)) or "none"
            raise ModelFormatError(f"{op} has no weight {at.shown(role)}; it takes {known}")
        if not isinstance(array, np.ndarray):
            raise ModelFormatError(f"{role} must be a NumPy array, got {type(array).__name__}")
        if rank not in (array.ndim, ANY_RANK):
            raise ShapeError(f"{role} must have {rank} axes, got shape {array.shape}")
        own = dtype(role, array.dtype)
        if expected is not None and own is not expected:
            raise DTypeError(
                f"{role} is {own}, the rest of the graph is {expected}; convert it with .astype(numpy.{expected})"
            )
        expected = own
        flags = array.flags
        result[role] = array if flags.c_contiguous and flags.aligned else array.copy(order="C")
    for role in spec.required:
        if role not in result:
            raise ModelFormatError(f"{op} needs the weight {role!r}, which is missing")
    return result, expected


def attributes(value: Any, op: str, spec: OpSpec) -> dict[str, Any]:
    """Return every attribute of the operator: given ones normalised, defaults filled in."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise ModelFormatError(f"attributes must be a mapping, got {at.shown(value)}")
    result = {}
    found = 0
    for key, (default, normalise) in spec.attributes.items():
        if key in value:
            found += 1
            result[key] = normalise(key, value[key])
        elif default is REQUIRED:
            raise ArgumentError(f"{op} needs the attribute {key!r}, which is missing")
        else:
            result[key] = default
    if found != len(value):
        unknown = next(key for key in value if key not in result)
        known = ", ".join(spec.attributes) or "none"
        raise ArgumentError(f"{op} has no attribute {at.shown(unknown)}; it takes {known}")
    return result


def outputs(value: Any, known: Mapping[str, Shape], graph_inputs: Mapping[str, Shape]) -> tuple[str, ...]:
    """Return the graph's outputs, each the name of a node."""
    result = names("outputs", value)
    if not result:
        raise ModelFormatError("the graph has no outputs; name at least one node")
    for name in result:
        if name in graph_inputs:
            raise ModelFormatError(f"output {name!r} is an input of the graph; return it through an identity node")
        if name not in known:
            raise ModelFormatError(f"output {at.shown(name)} is not a node of the graph")
    return result


def output_names(value: Any, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name for each output, by default that of its node; with a number where outputs share a node."""
    if value is None:
        return outputs if len(set(outputs)) == len(outputs) else unique_names(outputs)
    result = names("output_names", value)
    if len(result) != len(outputs):
        raise ArgumentError(f"output_names must name each of {len(outputs)} outputs, got {len(result)} names")
    if "" in result or len(set(result)) != len(result):
        raise ArgumentError(f"output_names must be different, none of them empty, got {at.shown(result)}")
    return result


def unique_names(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the names, and ``name#2`` for one that stands in the list before."""
    taken = set(wanted)
    counts: dict[str, int] = {}
    result = []
    for name in wanted:
        count = counts.get(name, 0) + 1
        unique = name
        while count > 1 and (unique := f"{name}#{count}") in taken:
            count += 1
        counts[name] = count
        result.append(unique)
    return tuple(result)


def preprocessing(value: Any, inputs: Mapping[str, Shape]) -> Preprocessing:
    """Return how images become the input, settled for the input's shape."""
    from .preprocessing import Preprocessing

    if len(inputs) != 1:
        raise ArgumentError(f"preprocessing is for networks of one input, this one has {len(inputs)}; leave it out")
    (shape,) = inputs.values()
    if not isinstance(value, Preprocessing):
        raise ArgumentError(
            f"preprocessing must be a fastconv.graph.preprocessing.Preprocessing, got {at.shown(value)}"
        )
    return value.settled(shape)


def tuned(value: Any) -> dict[str, dict[str, str]]:
    """Return a machine -> node -> kernel, all of them strings."""
    if not isinstance(value, Mapping):
        raise ArgumentError(f"tuned must be a mapping of machines, got {at.shown(value)}")
    result: dict[str, dict[str, str]] = {}
    for machine, choices in value.items():
        if not isinstance(machine, str) or not isinstance(choices, Mapping):
            raise ArgumentError(f"tuned must map a machine's name to a mapping, got {at.shown({machine: choices})}")
        for node, kernel in choices.items():
            if not isinstance(node, str) or not isinstance(kernel, str):
                raise ArgumentError(f"tuned: must map nodes to kernels by name, got {at.shown({node: kernel})}")
        result[machine] = dict(choices)
    return result


def labels(value: Any, output: Shape) -> tuple[str, ...]:
    """Return one string for each class, that is for each index of the output's first axis."""
    if not isinstance(value, (tuple, list)):
        raise ArgumentError(f"labels must be a list of strings, got {at.shown(value)}")
    for label in value:
        if not isinstance(label, str):
            raise ArgumentError(f"labels must be strings, got {at.shown(label)}; pass [str(x) for x in labels]")
    classes = output[0] if output else 1
    if len(value) != classes:
        raise ArgumentError(f"the output has {classes} classes, labels name {len(value)}")
    return tuple(value)
