"""What goes into a module and what comes out: the inputs by name, and the tensors in whatever it returns, in order."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ...errors import ArgumentError, UnsupportedOperatorError
from ...graph import checks, shapes_of_inputs
from ...graph.attributes import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...graph.ops.spec import Shape

__all__ = ["Returned", "inputs_of"]


def inputs_of(module: torch.nn.Module, input_shape: Any) -> dict[str, Shape]:
    """Return name -> shape of each tensor that ``forward`` takes, in its order.

    Parameters
    ----------
    module
    input_shape
        As for `fastconv.from_torch`: a shape, which is that of `INPUT`, a mapping of names to shapes, or a sequence
        of shapes, whose inputs get the names of the parameters.
    """
    several = isinstance(input_shape, (tuple, list)) and any(isinstance(item, (tuple, list)) for item in input_shape)
    if not several and not isinstance(input_shape, Mapping):
        return shapes_of_inputs(input_shape)
    parameters = _parameters(module, len(input_shape))
    if len(input_shape) > len(parameters):
        raise ArgumentError(
            f"input_shape gives {len(input_shape)} inputs, forward of {type(module).__name__} takes {len(parameters)}: "
            f"{', '.join(parameters) or 'none'}"
        )
    if several:
        return shapes_of_inputs(dict(zip(parameters, input_shape, strict=False)))
    for name, parameter in zip(input_shape, parameters, strict=False):
        if name != parameter and name in parameters:
            raise ArgumentError(
                f"input_shape names {shown(name)} where forward of {type(module).__name__} takes {parameter!r}; give "
                f"the inputs in its order: {', '.join(parameters)}"
            )
    return shapes_of_inputs(input_shape)


def _parameters(module: torch.nn.Module, count: int) -> list[str]:
    """Return the names of what ``forward`` takes by place; of those that stand for any number, `count`."""
    names: list[str] = []
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}{index}" for index in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(name)
    return names


class Returned:
    """The tensors that a module returns, found while it is traced.

    `hook` is a forward hook which puts a tuple of them in the place of what it returns: of tuples, lists, mappings and
    dataclasses, one in another. None is left out, as optional parts are where there are none.

    Attributes
    ----------
    names : tuple of str or None
        Of each tensor: its keys, fields and places, joined by dots. None where the module returns one tensor, or a
        tuple or list of tensors, which say nothing but their place.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] | None = None

    def hook(self, module: torch.nn.Module, args: Any, result: Any) -> tuple[Any, ...]:
        """Return all that is no container, flat; see `torch.nn.Module.register_forward_hook`."""
        found = list(_leaves(type(module).__name__, result, ()))
        plain = type(result) in (tuple, list) and all(len(path) == 1 for path, _ in found)
        if (plain and len(found) == len(result)) or isinstance(result, torch.Tensor):
            self.names = None
        else:
            self.names = checks.unique_names([".".join(path) for path, _ in found])
        return tuple(value for _, value in found)


def _leaves(root: str, value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what is no container, with the way to it."""
    parts: Any
    if isinstance(value, Mapping):
        parts = value.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif isinstance(value, (tuple, list)):
        parts = zip(getattr(value, "_fields", range(len(value))), value, strict=True)
    elif value is None:
        return
    elif isinstance(value, (torch.Tensor, int, float, str)):
        yield path, value
        return
    else:
        raise UnsupportedOperatorError(
            f"{root}: returns a {type(value).__name__}{' as ' + '.'.join(path) if path else ''}; wrap it in a module "
            "that returns tensors, alone or in tuples, lists, dicts or dataclasses"
        )
    for key, part in parts:
        yield from _leaves(root, part, (*path, str(key)))
