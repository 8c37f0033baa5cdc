"""`vjp`: what a function returns, and how a gradient of that becomes gradients of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from inspect import Parameter, signature
from typing import Any

import numpy as np

from .. import functional
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedOperatorError
from ..graph.attributes import shown
from .rule import Array, Backward, Rule
from .table import FAMILIES, rule_of

__all__ = ["vjp"]


def vjp(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Callable[..., Any]]:
    """Call a function, and return how gradients go back through it: the vector-Jacobian product.

        y, pullback = fastconv.grad.vjp(fastconv.functional.conv2d, x, weight, bias, padding=1)
        grad_x, grad_weight, grad_bias = pullback(2 * (y - target))

    Parameters
    ----------
    function
        One of `fastconv.functional`.
    *args, **kwargs
        As the function takes them. Arrays must not change before the pullback has been called.

    Returns
    -------
    output
        What the function returns.
    pullback : callable
        ``pullback(grad_output, wrt=None)`` takes the gradient of a number by the output: of its shape and dtype, and
        ``1`` where it is left out and the output is one number. Where the output is a tuple, of values and where they
        stand, that of the values. It returns the gradient by each array argument, in the order of the arguments: a
        tuple, or one array where the function takes one. It is None for an argument that was not given, holds no
        floats, is a Python number, or for which PyTorch has none (the statistics of `batch_norm`, the weights of
        classes), and a tuple for a sequence of arrays. ``wrt``: the names of the arguments whose gradients are wanted,
        by default all; the others are None, and take no time. Gradients are arrays of their own, which may be changed.

    Raises
    ------
    UnsupportedOperatorError
        The function has no gradient, such as `fastconv.functional.argmax`; or it is none of `fastconv.functional`.
    ShapeError, DTypeError
        From the pullback: the gradient is not like the output.
    """
    name, rule = _rule(function)
    arguments = _bound(function, args, kwargs)
    names = _arrays(function)
    for argument in names:
        if argument not in _MOVED:
            arguments[argument] = _prepared(arguments[argument])
    with np.errstate(all="ignore"):
        output, backward = rule(**arguments)
    floats = frozenset([argument for argument in names if _holds_floats(arguments[argument])])
    return output, _pullback(name, names, floats, output[0] if isinstance(output, tuple) else output, backward)


@cache
def _rule(function: Callable[..., Any]) -> tuple[str, Rule]:
    """Return a function's name and rule."""
    name = getattr(function, "__name__", repr(function))
    rule = rule_of(name) if getattr(functional, name, None) is function else None
    if rule is None:
        known = ", ".join(sorted(name for names in FAMILIES.values() for name in names))
        raise UnsupportedOperatorError(
            f"vjp: {shown(name)} has no gradient here; the functions of fastconv.functional that have one are {known}"
        )
    return name, rule


@cache
def _taken(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the arguments of a function that may be given by place, and the defaults of all, `_NONE` for none."""
    parameters = signature(function).parameters.values()
    places = tuple(parameter.name for parameter in parameters if parameter.kind is not Parameter.KEYWORD_ONLY)
    defaults = {p.name: _NONE if p.default is Parameter.empty else p.default for p in parameters}
    return places, defaults


_NONE = object()


def _bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call by name. `inspect` does it in ten times the time."""
    places, defaults = _taken(function)
    given = dict(zip(places, args, strict=False))
    arguments = {**defaults, **given, **kwargs}
    twice = not given.keys().isdisjoint(kwargs)
    missing = any(value is _NONE for value in arguments.values())
    if twice or missing or len(args) > len(places) or len(arguments) > len(defaults):
        function(*args, **kwargs)  # which refuses them
        raise TypeError(f"{function.__name__}: these are none of its arguments")
    return arguments


@cache
def _arrays(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the arguments that are arrays, or sequences of them."""
    parameters = signature(function).parameters.values()
    return tuple(parameter.name for parameter in parameters if "ArrayLike" in str(parameter.annotation))


# What batch norm in training changes: the caller's own arrays.
_MOVED = frozenset(("running_mean", "running_var"))


def _prepared(value: Any) -> Any:
    """Return an array, or each of a sequence of them, contiguous: the function and its rule then need no copies."""
    if isinstance(value, np.ndarray):
        return value if value.ndim < 2 or value.flags.carray else np.require(value, requirements=["C", "A"])
    if isinstance(value, (tuple, list)) and value and all(isinstance(item, np.ndarray) for item in value):
        return [_prepared(item) for item in value]
    return value


def _holds_floats(value: Any) -> bool:
    if value is None or (isinstance(value, (bool, int, float)) and not isinstance(value, np.generic)):
        return False
    if isinstance(value, (tuple, list)) and value:  # of arrays, or of lists, which may differ in length
        return any(np.asarray(item).dtype.kind == "f" for item in value)
    return (value if isinstance(value, np.ndarray) else np.asarray(value)).dtype.kind == "f"


def _pullback(
    name: str, names: tuple[str, ...], floats: frozenset[str], output: Array, backward: Backward
) -> Callable[..., Any]:
    def pullback(grad_output: Any = None, wrt: Collection[str] | None = None) -> Any:
        g = _gradient(name, output, grad_output)
        wanted = floats if wrt is None else floats & _wanted(name, names, wrt)
        with np.errstate(all="ignore"):
            found = backward(g, wanted)
        gradients = tuple([_own(found.get(argument), g) if argument in wanted else None for argument in names])
        return gradients[0] if len(names) == 1 else gradients

    return pullback


def _own(gradient: Any, g: Array) -> Any:
    """Return a gradient, or a tuple of them, as an array of its own: neither the caller's g nor read-only."""
    if gradient is None:
        return None
    if isinstance(gradient, tuple):
        return tuple([_own(part, g) for part in gradient])
    array = np.asarray(gradient)
    return array.copy() if not array.flags.writeable or np.may_share_memory(array, g) else array


def _wanted(name: str, names: tuple[str, ...], wrt: Collection[str]) -> frozenset[str]:
    """Check names of arguments."""
    if isinstance(wrt, str):
        wrt = (wrt,)
    if not isinstance(wrt, Collection) or not all(isinstance(one, str) and one in names for one in wrt):
        raise ArgumentError(f"pullback of {name}: wrt must name some of {', '.join(names)}, got {shown(wrt)}")
    return frozenset(wrt)


def _gradient(name: str, output: Array, given: Any) -> Array:
    """Check a gradient of the output."""
    if given is None:
        if output.size != 1:
            raise ArgumentError(
                f"pullback of {name}: grad_output must be given, the output is {output.shape} and no single number"
            )
        return np.ones_like(output)
    try:
        g = np.asarray(given) if isinstance(given, (np.ndarray, np.generic)) else np.asarray(given, output.dtype)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(
            f"pullback of {name}: grad_output must be an array of {output.dtype} and shape {output.shape}, got "
            f"{shown(given)}"
        ) from None
    if g.dtype.type is not output.dtype.type:  # in any byte order
        raise DTypeError(
            f"pullback of {name}: grad_output is {g.dtype}, the output is {output.dtype}; convert it with "
            f"grad_output.astype(np.{output.dtype})"
        )
    if g.shape != output.shape:
        raise ShapeError(
            f"pullback of {name}: grad_output must have the output's shape {output.shape}, got shape {g.shape}"
        )
    return g if g.flags.carray and g.dtype.isnative else np.require(g, output.dtype.type, ["C", "A", "E"])
