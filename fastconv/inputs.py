"""The arguments of a model with several inputs; loaded with its first call, or with one that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, ShapeError
from .graph.attributes import shown
from .graph.inputs import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    Shape = tuple[int, ...]

__all__ = ["in_order", "of_one_batch"]


def in_order(given: tuple[Any, ...], inputs: Mapping[str, Shape]) -> list[Any]:
    """Return one value for each input: of one argument each, or of a mapping by name.

    Raises
    ------
    ArgumentError
        There are more arguments or fewer, a name that no input has, or one that is missing.
    """
    needs = f"the network has {len(inputs)} input{'s' * (len(inputs) > 1)}, {listed(inputs)}"
    if len(given) == 1 and isinstance(given[0], Mapping):
        values = given[0]
        for name in values:
            if name not in inputs:
                raise ArgumentError(f"input {shown(name)}: there is none of that name; {needs}")
        missing = [name for name in inputs if name not in values]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise ArgumentError(f"input {listed(missing)} {verb} missing; {needs}")
        return [values[name] for name in inputs]
    if len(given) != len(inputs):
        raise ArgumentError(
            f"got {len(given)} argument{'s' * (len(given) > 1)}; {needs}; pass one argument for each, in this order, "
            "or a dict by name"
        )
    return list(given)


def of_one_batch(inputs: Mapping[str, Shape], batches: Sequence[np.ndarray], single: Sequence[bool]) -> bool:
    """Tell whether one image was given for each input; refuse batches that differ."""
    sizes = [None if one else len(batch) for batch, one in zip(batches, single, strict=True)]
    if len(set(sizes)) > 1:
        got = [
            f"{shown(name)} one image" if size is None else f"{shown(name)} a batch of {size}"
            for name, size in zip(inputs, sizes, strict=True)
        ]
        raise ShapeError(f"inputs need batches of the same size, or one image each; got {', '.join(got)}")
    return all(single)
