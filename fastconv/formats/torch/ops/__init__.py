"""ATen calls -> nodes: one file per family, with a table each; `table.Functions` says what an entry takes and gives."""

from __future__ import annotations

from . import activation, arithmetic, conv, linear, norm, pool, resize, shape

__all__ = ["FUNCTIONS"]

_FAMILIES = (activation, arithmetic, conv, linear, norm, pool, resize, shape)

FUNCTIONS = {f"aten.{name}": function for family in _FAMILIES for name, function in family.FUNCTIONS.items()}
