"""The order of layers whose file keeps none, from their names, or from what each takes and gives."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from .state_dict import refusal

if TYPE_CHECKING:
    from .state_dict import Layer

__all__ = ["in_order"]

_MAX_PERMUTED = 6  # layers, for which 6! orders are tried


def in_order(layers: list[Layer]) -> list[Layer]:
    """Return layers in the order that their names show; refuse names that show none."""
    layers = sorted(layers, key=lambda layer: _numbered(layer.name))
    if len({_numbered(layer.name)[0::2] for layer in layers}) <= 1:
        return layers
    fitting: list[list[Layer]] = []
    if len(layers) <= _MAX_PERMUTED:
        fitting = [list(order) for order in permutations(layers) if all(map(_follows, order, order[1:]))]
    if len(fitting) != 1:
        raise refusal(
            f"the names {', '.join(repr(layer.name) for layer in layers)} do not show the order of the layers, "
            "and the file keeps none"
        )
    return fitting[0]


def _numbered(name: str) -> tuple[str | int, ...]:
    """Split a name into words and numbers, in turn, the first a word: ``conv10`` comes after ``conv9``."""
    parts: list[str | int] = [""]
    for letter in name:
        last = parts[-1]
        if letter.isdecimal():
            if isinstance(last, str):
                parts.append(int(letter))
            else:
                parts[-1] = 10 * last + int(letter)
        elif isinstance(last, str):
            parts[-1] = last + letter
        else:
            parts.append(letter)
    return tuple(parts)


def _follows(before: Layer, layer: Layer) -> bool:
    """Tell whether a layer takes as many channels as the one before it gives."""
    return layer.shape[1] == before.shape[0]
