"""Activations: one row each, from which the operator, the fused attribute and every format's entry follow."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError
from ..attributes import number, shown
from .spec import REQUIRED, OpSpec, same_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..attributes import Normaliser
    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["ACTIVATION", "ACTIVATIONS", "SPECS", "Activation"]


class Activation:
    """A function of one element.

    Attributes
    ----------
    parameters
        ``(name, default, normaliser)`` of each, in the order of PyTorch's arguments.
    monotonic
        ``(*parameters) -> bool``: whether the larger of two values stays the larger one, rounding
        and infinities included, so that a max-pool may be exchanged with it, and it is cheap enough
        for that. False where nothing promises it.
    check
        Called with the parameters; refuses those that do not go together.
    compiled
        ``(*parameters) -> (name, *numbers)``: the kernels' row and its parameters (kernels/activation.pxi), where they
        are not these.
    torch
        The function of ``torch.nn.functional``, or of ``torch``, where it is not called as the operator.
    aten
        The calls that :mod:`torch.export` writes for it, ``<name>.<overload>``. Their arguments
        after the input are the parameters.
    onnx
        The operator of ONNX, where it has one.
    """

    __slots__ = ("aten", "check", "compiled", "monotonic", "name", "onnx", "parameters", "torch")

    def __init__(
        self,
        name: str,
        *parameters: tuple[str, Any, Normaliser],
        onnx: str | None = None,
        monotonic: Callable[..., bool] = lambda *_: False,
        check: Callable[..., None] = lambda *_: None,
        compiled: Callable[..., tuple[Any, ...]] | None = None,
        torch: str | None = None,
        aten: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.monotonic = monotonic
        self.check = check
        self.compiled = compiled or (lambda *numbers: (name, *numbers))
        self.torch = torch or name
        self.aten = tuple(aten) or (f"{name}.default",)
        self.onnx = onnx


def check_limits(min_val: float, max_val: float) -> None:
    """Refuse an empty interval of hardtanh."""
    if min_val > max_val:
        raise ArgumentError(f"min_val must not be greater than max_val, got {min_val} and {max_val}")


def check_alpha(alpha: float) -> None:
    """Refuse celu's division by zero."""
    if alpha == 0:
        raise ArgumentError("alpha must not be 0")


def check_beta(beta: float, threshold: float) -> None:
    """Refuse softplus's division by zero."""
    if beta == 0:
        raise ArgumentError("beta must not be 0")


def approximation(name: str, value: Any) -> str:
    """Return gelu's ``approximate``: 'none' or 'tanh'."""
    if value not in ("none", "tanh"):
        raise ArgumentError(f"{name} must be 'none' or 'tanh', got {shown(value)}")
    return str(value)


def check_lambd(lambd: float) -> None:
    """Refuse what PyTorch refuses of softshrink."""
    if not lambd >= 0:
        raise ArgumentError(f"lambd must be 0 or more, got {lambd}")


# Powers that need no logarithm -> the kernels' rows.
_POWERS = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 1.0: "none", 2.0: "square", 3.0: "cube"}


def _power(exponent: float) -> tuple[Any, ...]:
    return (_POWERS[exponent],) if exponent in _POWERS else ("pow", exponent)


# The order of a sigmoid's or a tanh's results is not promised where they are rounded: neither is monotonic here.
ACTIVATIONS: Mapping[str, Activation] = {
    row.name: row
    for row in (
        Activation("relu", monotonic=lambda: True, onnx="Relu"),
        Activation(
            "leaky_relu",
            ("negative_slope", 0.01, number),
            monotonic=lambda slope: 0 < slope < inf,  # -inf * 0 is NaN
            onnx="LeakyRelu",
        ),
        Activation(
            "hardtanh",
            ("min_val", -1.0, number),
            ("max_val", 1.0, number),
            monotonic=lambda low, high: True,
            check=check_limits,
            onnx="Clip",
        ),
        Activation("sigmoid", onnx="Sigmoid"),
        Activation("tanh", onnx="Tanh"),
        Activation("silu", onnx="Swish"),
        Activation("hardsigmoid", onnx="HardSigmoid"),
        Activation("hardswish", onnx="HardSwish"),
        Activation(
            "gelu",
            ("approximate", "none", approximation),
            onnx="Gelu",
            compiled=lambda approximate: ("gelu" if approximate == "none" else "gelu_tanh",),
        ),
        Activation("elu", ("alpha", 1.0, number), onnx="Elu", compiled=lambda alpha: ("elu", alpha, 1.0)),
        Activation(
            "celu",
            ("alpha", 1.0, number),
            check=check_alpha,
            onnx="Celu",
            compiled=lambda alpha: ("elu", alpha, 1 / alpha),
        ),
        Activation("selu", onnx="Selu"),
        Activation("softplus", ("beta", 1.0, number), ("threshold", 20.0, number), check=check_beta, onnx="Softplus"),
        Activation("mish", onnx="Mish"),
        Activation("logsigmoid", aten=("log_sigmoid.default",)),
        Activation("erf", onnx="Erf"),
        Activation("exp", onnx="Exp"),
        Activation("log", onnx="Log"),
        Activation("sqrt", onnx="Sqrt"),
        Activation("rsqrt"),
        Activation("reciprocal", onnx="Reciprocal"),
        Activation("abs", onnx="Abs"),
        Activation("floor", onnx="Floor"),
        Activation("ceil", onnx="Ceil"),
        Activation("round", onnx="Round"),
        Activation("trunc", aten=("trunc.default", "fix.default")),
        Activation("sign", onnx="Sign"),
        Activation("sin", onnx="Sin"),
        Activation("cos", onnx="Cos"),
        Activation("pow", ("exponent", REQUIRED, number), compiled=_power, aten=("pow.Tensor_Scalar",)),
        Activation("isnan"),
        Activation("logical_not"),
        Activation("threshold", ("threshold", REQUIRED, number), ("value", REQUIRED, number)),
        Activation("hardshrink", ("lambd", 0.5, number)),
        Activation("softshrink", ("lambd", 0.5, number), check=check_lambd),
    )
}


def fused(name: str, value: Any) -> tuple[Any, ...] | None:
    """Return a fused activation ``(op, *parameters)`` or None."""
    if value is None:
        return None
    row = None
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], str):
        row = ACTIVATIONS.get(value[0])
    if row is None:
        raise ArgumentError(
            f"{name} must be None or (op, *parameters) with op one of {', '.join(ACTIVATIONS)}, got {shown(value)}"
        )
    if len(value) != 1 + len(row.parameters):
        raise ArgumentError(f"{name} {row.name} takes {len(row.parameters)} parameters, got {len(value) - 1}")
    given = [normalise(name, item) for (_, _, normalise), item in zip(row.parameters, value[1:], strict=True)]
    row.check(*given)
    return row.name, *given


# The attribute of every operator that has an epilogue.
ACTIVATION: Mapping[str, tuple[Any, Normaliser]] = {"activation": (None, fused)}


def _spec(row: Activation) -> OpSpec:
    def infer(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
        row.check(*attrs.values())
        return same_shape(shapes, attrs, weights)

    return OpSpec(infer, {name: (default, normalise) for name, default, normalise in row.parameters})


SPECS = {name: _spec(row) for name, row in ACTIVATIONS.items()}
