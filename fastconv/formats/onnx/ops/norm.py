"""Normalisation."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

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
    dim = reader.axis(x, axis)
    if dim == 0:
        raise reader.unsupported("along the batch")
    return reader.along(op, x, dim=dim)


_softmax("Softmax", "softmax")
_softmax("LogSoftmax", "log_softmax")
