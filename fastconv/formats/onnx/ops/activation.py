"""Activations: those of the Graph's table under their ONNX names, and what ONNX spells otherwise."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import TYPE_CHECKING, Any

from ....graph.ops.activation import ACTIVATIONS, Activation
from .arithmetic import affine
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

# ONNX's attributes that ours lack -> what they are here.
_FIXED: dict[str, dict[str, Any]] = {"silu": {"alpha": 1.0}, "selu": _SELU}


def _same(value: Any, expected: Any) -> bool:
    """Whether an attribute has a value, to the precision of the float32 that it is stored in."""
    if isinstance(value, float) and isinstance(expected, float):
        return isclose(value, expected, rel_tol=1e-6)
    return bool(value == expected)


def _row(row: Activation) -> Callable[..., Value]:
    """The entry of an activation; its parameters are ONNX's attributes of the same name, or the only one."""
    names = [name for name, *_ in row.parameters]

    def convert(reader: Reader, x: Value, **attributes: Any) -> Value:
        attrs = {name: attributes.pop(name) for name in names if name in attributes}
        if not attrs and len(names) == len(attributes) == 1:
            attrs = {names[0]: attributes.popitem()[1]}
        for name, value in attributes.items():
            expected = _FIXED.get(row.name, {}).get(name)
            if not _same(value, expected):
                raise reader.unsupported(f"with {name}={value}")
        return reader.along(row.name, x, **attrs)

    return convert


FUNCTIONS.update((row.onnx, _row(row)) for row in ACTIVATIONS.values() if row.onnx is not None)


@FUNCTIONS("Softsign")
def _softsign(reader: Reader, x: Value) -> Value:
    return reader.along("div", x, affine(reader, reader.along("abs", x), shift=1.0))


@FUNCTIONS("Clip")
def _clip(reader: Reader, x: Value, min: Any = None, max: Any = None) -> Value:
    low, high = (
        bound if bound is None or isinstance(bound, float) else reader.number(name, bound)
        for name, bound in (("min", min), ("max", max))
    )
    return reader.like(x, reader.builder.clamp(x.name, low, high))


@FUNCTIONS("HardSigmoid")
def _hard_sigmoid(reader: Reader, x: Value, *, alpha: float, beta: float) -> Value:
    if _same(alpha, 1 / 6) and beta == 0.5:
        return reader.along("hardsigmoid", x)
    line = affine(reader, x, alpha, beta)
    return reader.like(line, reader.builder.clamp(line.name, 0, 1))


@FUNCTIONS("ThresholdedRelu")
def _thresholded_relu(reader: Reader, x: Value, *, alpha: float) -> Value:
    return reader.along("threshold", x, threshold=alpha, value=0.0)


@FUNCTIONS("Shrink")
def _shrink(reader: Reader, x: Value, *, bias: float, lambd: float) -> Value:
    if bias not in (0, lambd):
        raise reader.unsupported(f"with bias={bias:g} and lambd={lambd:g}")
    return reader.along("hardshrink" if bias == 0 else "softshrink", x, lambd=lambd)
