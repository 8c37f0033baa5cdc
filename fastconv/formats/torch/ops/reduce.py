"""Reductions over any axes but the batch, and indices of extremes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

    Dims = int | Sequence[int] | None

__all__ = ["FUNCTIONS", "reduced"]

FUNCTIONS = Functions()


def reduced(reader: Reader, op: str, x: Value, dim: Dims, keepdim: bool = False, **attrs: Any) -> Value:
    """A reduction over axes, wherever the Graph has them; none named are all of them, the batch too."""
    rank = len(x.axes)
    dims = sorted({axis % rank for axis in ([dim] if isinstance(dim, int) else dim or range(rank))})
    parts = {part for axis in dims for part in x.axes[axis]}
    if 0 in parts:
        raise reader.unsupported(f"over the axes {dims} mixes the images of a batch, which is not supported")
    if not parts:  # axes of one index that the Graph has not
        raise reader.unsupported(f"over the axes {dims}, of one index each, is not supported")
    name = reader.builder.reduce(op, x.name, sorted(parts), keepdim, **attrs)
    if keepdim:
        return reader.value(name, x.axes)
    kept = [axis for i, axis in enumerate(x.axes) if i not in dims]
    return reader.value(name, tuple(tuple(_moved(part, parts) for part in axis) for axis in kept))


def _moved(axis: int, gone: set[int]) -> int:
    """Return an axis's place among those that stay."""
    return axis - len([part for part in gone if part < axis])


def _simple(op: str) -> Callable[..., Value]:
    """Read ``(x, dim, keepdim, *, dtype)``."""

    def read(reader: Reader, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
        return reduced(reader, op, x, dim, keepdim)

    return read


for _op, _calls in {
    "mean": ("mean.dim", "mean.default"),
    "sum": ("sum.dim_IntList", "sum.default"),
    "prod": ("prod.dim_int", "prod.default"),
    "amax": ("amax.default",),
    "amin": ("amin.default",),
    "logsumexp": ("logsumexp.default",),
}.items():
    FUNCTIONS(*_calls)(_simple(_op))


@FUNCTIONS("linalg_vector_norm.default")
def _vector_norm(
    reader: Reader, x: Value, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    return reduced(reader, "vector_norm", x, dim, keepdim, ord=float(ord))


@FUNCTIONS("norm.ScalarOpt_dim", "norm.Scalar")
def _norm(reader: Reader, x: Value, p: float | None = 2, dim: Dims = None, keepdim: bool = False) -> Value:
    return reduced(reader, "vector_norm", x, dim, keepdim, ord=2.0 if p is None else float(p))


def _variance(op: str) -> Callable[..., Value]:
    def read(
        reader: Reader, x: Value, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False
    ) -> Value:
        return reduced(reader, op, x, dim, keepdim, correction=1.0 if correction is None else float(correction))

    return read


_VARIANCES = {op: _variance(op) for op in ("var", "std")}


def _biased(op: str) -> Callable[..., Value]:
    """Read the older ``(x, dim, unbiased, keepdim)``."""

    def read(reader: Reader, x: Value, dim: Dims = None, unbiased: bool = True, keepdim: bool = False) -> Value:
        return _VARIANCES[op](reader, x, dim, correction=int(unbiased), keepdim=keepdim)

    return read


for _op, _read in _VARIANCES.items():
    FUNCTIONS(f"{_op}.correction")(_read)
    FUNCTIONS(f"{_op}.dim")(_biased(_op))


def _with_mean(op: str) -> Callable[..., tuple[Any, ...]]:
    def read(reader: Reader, x: Value, dim: Dims = None, *, keepdim: bool = False, **how: Any) -> tuple[Any, ...]:
        used = reader.used
        return (
            _VARIANCES[op](reader, x, dim, keepdim=keepdim, **how) if 0 in used else None,
            reduced(reader, "mean", x, dim, keepdim) if 1 in used else None,
        )

    return read


def _with_mean_biased(op: str) -> Callable[..., tuple[Any, ...]]:
    """Read the older ``(x, dim, unbiased, keepdim)``."""
    both = _with_mean(op)

    def read(reader: Reader, x: Value, dim: Dims = None, unbiased: bool = True, keepdim: bool = False) -> Any:
        return both(reader, x, dim, correction=int(unbiased), keepdim=keepdim)

    return read


for _op in _VARIANCES:
    FUNCTIONS(f"{_op}_mean.correction")(_with_mean(_op))
    FUNCTIONS(f"{_op}_mean.dim")(_with_mean_biased(_op))


def _index(op: str) -> Callable[..., Value]:
    def read(reader: Reader, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            raise reader.unsupported("over the images of a batch is not supported")
        axis = reader.axis(x, dim)
        name = reader.builder.add(op, x.name, dim=axis, keepdim=keepdim)
        if keepdim:
            return reader.value(name, x.axes)
        kept = (parts for i, parts in enumerate(x.axes) if i != dim % len(x.axes))
        return reader.value(name, tuple(tuple(_moved(part, {axis}) for part in parts) for parts in kept))

    return read


def _extreme(value: str, index: str) -> Callable[..., tuple[Any, ...]]:
    """Read what gives extremes, and where they stand."""

    def read(reader: Reader, x: Value, dim: int, keepdim: bool = False) -> tuple[Any, ...]:
        used = reader.used
        return (
            reduced(reader, value, x, dim, keepdim) if 0 in used else None,
            _INDICES[index](reader, x, dim, keepdim) if 1 in used else None,
        )

    return read


_INDICES = {op: _index(op) for op in ("argmax", "argmin")}
for _op, _read in _INDICES.items():
    FUNCTIONS(f"{_op}.default", integers=True)(_read)
FUNCTIONS("max.dim")(_extreme("amax", "argmax"))
FUNCTIONS("min.dim")(_extreme("amin", "argmin"))
