"""Several inputs, by name; loaded where somebody names one, or gives other shapes to inputs that are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ModelFormatError, ShapeError
from . import checks
from .attributes import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .ops.spec import Shape

__all__ = ["given_for", "listed", "named", "the_one"]


def named(value: Mapping[Any, Any]) -> dict[str, Shape]:
    """Return name -> shape of one image, checked, in the order given."""
    if not value:
        raise ModelFormatError("the graph has no inputs; name at least one, with its shape")
    result: dict[str, Shape] = {}
    for name, shape in value.items():
        if not isinstance(name, str) or not name:
            raise ModelFormatError(f"an input's name must be a non-empty string, got {shown(name)}")
        result[name] = checks.input_shape(shape, f"input {shown(name)}")
    return result


def given_for(names: Iterable[str], value: Any) -> dict[str, Any]:
    """Return name -> shape as a caller gives them for inputs of these names: not checked, and of some alone perhaps.

    value: a mapping, or for one input its shape.
    """
    names = tuple(names)
    if not isinstance(value, Mapping):
        if len(names) > 1:
            raise ArgumentError(
                f"input_shape must give the shape of each of {len(names)} inputs, {{{names[0]!r}: (C, H, W), …}}; they "
                f"are {listed(names)}; got {shown(value)}"
            )
        return dict.fromkeys(names, value)
    for name in value:
        if name not in names:
            raise ArgumentError(f"input_shape: there is no input {shown(name)}; there is {listed(names)}")
    return dict(value)


def the_one(inputs: Mapping[str, Shape]) -> Shape:
    """Return the shape of the one input there is."""
    if len(inputs) != 1:
        raise ShapeError(
            f"the network has {len(inputs)} inputs, {listed(inputs)}, and no one input_shape; read Graph.inputs, or "
            "Model.input_shapes"
        )
    (shape,) = inputs.values()
    return shape


def listed(inputs: Iterable[str] | Mapping[str, Shape]) -> str:
    """Return inputs by name, with their shapes where these are there, for people."""
    shapes = inputs if isinstance(inputs, Mapping) else {}
    words = [f"{shown(name)} {shapes[name]}" if name in shapes else shown(name) for name in inputs]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
