"""Which functions have a gradient, and in which module its rule stands.

A module has them in `RULES`, by the name of the function, and is loaded with the first of its rules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["FAMILIES", "REFUSED", "rule_of"]

FAMILIES: dict[str, tuple[str, ...]] = {
    "activation": (
        *("abs", "ceil", "celu", "cos", "elu", "erf", "exp", "floor", "gelu", "glu", "hardshrink", "hardsigmoid"),
        *("hardswish", "hardtanh", "leaky_relu", "log", "logsigmoid", "mish", "reciprocal", "relu", "relu6", "round"),
        *("rsqrt", "selu", "sigmoid", "sign", "silu", "sin", "softplus", "softshrink", "softsign", "sqrt", "tanh"),
        *("tanhshrink", "threshold", "trunc"),
    ),
    "arithmetic": (
        *("add", "clamp", "div", "float_power", "fmod", "maximum", "minimum", "mul", "pow", "prelu", "remainder"),
        *("sub", "where"),
    ),
    "conv": ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"),
    "loss": ("cross_entropy", "mse_loss", "nll_loss"),
    "matmul": ("bmm", "linear", "matmul"),
    "norm": ("batch_norm", "group_norm", "layer_norm", "local_response_norm", "log_softmax", "rms_norm", "softmax"),
    "order": ("cumsum", "topk"),
    "pool": (
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
        *("avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"),
    ),
    "reduce": ("amax", "amin", "logsumexp", "mean", "prod", "std", "sum", "var", "vector_norm"),
    "resize": ("channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"),
    "shape": (
        *("broadcast_to", "cat", "flatten", "flip", "fold", "index_select", "pad", "permute", "reshape", "roll"),
        *("stack", "transpose", "unfold"),
    ),
}

# Their results are bools or indices, or nobody has written the rule yet.
REFUSED = (
    *("argmax", "argmin", "eq", "ge", "grid_sample", "gt", "isnan", "le", "logical_and", "logical_not", "logical_or"),
    *("logical_xor", "lt", "ne", "scaled_dot_product_attention"),
)

_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


def rule_of(name: str) -> Rule | None:
    """Return the rule of a function of `fastconv.functional`, or None where there is none."""
    family = _FAMILY_OF.get(name)
    if family is None:
        return None
    rule: Rule = import_module(f".{family}", __package__).RULES[name]
    return rule
