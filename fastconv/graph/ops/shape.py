"""What moves or names values anew and computes nothing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, ShapeError
from ..attributes import integer, integers, number, shown
from .spec import ANY_RANK, REQUIRED, OpSpec, axis, same_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["SPECS"]


# --- attributes -----------------------------------------------------------------------------------

PAD_MODES = ("constant", "reflect", "replicate", "circular")


def pad_mode(name: str, value: Any) -> str:
    """Return one of `PAD_MODES`."""
    if value not in PAD_MODES:
        raise ArgumentError(f"{name} must be one of {', '.join(PAD_MODES)}, got {shown(value)}")
    return str(value)


def pad_widths(name: str, value: Any) -> tuple[int, ...]:
    """Return PyTorch's flat tuple of pairs, the last axis first; negative entries crop."""
    result = integers(name, value)
    if len(result) % 2:
        raise ArgumentError(f"{name} must hold pairs (before, after), got {len(result)} numbers")
    return result


def pad_value(name: str, value: Any) -> float:
    """Return the fill value; None means 0."""
    return 0.0 if value is None else number(name, value)


def optional_integer(name: str, value: Any) -> int | None:
    """Return an integer; None stays."""
    return None if value is None else integer(name, value)


def probability(name: str, value: Any) -> float:
    """Return a number in 0..1."""
    value = number(name, value)
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name} must lie in 0..1, got {value}")
    return float(value)


# --- shapes ---------------------------------------------------------------------------------------


def _pad(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Pad (or, where negative, crop) the last axes; the first pair belongs to the last axis."""
    shape, padding, mode = shapes[0], attrs["padding"], attrs["mode"]
    axes = len(padding) // 2
    rank = len(shape) + 1
    if mode == "constant":
        if axes == rank and padding[-2:] == (0, 0):  # the batch's own pair says nothing
            padding = padding[:-2]
            attrs = {**attrs, "padding": padding}
            axes -= 1
    else:
        if attrs["value"] != 0:
            raise ArgumentError(f"mode {mode!r} takes no value, got {attrs['value']}")
        if axes not in (1, 2, 3) or rank not in (axes + 1, axes + 2):
            raise ArgumentError(
                f"mode {mode!r} pads the last 1, 2 or 3 axes of a batched input of one or two axes "
                f"more; got {axes} pairs and {rank} axes"
            )
        if mode != "circular" and 0 in shape:
            raise ShapeError(f"mode {mode!r} needs a non-empty input, got {shape}")
    if axes > len(shape):
        raise ArgumentError(f"padding has {axes} pairs, the input {shape} has {len(shape)} axes besides the batch")
    out = list(shape)
    for i in range(axes):
        out[-1 - i] = _padded(shape[-1 - i], padding[2 * i], padding[2 * i + 1], mode)
    if mode in ("reflect", "replicate") and not any(out[-axes:]):
        raise ShapeError(f"mode {mode!r} with padding {padding} leaves nothing of {shape}")
    return tuple(out), attrs


def _padded(size: int, before: int, after: int, mode: str) -> int:
    """Return the padded size of one axis."""
    kept = size + min(before, 0) + min(after, 0)
    total = size + before + after
    if mode == "constant":
        allowed = kept >= 0
    elif mode == "replicate":
        allowed = total >= 0
    elif mode == "reflect":
        allowed = total >= 0 and before < size and after < size
    else:
        # PyTorch crops, then wraps; wrapping more than was kept it reads memory never written.
        allowed = kept >= 0 and before <= kept and after <= kept
    if not allowed:
        raise ShapeError(f"mode {mode!r} cannot pad an axis of {size} by ({before}, {after})")
    return total


def _flatten(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    shape = shapes[0]
    rank = len(shape) + 1
    start, end = (axis(name, attrs[name], rank) for name in ("start_dim", "end_dim"))
    if start > end:
        raise ArgumentError(f"start_dim={start} comes after end_dim={end}")
    out = (*shape[: start - 1], prod(shape[start - 1 : end]), *shape[end:])
    return out, {**attrs, "start_dim": start, "end_dim": end}


def _reshape(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    shape, target = shapes[0], attrs["shape"]
    total, unknown = prod(shape), target.count(-1)
    if unknown > 1 or any(size < -1 for size in target):
        raise ArgumentError(f"shape must hold sizes and at most one -1, got {shown(target)}")
    known = prod(size for size in target if size != -1)
    if unknown and known and total % known == 0:
        target = tuple(total // known if size == -1 else size for size in target)
    elif unknown or known != total:
        raise ShapeError(f"cannot reshape {shape} ({total} elements) to {shown(target)}")
    return target, {**attrs, "shape": target}


def _permute(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """As in PyTorch, `dims` counts the batch, which stays first."""
    shape, rank = shapes[0], len(shapes[0]) + 1
    dims = tuple(dim + rank if dim < 0 else dim for dim in attrs["dims"])
    if sorted(dims) != list(range(rank)) or dims[0] != 0:
        raise ArgumentError(
            f"dims must hold every axis of the batched input once, 0..{rank - 1}, the batch first, "
            f"got {shown(attrs['dims'])}"
        )
    return tuple(shape[dim - 1] for dim in dims[1:]), {**attrs, "dims": dims}


def _slice(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Indices start, start + step ... before end, as Python's slices; None and out of range are cut off."""
    shape = shapes[0]
    dim = axis("dim", attrs["dim"], len(shape) + 1)
    if attrs["step"] < 1:
        raise ArgumentError(f"step must be at least 1, got {attrs['step']}")
    start, end, step = slice(attrs["start"], attrs["end"], attrs["step"]).indices(shape[dim - 1])
    size = len(range(start, end, step))
    settled = {"dim": dim, "start": start, "end": end, "step": step}
    return (*shape[: dim - 1], size, *shape[dim:]), settled


def _constant(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """`value` for every image, whatever the input is: it says how many there are."""
    return weights["value"].shape, attrs


def _cat(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    first = shapes[0]
    dim = axis("dim", attrs["dim"], len(first) + 1)
    before, after = first[: dim - 1], first[dim:]
    for shape in shapes:
        if len(shape) != len(first) or shape[: dim - 1] != before or shape[dim:] != after:
            raise ShapeError(f"inputs must agree on every axis but dim={dim}, got {first} and {shape}")
    return (*before, sum(shape[dim - 1] for shape in shapes), *after), {**attrs, "dim": dim}


def _flip(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """The indices of some axes backwards."""
    rank = len(shapes[0]) + 1
    dims = tuple(sorted(axis("dims", dim, rank) for dim in attrs["dims"]))
    if len(set(dims)) != len(dims):
        raise ArgumentError(f"dims must name every axis once, got {shown(attrs['dims'])}")
    return shapes[0], {**attrs, "dims": dims}


def _expand(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Axes of one index get more, all alike; -1 stays as it is."""
    shape, target = shapes[0], attrs["shape"]
    if len(target) != len(shape) or any(
        new not in (-1, size) and (size != 1 or new < 0) for new, size in zip(target, shape, strict=True)
    ):
        raise ShapeError(f"cannot expand {shape} to {shown(target)}: sizes stay, or become another from 1; -1 stays")
    return tuple(size if new == -1 else new for new, size in zip(target, shape, strict=True)), attrs


def _index_select(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Some indices of an axis, in any order, which may be negative as in Python."""
    shape = shapes[0]
    dim = axis("dim", attrs["dim"], len(shape) + 1)
    size = shape[dim - 1]
    for index in attrs["index"]:
        if not -size <= index < size:
            raise ArgumentError(f"index {index} is none of the axis {dim} of {shape}, {-size}..{size - 1}")
    settled = tuple(index + size if index < 0 else index for index in attrs["index"])
    return (*shape[: dim - 1], len(settled), *shape[dim:]), {"dim": dim, "index": settled}


_MANY = 2**31  # inputs

SPECS = {
    "pad": OpSpec(
        _pad,
        {
            "padding": (REQUIRED, pad_widths),
            "mode": ("constant", pad_mode),
            "value": (0.0, pad_value),
        },
    ),
    "flatten": OpSpec(_flatten, {"start_dim": (1, integer), "end_dim": (-1, integer)}),
    "reshape": OpSpec(_reshape, {"shape": (REQUIRED, integers)}),
    "permute": OpSpec(_permute, {"dims": (REQUIRED, integers)}),
    "slice": OpSpec(
        _slice,
        {"dim": (1, integer), "start": (0, optional_integer), "end": (None, optional_integer), "step": (1, integer)},
    ),
    "cat": OpSpec(_cat, {"dim": (1, integer)}, arity=(1, _MANY)),
    "constant": OpSpec(_constant, required={"value": ANY_RANK}),
    "identity": OpSpec(same_shape),
    "dropout": OpSpec(same_shape, {"p": (0.5, probability)}),
    "flip": OpSpec(_flip, {"dims": (REQUIRED, integers)}),
    "expand": OpSpec(_expand, {"shape": (REQUIRED, integers)}),
    "index_select": OpSpec(_index_select, {"dim": (REQUIRED, integer), "index": (REQUIRED, integers)}),
}
