"""ONNX operators -> nodes, or arrays where everything is known: one file per family, with a table each.

``FUNCTIONS``  for what the network computes; `table.Functions` says what an entry takes and gives
``FOLDS``      for constants (`constants`)
"""

from __future__ import annotations

from . import (
    activation,
    arithmetic,
    compare,
    constants,
    conv,
    linear,
    norm,
    order,
    pool,
    recurrent,
    reduce,
    resize,
    shape,
)

__all__ = ["FOLDS", "FUNCTIONS", "INTEGERS", "KEEP_SHAPE", "MIXED", "REASONS", "SIZED"]

_FAMILIES = (activation, arithmetic, compare, conv, linear, norm, order, pool, recurrent, reduce, resize, shape)

FUNCTIONS = {name: function for family in _FAMILIES for name, function in family.FUNCTIONS.items()}
FOLDS = constants.FOLDS
SIZED = {name for family in _FAMILIES for name in family.FUNCTIONS.sized}
MIXED = {name for family in _FAMILIES for name in family.FUNCTIONS.mixed}
INTEGERS = {name for family in _FAMILIES for name in family.FUNCTIONS.integers}

_QUANTISED = (
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear",
)  # fmt: skip

# Operators whose result has the shape of their largest input: where one is refused, others are still looked at.
KEEP_SHAPE = {
    *arithmetic.FUNCTIONS, *activation.FUNCTIONS, *compare.FUNCTIONS, *norm.FUNCTIONS, *constants.ELEMENTWISE,
    "LpNormalization", "MeanVarianceNormalization",
}  # fmt: skip

# Operator -> what a refusal says of it.
REASONS = {
    **dict.fromkeys(_QUANTISED, "(quantised networks are not read)"),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), "(subgraphs are not read)"),
}
