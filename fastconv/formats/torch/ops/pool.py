"""Pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .table import Functions, layer

if TYPE_CHECKING:
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
