"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...einsum import einsum
from ..values import Value
from .arithmetic import add, affine
from .norm import softmax
from .shape import expanded, permute, transpose
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
    if isinstance(other, Value) and x.dim() == 2 and len(other.axes) > 1:
        return transpose(reader, _linear(reader, transpose(reader, other, -1, -2), x), -1, -2)
    raise reader.unsupported("is supported with constants that are matrices only")


def _product(reader: Reader, x: Value, other: Value) -> Value:
    x, other = reader.alike(reader.arranged(x), reader.arranged(other))
    if len(x.axes) < 3:
        raise reader.unsupported("of matrices of other leading axes is not supported")
    lead = [max(pair) if 0 not in pair else 0 for pair in zip(x.shape[:-2], other.shape[:-2], strict=True)]
    x, other = (expanded(reader, each, (*lead, *each.shape[-2:])) for each in (x, other))
    return reader.trailing("matmul", x, other, count=2)


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
    scores = _product(reader, scaled, transpose(reader, reader.checked(key), -1, -2))
    if mask is not None:
        scores = add(reader, scores, mask)
    return _product(reader, softmax(reader, scores, -1), reader.checked(value))


@FUNCTIONS("einsum.default")
def _einsum(reader: Reader, equation: str, operands: list[Any], **_: Any) -> Value:
    try:
        plan = einsum(equation)
        sizes = plan.sizes(*(operand.shape for operand in operands))
    except ValueError as error:
        raise reader.unsupported(f"{equation!r} {error} is not supported") from None
    matrices = [
        reader.reshape(permute(reader, operand, way.dims), way.shape(sizes))
        if isinstance(operand, Value)
        else operand.permute(way.dims).reshape(way.shape(sizes))
        for operand, way in zip(operands, (plan.first, plan.second), strict=True)
    ]
    product = reader.reshape(matmul(reader, *matrices), [sizes[x] for x in plan.made])
    return permute(reader, product, plan.dims)


@FUNCTIONS("addmm.default")
def _addmm(reader: Reader, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(bias, Value) or isinstance(weight, Value) or bias.dim() > 1:
        raise reader.unsupported("is supported with a constant matrix and a constant row only")
    row = (beta * bias).expand(weight.shape[1])
    return _linear(reader, x, alpha * weight.t(), row)
