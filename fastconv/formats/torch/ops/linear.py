"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..values import Value
from .arithmetic import affine
from .table import Functions, layer

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

FUNCTIONS("linear.default")(layer("linear", ("weight", "bias")))


@FUNCTIONS("matmul.default", "mm.default", "bmm.default")
def _matmul(reader: Reader, x: Any, weight: Any) -> Value:
    if isinstance(x, Value) and isinstance(weight, Value):
        return _product(reader, x, weight)
    if isinstance(weight, Value) or weight.dim() != 2:
        raise reader.unsupported("is supported with a constant matrix on its right only")
    return reader.emit("linear", x, weights={"weight": weight.t()})


def _product(reader: Reader, x: Value, other: Value) -> Value:
    if len(x.shape) != len(other.shape) or x.shape[:-2] != other.shape[:-2] or len(x.shape) < 3:
        raise reader.unsupported("of matrices of other leading axes is not supported")
    return reader.emit("matmul", x, other)


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
    rank, factor = len(query.shape), query.shape[-1] ** -0.5 if scale is None else scale
    turned = reader.emit("permute", key, attrs={"dims": (*range(rank - 2), rank - 1, rank - 2)})
    scores = reader.emit("matmul", affine(reader, query, factor), turned)
    if mask is not None:
        scores = reader.emit("add", scores, weights={"other": reader.one_image(mask, rank)})
    weights = reader.emit("softmax", scores, attrs={"dim": rank - 1})
    return reader.emit("matmul", weights, value)


@FUNCTIONS("addmm.default")
def _addmm(reader: Reader, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(bias, Value) or isinstance(weight, Value) or bias.dim() > 1:
        raise reader.unsupported("is supported with a constant matrix and a constant row only")
    row = (beta * bias).expand(weight.shape[1])
    return reader.emit("linear", x, weights={"weight": alpha * weight.t(), "bias": row})
