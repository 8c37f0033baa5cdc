"""Comparisons, which give 1 or 0 in the network's type, what is made of them, powers and remainders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....graph.ops.arithmetic import WHERE
from ..values import Value
from .shape import of_rank
from .table import Functions

if TYPE_CHECKING:
    import torch

    from ..reader import Reader

__all__ = ["FUNCTIONS", "equal", "where"]

FUNCTIONS = Functions()

_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def _float(value: Any) -> torch.Tensor:
    """A number, or a tensor of any type, as a constant of the Graph's."""
    import torch

    return torch.as_tensor(value, device="cpu").to(torch.float32)


def _together(reader: Reader, *given: Any) -> list[Any]:
    """Return values whose axes lie alike and, with as many axes at least, what are constants of the Graph."""
    rank = max(len(getattr(x, "shape", ())) for x in given)
    values = iter(reader.alike(*(of_rank(reader, x, rank) for x in given if isinstance(x, Value))))
    known = [next(values) if isinstance(x, Value) else x for x in given]
    like = next(x for x in known if isinstance(x, Value))
    return [x if isinstance(x, Value) else reader.constant(like, _float(x)) for x in known]


def _of_two(reader: Reader, op: str, x: Any, other: Any) -> Value:
    """Two values, or one and a constant; where that is the left one, it becomes a value, the same for any image."""
    if not isinstance(x, Value):
        x = reader.filled(_float(x), reader.arranged(other))
    if isinstance(other, Value):
        return reader.along(op, *reader.alike(x, other))
    x, constant = _together(reader, x, other)
    return reader.along(op, x, weights={"other": constant})


def _comparison(op: str) -> Callable[..., Value]:
    def read(reader: Reader, x: Any, other: Any) -> Value:
        if isinstance(x, Value):
            return _of_two(reader, op, x, other)
        return _of_two(reader, _MIRRORED[op], other, x)

    return read


def _same(op: str) -> Callable[..., Value]:
    def read(reader: Reader, x: Any, other: Any) -> Value:
        return _of_two(reader, op, x, other)

    return read


def _logical(op: str, bits: bool) -> Callable[..., Value]:
    """Read an operation on truths; one on bits is that where the result is a truth."""

    def read(reader: Reader, x: Any, other: Any) -> Value:
        if bits:
            reader.check_truth()
        x, other = (x, other) if isinstance(x, Value) else (other, x)
        return _of_two(reader, op, x, other)

    return read


equal = _comparison("eq")

for _op in _MIRRORED:
    FUNCTIONS(f"{_op}.Tensor", f"{_op}.Scalar", integers=True)(_comparison(_op))
for _op in ("fmod", "remainder"):
    FUNCTIONS(f"{_op}.Tensor", f"{_op}.Scalar", f"{_op}.Scalar_Tensor")(_same(_op))
for _op in ("and", "or", "xor"):
    FUNCTIONS(f"logical_{_op}.default", integers=True)(_logical(f"logical_{_op}", False))
    FUNCTIONS(f"bitwise_{_op}.Tensor", f"__{_op}__.Tensor", integers=True)(_logical(f"logical_{_op}", True))


FUNCTIONS("pow.Tensor_Tensor", "pow.Scalar", "float_power.Tensor_Tensor", "float_power.Scalar")(_same("float_power"))


@FUNCTIONS("float_power.Tensor_Scalar")
def _float_power(reader: Reader, x: Value, exponent: float) -> Value:
    return reader.along("pow", x, attrs={"exponent": exponent})


@FUNCTIONS("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(reader: Reader, condition: Any, x: Any, other: Any) -> Value:
    """A choice between two, each a value, a constant or a number, as the condition may be."""
    given = _together(reader, condition, x, other)
    constants = {role: value for role, value in zip(WHERE, given, strict=True) if not isinstance(value, Value)}
    return reader.along("where", *(value for value in given if isinstance(value, Value)), weights=constants)


@FUNCTIONS("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(reader: Reader, x: Any, mask: Any, value: Any) -> Value:
    return where(reader, mask, value, x)
