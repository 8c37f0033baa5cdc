"""Signals, (N, C, L) or (C, L): images of height 1 to the functions of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, FastconvError, ShapeError
from .one_op import one_op

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from ..kernels._kernels import OneOp
    from .one_op import Array, Prepare

    Sizes: TypeAlias = Mapping[str, float | None]

__all__ = ["over_signals", "prepare_signals"]


def over_signals(
    function: str, of_images: str, prepare: Prepare, sizes: Sizes, names: tuple[str, ...] = ("input",)
) -> OneOp:
    """Make the compiled entry of a function of signals; as `prepare_signals`, and the names of the arrays."""
    return one_op(function, prepare_signals(function, of_images, prepare, sizes), names)


def prepare_signals(function: str, of_images: str, prepare: Prepare, sizes: Sizes) -> Prepare:
    """Make what prepares a function of signals from what prepares the one of images.

    Parameters
    ----------
    function, of_images
        The names of both.
    prepare
        As for `one_op`, of images.
    sizes
        Each attribute, in order -> what the height has where the attribute is a size along the signal, or None.
    """

    def prepare_lifted(
        arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int
    ) -> tuple[Callable[..., Any], int]:
        if arrays[0].ndim not in (2, 3):
            raise ShapeError(f"{function}: input must be (N, C, L) or (C, L), got shape {arrays[0].shape}")
        if len(arrays) > 1 and arrays[1].ndim != 3:
            raise ShapeError(f"{function}: weight must have 3 axes, got shape {arrays[1].shape}")
        attributes = tuple(
            value if unit is None else _lifted(function, name, value, unit)
            for (name, unit), value in zip(sizes.items(), values, strict=False)
        )
        try:
            run, nbytes = prepare(_images(arrays), attributes, threads)
        except FastconvError as error:
            raise type(error)(str(error).replace(of_images, function)) from None
        return lambda *given: _signals(run(*_images(given))), nbytes

    return prepare_lifted


def _images(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Give the input and the weight a height of 1; a bias stays."""
    return tuple(array[..., None, :] if at < 2 else array for at, array in enumerate(arrays))


def _signals(result: Any) -> Any:
    """Take the height away, of one array or of each."""
    if isinstance(result, tuple):
        return tuple(map(_signals, result))
    return result.reshape(*result.shape[:-2], result.shape[-1])


def _lifted(function: str, name: str, value: Any, unit: float) -> Any:
    """Return a size along the signal as one for (H, W); None and names stay."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (tuple, list)):
        if len(value) > 1:
            raise ArgumentError(f"{function}: {name} must be one number, got {value}")
        return (unit, *value) if value else value
    return unit, value
