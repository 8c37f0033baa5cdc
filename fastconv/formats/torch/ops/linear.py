"""Products of matrices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ..values import Value
from .arithmetic import add, affine
from .norm import softmax
from .shape import permute
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


@FUNCTIONS("linear.default")
def _linear(reader: Reader, x: Any, weight: Any, bias: Any = None) -> Value:
    return reader.trailing("linear", x, count=1, weights={"weight": weight, "bias": bias})


@FUNCTIONS("matmul.default", "mm.default", "bmm.default")
def matmul(reader: Reader, x: Any, other: Any) -> Value:
    """The product of the last two axes, for each index of the others."""
    if isinstance(x, Value) and isinstance(other, Value):
        return _product(reader, x, other)
    if isinstance(x, Value) and other.dim() == 2:
        return _linear(reader, x, other.t())
    if isinstance(other, Value) and x.dim() == 2:
        return turned(_linear(reader, turned(other), x))
    raise reader.unsupported("is supported with constants that are matrices only")


def _product(reader: Reader, x: Value, other: Value) -> Value:
    x, other = reader.alike(reader.arranged(x), reader.arranged(other))
    if len(x.axes) < 3 or x.shape[:-2] != other.shape[:-2]:
        raise reader.unsupported("of matrices of other leading axes is not supported")
    return reader.trailing("matmul", x, other, count=2)


def turned(x: Value) -> Value:
    """Return a view with the last two axes exchanged."""
    dims = [*range(len(x.axes) - 2), -1, -2]
    return Value(x.name, tuple(x.axes[dim] for dim in dims), tuple(x.shape[dim] for dim in dims), x.memory)


@FUNCTIONS("baddbmm.default")
def _baddbmm(reader: Reader, x: Any, first: Any, second: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    product = matmul(reader, first if alpha == 1 else affine(reader, first, alpha), second)
    return add(reader, product, x, alpha=beta) if beta else product


@FUNCTIONS("scaled_dot_product_attention.default")
def _attention(
    reader: Reader,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(scale * Q K^T + mask) V (Vaswani et al., "Attention Is All You Need", 2017)."""
    if is_causal or enable_gqa or isinstance(mask, Value) or (mask is not None and not mask.is_floating_point()):
        raise reader.unsupported("with a mask that is causal, of booleans or computed is not supported")
    if dropout_p:
        raise reader.unsupported("with dropout is not supported")
    scaled = affine(reader, query, query.shape[-1] ** -0.5 if scale is None else scale)
    scores = _product(reader, scaled, turned(reader.checked(key)))
    if mask is not None:
        scores = add(reader, scores, mask)
    return _product(reader, softmax(reader, scores, -1), reader.checked(value))


@FUNCTIONS("einsum.default")
def _einsum(reader: Reader, equation: str, operands: list[Any], **_: Any) -> Value:
    """Of two operands: a product of matrices over the axes that both have and the result has not.

    The axes that all three have come first, then those of one operand and the result, joined into one.
    """
    inputs, _arrow, output = equation.replace(" ", "").partition("->")
    words = inputs.split(",")
    if len(operands) != 2 or "." in equation or not output or any(len(set(word)) < len(word) for word in words):
        raise reader.unsupported(f"{equation!r} is not supported: only of two operands, without ellipsis and diagonals")
    first, second = words
    shared = [x for x in first if x in second and x in output]
    summed = [x for x in first if x in second and x not in output]
    rows, columns = [x for x in first if x not in second], [x for x in second if x not in first]
    made = [*shared, *rows, *columns]
    if sorted(made) != sorted(output):
        raise reader.unsupported(f"{equation!r} is not supported: an axis of one operand is summed")
    sizes = {x: size for word, y in zip(words, operands, strict=True) for x, size in zip(word, y.shape, strict=True)}

    def matrices(operand: Any, word: str, left: list[str], right: list[str]) -> Any:
        dims = [word.index(x) for x in (*shared, *left, *right)]
        shape = (*(sizes[x] for x in shared), prod(sizes[x] for x in left), prod(sizes[x] for x in right))
        if isinstance(operand, Value):
            return reader.reshape(permute(reader, operand, dims), shape)
        return operand.permute(dims).reshape(shape)

    left, right = matrices(operands[0], first, rows, summed), matrices(operands[1], second, summed, columns)
    product = reader.reshape(matmul(reader, left, right), [sizes[x] for x in made])
    return permute(reader, product, [made.index(x) for x in output])


@FUNCTIONS("addmm.default")
def _addmm(reader: Reader, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(bias, Value) or isinstance(weight, Value) or bias.dim() > 1:
        raise reader.unsupported("is supported with a constant matrix and a constant row only")
    row = (beta * bias).expand(weight.shape[1])
    return _linear(reader, x, alpha * weight.t(), row)
