"""Pooling, and reductions over all pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .table import Functions, layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_WINDOW = ("kernel_size", "stride", "padding")
_AVERAGE = ("ceil_mode", "count_include_pad", "divisor_override")
_MAX_POOL2D = layer("max_pool2d", (), (*_WINDOW, "dilation", "ceil_mode"))

FUNCTIONS("max_pool2d.default")(_MAX_POOL2D)
FUNCTIONS("avg_pool2d.default")(layer("avg_pool2d", (), (*_WINDOW, *_AVERAGE)))
FUNCTIONS("adaptive_avg_pool2d.default")(layer("adaptive_avg_pool2d", (), ("output_size",)))


# These give the indices too, which are not computed: None stands for them.


@FUNCTIONS("max_pool2d_with_indices.default")
def _max_pool2d_with_indices(reader: Reader, *args: Any, **kwargs: Any) -> Any:
    return _MAX_POOL2D(reader, *args, **kwargs), None


@FUNCTIONS("adaptive_max_pool2d.default")
def _adaptive_max_pool2d(reader: Reader, x: Value, output_size: Any) -> Any:
    return reader.emit("adaptive_max_pool2d", x, attrs={"output_size": output_size}), None


@FUNCTIONS("mean.dim")
def _mean(
    reader: Reader,
    x: Value,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Value:
    return _over_pixels(reader, reader.builder.mean, x, dim, keepdim)


@FUNCTIONS("amax.default")
def _amax(reader: Reader, x: Value, dim: Sequence[int] = (), keepdim: bool = False) -> Value:
    return _over_pixels(reader, reader.builder.amax, x, dim, keepdim)


def _over_pixels(
    reader: Reader, recipe: Callable[..., str], x: Value, dim: Sequence[int] | None, keepdim: bool
) -> Value:
    """A reduction over height and width, or over the one axis that both were flattened into."""
    rank = len(x.shape)
    axes = sorted(axis % rank for axis in dim or range(rank))
    if rank not in (3, 4) or axes != list(range(2, rank)):
        raise reader.unsupported(f"over the axes {axes} is not supported, only over all pixels")
    return reader.apply(recipe, x, keepdim)
