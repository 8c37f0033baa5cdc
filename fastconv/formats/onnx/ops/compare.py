"""Comparisons and logic, which give 1 or 0 in the network's type, and what chooses by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ShapeError
from ....graph.ops import OPS
from ....graph.ops.arithmetic import WHERE
from ..values import Value
from .arithmetic import number, of_rank, of_two
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_OPERATORS = {
    "Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge",
    "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor",
}  # fmt: skip


def _truth(x: Value) -> Value:
    """The value, as one that only a Cast makes a number of."""
    return Value(x.name, x.axes, floating=False)


def _operator(name: str, op: str) -> None:
    @FUNCTIONS(name, mixed=True, integers=True)
    def convert(reader: Reader, x: Any, y: Any) -> Value:
        return _truth(of_two(reader, op, x, y))


for _name, _op in _OPERATORS.items():
    _operator(_name, _op)


@FUNCTIONS("Not", integers=True)
def _not(reader: Reader, x: Value) -> Value:
    return _truth(reader.along("logical_not", x))


@FUNCTIONS("IsNaN")
def _is_nan(reader: Reader, x: Value) -> Value:
    return _truth(reader.along("isnan", x))


@FUNCTIONS("Where", mixed=True, integers=True)
def _where(reader: Reader, condition: Any, x: Any, y: Any) -> Value:
    given = dict(zip(WHERE, (condition, x, y), strict=True))
    known = {role: number(reader, value) for role, value in given.items() if not isinstance(value, Value)}
    rank = max((array.ndim for array in known.values()), default=0)
    roles = [role for role in WHERE if role not in known]
    values = reader.alike(*(of_rank(reader, given[role], rank) for role in roles))
    constants = {role: reader.weight(np.asarray(reader.constant(values[0], array))) for role, array in known.items()}
    reader.charge(sum(array.size for array in constants.values()))
    try:
        OPS["where"].infer([reader.builder.shape(value.name) for value in values], {}, constants)
    except ShapeError:
        raise reader.unsupported("of tensors that do not broadcast") from None
    result = reader.along("where", *values, weights=constants)
    chosen = (value.floating for role, value in zip(roles, values, strict=True) if role != "condition")
    return Value(result.name, result.axes, all(chosen))
