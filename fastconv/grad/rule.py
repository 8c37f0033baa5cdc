"""What the rules share.

A rule takes the arguments of its function, under their names, and returns what the function does and a `Backward`:
a function of the gradient of the result and of the names that are wanted, which returns the gradients by name. What a
function needs of its arguments has been checked when it has run, so a rule calls it first.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..functional.one_op import Array

__all__ = ["Array", "Backward", "Rule", "each", "of_input", "summed_to"]

Backward: TypeAlias = Callable[[Array, Container[str]], Mapping[str, Any]]
Rule: TypeAlias = Callable[..., tuple[Any, Backward]]


def each(**gradients: Callable[[Array], Any]) -> Backward:
    """Return the backward of gradients that are found one by one, each by a function of the result's gradient."""
    return lambda g, wanted: {name: gradient(g) for name, gradient in gradients.items() if name in wanted}


def of_input(gradient: Callable[[Array], Any]) -> Backward:
    """Return the backward of a function whose one array is ``input``."""
    return each(input=gradient)


def summed_to(shape: tuple[int, ...], g: Array) -> Array:
    """Sum a gradient over the axes along which an operand of this shape was broadcast."""
    if g.shape == shape:
        return g
    more = g.ndim - len(shape)
    axes = tuple(axis for axis in range(g.ndim) if axis < more or (shape[axis - more] == 1 and g.shape[axis] != 1))
    result: Array = np.asarray(g.sum(axes)).reshape(shape)
    return result
