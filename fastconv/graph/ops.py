"""The operators of a Graph: attributes, weights and shape inference of each, in one table.

The names and attributes are those of ``torch.nn.functional``. Two are set by rewriting only:
``activation`` (None or ``(op, *parameters)``, applied to the result) and, of a conv2d, ``pool``
(None or ``('max'|'avg', kh, kw, sh, sw)``, applied after the activation). A second input of conv2d
or linear is a residual, added before the activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from . import attributes as at
from . import shapes as infer
from .shapes import Attributes, Shape, Weights

__all__ = ["OPS", "REQUIRED", "OpSpec"]

REQUIRED: Any = object()  # the default of an attribute that has none


class OpSpec(NamedTuple):  # not a dataclass: making one takes 0.5 ms of every start
    """What an operator takes.

    Attributes
    ----------
    infer
        Shape inference, one of ``fastconv.shapes``.
    attributes
        Name -> (default, normaliser); the default is normalised already, or REQUIRED.
    required, optional
        The weights' roles -> their rank.
    arity
        The least and the greatest number of inputs.
    """

    infer: Callable[[Sequence[Shape], Attributes, Weights], Shape]
    attributes: Mapping[str, tuple[Any, at.Normaliser]] = {}
    required: Mapping[str, int] = {}
    optional: Mapping[str, int] = {}
    arity: tuple[int, int] = (1, 1)


_ACTIVATION = {"activation": (None, at.activation)}
_CONV = {
    "stride": ((1, 1), at.pair(1)),
    "padding": ((0, 0, 0, 0), at.conv_padding),
    "dilation": ((1, 1), at.pair(1)),
    "groups": (1, at.positive),
    **_ACTIVATION,
    "pool": (None, at.fused_pool),
}
_POOL = {
    "kernel_size": (REQUIRED, at.pair(1)),
    "stride": (None, at.pool_stride),
    "padding": ((0, 0), at.pair(0)),
}
_CEIL = {"ceil_mode": (False, at.boolean)}
_AVERAGE = {"count_include_pad": (True, at.boolean), "divisor_override": (None, at.divisor)}
_OUTPUT_SIZE = {"output_size": (REQUIRED, at.output_size)}
_DIM = {"dim": (REQUIRED, at.integer)}
_MANY = 2**31

OPS: Mapping[str, OpSpec] = {
    "conv2d": OpSpec(infer.conv2d, _CONV, {"weight": 4}, {"bias": 1}, (1, 2)),
    "linear": OpSpec(infer.linear, _ACTIVATION, {"weight": 2}, {"bias": 1}, (1, 2)),
    "max_pool2d": OpSpec(infer.pool2d, {**_POOL, "dilation": ((1, 1), at.pair(1)), **_CEIL}),
    "avg_pool2d": OpSpec(infer.pool2d, {**_POOL, **_CEIL, **_AVERAGE}),
    "adaptive_avg_pool2d": OpSpec(infer.adaptive_avg, _OUTPUT_SIZE),
    "adaptive_max_pool2d": OpSpec(infer.adaptive_max, _OUTPUT_SIZE),
    "relu": OpSpec(infer.same_shape),
    "leaky_relu": OpSpec(infer.same_shape, {"negative_slope": (0.01, at.number)}),
    "hardtanh": OpSpec(infer.hardtanh, {"min_val": (-1.0, at.number), "max_val": (1.0, at.number)}),
    "sigmoid": OpSpec(infer.same_shape),
    "tanh": OpSpec(infer.same_shape),
    "softmax": OpSpec(infer.softmax, _DIM),
    "log_softmax": OpSpec(infer.softmax, _DIM),
    "batch_norm": OpSpec(
        infer.batch_norm,
        {"eps": (1e-5, at.non_negative), **_ACTIVATION},
        {"running_mean": 1, "running_var": 1},
        {"weight": 1, "bias": 1},
    ),
    "pad": OpSpec(
        infer.pad,
        {
            "padding": (REQUIRED, at.pad_widths),
            "mode": ("constant", at.pad_mode),
            "value": (0.0, at.pad_value),
        },
    ),
    "flatten": OpSpec(infer.flatten, {"start_dim": (1, at.integer), "end_dim": (-1, at.integer)}),
    "reshape": OpSpec(infer.reshape, {"shape": (REQUIRED, at.integers)}),
    "identity": OpSpec(infer.same_shape),
    "dropout": OpSpec(infer.same_shape, {"p": (0.5, at.probability)}),
    "add": OpSpec(infer.add, _ACTIVATION, arity=(2, 2)),
    "cat": OpSpec(infer.cat, {"dim": (1, at.integer)}, arity=(1, _MANY)),
}
