"""Signals, (N, C, L): they are images of height 1, whose reshapes rewriting removes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reader import Reader
    from ..values import Value

__all__ = ["lifted", "over_signals"]


def lifted(unit: int, size: Any) -> Any:
    """Return an argument for (L,) as one for (1, L); what names no sizes, such as 'same', stays."""
    if isinstance(size, (list, tuple)):
        return (unit, *size) if size else size
    return (unit, size) if isinstance(size, int) else size


def over_signals(reader: Reader, read: Callable[..., Value], x: Any, *args: Any) -> Value:
    """Read a call of images, ``read(reader, image, *args)``, for one of signals."""
    y = read(reader, reader.apply(reader.builder.image, x), *args)
    return reader.apply(reader.builder.signal, y)
