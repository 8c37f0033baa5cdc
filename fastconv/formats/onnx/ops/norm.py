"""Normalisation."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


@FUNCTIONS("BatchNormalization")
def _batch_normalization(
    reader: Reader,
    x: Value,
    scale: Any,
    bias: Any,
    mean: Any,
    var: Any,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int = 0,
    spatial: int = 1,
) -> Value:
    if training_mode:
        raise reader.unsupported("with the statistics of the batch")
    if not spatial:
        raise reader.unsupported("with statistics for each pixel")
    given = {"weight": scale, "bias": bias, "running_mean": mean, "running_var": var}
    weights = {role: reader.weight(array) for role, array in given.items()}
    return reader.emit("batch_norm", x, weights=weights, eps=epsilon)


@FUNCTIONS("LayerNormalization")
def _layer_normalization(
    reader: Reader, x: Value, scale: Any, bias: Any = None, *, axis: int, epsilon: float, stash_type: int = 1
) -> Value:
    return _over_last_axes(reader, "layer_norm", x, axis, epsilon, {"weight": scale, "bias": bias})


@FUNCTIONS("RMSNormalization")
def _rms_normalization(
    reader: Reader, x: Value, scale: Any, *, axis: int, epsilon: float, stash_type: int = 1
) -> Value:
    return _over_last_axes(reader, "rms_norm", x, axis, epsilon, {"weight": scale})


def _over_last_axes(reader: Reader, op: str, x: Value, axis: int, eps: float, given: dict[str, Any]) -> Value:
    """Weights broadcast to the axes that are normalised."""
    reader.axis(x, axis)
    x, count = reader.arranged(x), -axis if axis < 0 else len(x.axes) - axis
    shape = reader.sizes(x)[-count:]
    weights = {}
    for role, array in given.items():
        if array is not None:
            weights[role] = _spread(reader, reader.weight(array), shape)
    return reader.trailing(op, x, count=count, weights=weights, normalized_shape=shape, eps=eps)


def _spread(reader: Reader, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.ndim > len(shape) or any(
        a not in (1, b) for a, b in zip(reversed(array.shape), reversed(shape), strict=False)
    ):
        raise reader.error(f"has weights of shape {array.shape} for axes of {shape}")
    reader.charge(prod(shape))
    return np.broadcast_to(array, shape)


@FUNCTIONS("InstanceNormalization")
def _instance_normalization(reader: Reader, x: Value, scale: Any, bias: Any, *, epsilon: float) -> Value:
    x = reader.plain(x)
    return _groups(reader, x, reader.sizes(x)[:1], scale, bias, epsilon)


@FUNCTIONS("GroupNormalization")
def _group_normalization(
    reader: Reader, x: Value, scale: Any, bias: Any, *, epsilon: float, num_groups: int, stash_type: int = 1
) -> Value:
    return _groups(reader, reader.plain(x), (num_groups,), scale, bias, epsilon)


def _groups(reader: Reader, x: Value, groups: tuple[int, ...], scale: Any, bias: Any, eps: float) -> Value:
    sizes = reader.sizes(x)
    if not sizes or not groups or groups[0] < 1 or sizes[0] % groups[0]:
        raise reader.error(f"cannot divide {sizes[:1]} channels into {groups} groups")
    weights = {"weight": reader.weight(scale), "bias": reader.weight(bias)}
    return reader.emit("group_norm", x, weights=weights, num_groups=groups[0], eps=eps)


def _softmax(name: str, op: str) -> None:
    @FUNCTIONS(name)
    def convert(reader: Reader, x: Value, *, axis: int) -> Value:
        """Before opset 13 it runs over all axes from the given one on."""
        rank = len(x.axes)
        if reader.opset >= 13 or axis in (-1, rank - 1):
            return _along(reader, op, x, axis)
        x = reader.plain(x)
        first = reader.axis(x, axis)
        shapes = [reader.shape(x, batch) for batch in reader.batches]
        flat = reader.reshape(x, [(*shape[:first], prod(shape[first:])) for shape in shapes])
        return reader.reshape(_along(reader, op, flat, -1), shapes)


def _along(reader: Reader, op: str, x: Value, axis: int) -> Value:
    return reader.along(op, x, dim=reader.axis_of_images(x, axis))


_softmax("Softmax", "softmax")
_softmax("LogSoftmax", "log_softmax")


@FUNCTIONS("LRN")
def _lrn(reader: Reader, x: Value, *, size: int, alpha: float, beta: float, bias: float) -> Value:
    attrs: dict[str, Any] = {"size": size, "alpha": alpha, "beta": beta, "k": bias}
    if size % 2:
        return reader.emit("local_response_norm", x, **attrs)
    # ONNX has one channel more behind the middle, PyTorch in front of it.
    turned = reader.emit("local_response_norm", reader.emit("flip", x, dims=(1,)), **attrs)
    return reader.emit("flip", turned, dims=(1,))
