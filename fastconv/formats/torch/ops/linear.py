"""Products of matrices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ...einsum import einsum
from ..values import Value
from .arithmetic import add, affine
from .compare import equal, where
from .norm import softmax
from .reduce import reduced
from .shape import expanded, of_rank, permute, repeat_interleave, transpose
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
    if isinstance(x, Value):
        return _by_constant(reader, x, other)
    if len(reader.checked(other).axes) < 2 or x.dim() < 2:
        raise reader.unsupported("of a constant and a row is not supported")
    return transpose(reader, _by_constant(reader, _turned(reader, other), _turned(reader, x)), -1, -2)


def _turned(reader: Reader, x: Any) -> Any:
    """Exchange rows and columns."""
    return transpose(reader, x, -1, -2) if isinstance(x, Value) else x.transpose(-1, -2)


def _by_constant(reader: Reader, x: Value, matrices: Any) -> Value:
    """Products with a constant matrix, or one for each index of the leading axes; images may share the axis of rows."""
    if matrices.dim() < 2:
        raise reader.unsupported("with a constant column is not supported")
    x = of_rank(reader, x, matrices.dim())
    if prod(matrices.shape[:-2]) == 1:
        return _linear(reader, x, matrices.reshape(matrices.shape[-2:]).t())
    x = reader.arranged(x)
    reader.axis(x, -1)
    build, (*front, _, _) = reader.builder, x.axes
    *shape, features = build.shape(x.name)
    lead = len([part for parts in front for part in parts if part])
    rows = build.reshape(x.name, (*shape[:lead], prod(shape[lead:]), features))
    first = reader.value(rows, (*front, (lead + 1,), (lead + 2,)))
    second = reader.filled(matrices, first)
    leads = [build.shape(each.name)[:lead] for each in (first, second)]
    whole = [max(pair) if 0 not in pair else 0 for pair in zip(*leads, strict=True)]
    product = reader.along("matmul", *(
        each if list(sizes) == whole else reader.along("expand", each, attrs={"shape": (*whole, -1, -1)})
        for each, sizes in zip((first, second), leads, strict=True)
    ))  # fmt: skip
    return reader.value(build.reshape(product.name, (*whole, *shape[lead:], matrices.shape[-1])), x.axes)


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
    import torch

    if dropout_p:
        raise reader.unsupported("with dropout is not supported")
    if enable_gqa:
        key, value = (_repeated(reader, x, query.shape[-3] // x.shape[-3]) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scaled = affine(reader, query, scale) if isinstance(query, Value) else query * scale
    scores = matmul(reader, scaled, _turned(reader, key))
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    weights = softmax(reader, scores, -1) if mask is None else _masked(reader, scores, mask)
    return matmul(reader, weights, value)


def _repeated(reader: Reader, x: Any, count: int) -> Any:
    """Each head so many times."""
    return repeat_interleave(reader, x, count, -3) if isinstance(x, Value) else x.repeat_interleave(count, -3)


def _masked(reader: Reader, scores: Value, mask: Any) -> Value:
    """softmax(scores + mask), of truths where there is one 0 and else -inf; 0 in a row that is -inf everywhere."""
    import torch

    least = float("-inf")
    known = not isinstance(mask, Value)
    if known and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, least)
    elif not known and reader.dtype_of(3, "attn_mask") == torch.bool:
        mask = where(reader, mask, 0.0, least)
    scores = add(reader, scores, mask)
    weights = softmax(reader, scores, -1)
    if not known:
        return where(reader, equal(reader, reduced(reader, "amax", scores, -1, True), least), 0.0, weights)
    empty = (mask == least).all(-1, keepdim=True)
    return where(reader, empty, 0.0, weights) if empty.any() else weights


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
