"""Linear layers and matrix products: the gradient by each operand is a product of the result's with the other."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import functional as F
from ..functional.one_op import floats
from .conv import bias_gradient
from .rule import Array, Backward, Rule, each, summed_to

__all__ = ["RULES"]


def _linear(input: Any, weight: Any, bias: Any) -> tuple[Array, Backward]:
    y: Array = F.linear(input, weight, bias)
    given = floats("linear", input=input, weight=weight)
    x, w = given["input"], given["weight"]
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    matrix = w if w.ndim == 2 else w[np.newaxis]
    pixels = (len(rows), len(matrix), 1)
    return y, each(
        input=lambda g: F.matmul(g.reshape(pixels[:2]), matrix).reshape(x.shape),
        weight=lambda g: F.matmul(g.reshape(pixels[:2]).T, rows).reshape(w.shape),
        bias=lambda g: bias_gradient(g.reshape(pixels)).reshape(w.shape[:-1]),
    )


def _matmul(input: Any, other: Any) -> tuple[Array, Backward]:
    return _product(F.matmul(input, other), "matmul", input=input, other=other)


def _bmm(input: Any, mat2: Any) -> tuple[Array, Backward]:
    return _product(F.bmm(input, mat2), "bmm", input=input, mat2=mat2)


def _product(y: Array, function: str, **operands: Any) -> tuple[Array, Backward]:
    """Return the rule's result for a product of these two operands."""
    given = floats(function, **operands)
    (first, x), (second, z) = given.items()
    rows = x[np.newaxis] if x.ndim == 1 else x  # a vector is a matrix of one row, or of one column
    columns = z[:, np.newaxis] if z.ndim == 1 else z
    shape = (*y.shape[: y.ndim - (x.ndim > 1) - (z.ndim > 1)], rows.shape[-2], columns.shape[-1])
    return y, each(
        **{
            first: lambda g: _to(x, F.matmul(g.reshape(shape), columns.swapaxes(-1, -2)), rows.shape),
            second: lambda g: _to(z, F.matmul(rows.swapaxes(-1, -2), g.reshape(shape)), columns.shape),
        }
    )


def _to(operand: Array, gradient: Array, shape: tuple[int, ...]) -> Any:
    """Sum over the leading axes that were broadcast, and give an operand's own shape."""
    return summed_to(shape, gradient).reshape(operand.shape)


RULES: dict[str, Rule] = {"linear": _linear, "matmul": _matmul, "bmm": _bmm}
