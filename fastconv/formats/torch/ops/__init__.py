"""ATen calls -> nodes: one file per family, with a table each; `table.Functions` says what an entry takes and gives."""

from __future__ import annotations

from . import activation, arithmetic, compare, conv, linear, norm, order, pool, recurrent, reduce, resize, shape

__all__ = ["FUNCTIONS", "INTEGERS"]

_FAMILIES = (activation, arithmetic, compare, conv, linear, norm, order, pool, recurrent, reduce, resize, shape)

FUNCTIONS = {f"aten.{name}": function for family in _FAMILIES for name, function in family.FUNCTIONS.items()}

# Moving integers changes none of them.
INTEGERS = {f"aten.{name}" for family in _FAMILIES for name in family.FUNCTIONS.integers} | {
    f"aten.{name}" for name in shape.FUNCTIONS
}
