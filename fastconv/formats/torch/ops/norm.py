"""Normalisation."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ..values import Value
from .arithmetic import add, mul
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..reader import Reader

__all__ = ["FUNCTIONS", "local_response_norm", "softmax"]

FUNCTIONS = Functions()


@FUNCTIONS("batch_norm.default")
def _batch_norm(
    reader: Reader,
    x: Value,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    if training:
        raise reader.unsupported("with the statistics of the batch is not supported")
    if x.axes[0] != (0,) and not isinstance(running_mean, Value) and len(x.axes) == 2:
        # of rows, such as the images' tokens one after the other: by channel, wherever these are
        scale = (1 if weight is None else weight.double()) * (running_var.double() + eps).rsqrt()
        shift = (0 if bias is None else bias.double()) - running_mean.double() * scale
        return add(reader, mul(reader, x, scale), shift)
    weights = {"running_mean": running_mean, "running_var": running_var}
    weights |= {"weight": weight, "bias": bias}
    return reader.emit("batch_norm", x, weights=weights, attrs={"eps": eps})


@FUNCTIONS("layer_norm.default")
def _layer_norm(
    reader: Reader, x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Value:
    attrs = {"normalized_shape": normalized_shape, "eps": eps}
    weights = {"weight": weight, "bias": bias}
    return reader.trailing("layer_norm", x, count=len(normalized_shape), weights=weights, attrs=attrs)


@FUNCTIONS("rms_norm.default")
def _rms_norm(reader: Reader, x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Value:
    import torch

    attrs = {"normalized_shape": normalized_shape, "eps": torch.finfo(reader.dtype).eps if eps is None else eps}
    return reader.trailing("rms_norm", x, count=len(normalized_shape), weights={"weight": weight}, attrs=attrs)


@FUNCTIONS("group_norm.default")
def _group_norm(
    reader: Reader, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Value:
    attrs = {"num_groups": num_groups, "eps": eps}
    return reader.emit("group_norm", x, weights={"weight": weight, "bias": bias}, attrs=attrs)


@FUNCTIONS("instance_norm.default")
def _instance_norm(
    reader: Reader,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Value:
    """Every channel is a group of its own; with running statistics it is a batch norm."""
    if not use_input_stats:
        return _batch_norm(reader, x, weight, bias, running_mean, running_var, False, momentum, eps, False)
    return _group_norm(reader, x, x.shape[1], weight, bias, eps)


def local_response_norm(reader: Reader, x: Any, attrs: Mapping[str, Any]) -> Any:
    """What :mod:`..chains` has found, of images: of one row where there are fewer axes, or more."""
    import torch

    if not isinstance(x, Value):
        return torch.nn.functional.local_response_norm(x, **attrs)
    images, channels, *sizes = x.shape
    rows = sizes if len(sizes) == 2 else (1, prod(sizes))
    norm = reader.emit("local_response_norm", reader.reshape(x, (images, channels, *rows)), attrs=attrs)
    return reader.reshape(norm, x.shape)


@FUNCTIONS("softmax.int")
def softmax(reader: Reader, x: Value, dim: int, dtype: Any = None) -> Value:
    return reader.along("softmax", x, attrs={"dim": reader.axis(x, dim)})


@FUNCTIONS("log_softmax.int")
def _log_softmax(reader: Reader, x: Value, dim: int, dtype: Any = None) -> Value:
    return reader.along("log_softmax", x, attrs={"dim": reader.axis(x, dim)})
