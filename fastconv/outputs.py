"""Several outputs, by place and by name; loaded with a model that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex

    from numpy.typing import NDArray

__all__ = ["Outputs"]

_Default = TypeVar("_Default")


class Outputs(tuple["NDArray[Any]", ...]):
    """What a model with several outputs returns: a tuple of arrays, which have names as well.

    ``y[0]`` and ``y["out"]`` are the same array; ``dict(y)`` maps names to arrays.

    Parameters
    ----------
    arrays
        One for each output.
    names
        As many, all different.
    """

    _names: tuple[str, ...]

    def __new__(cls, arrays: Iterable[NDArray[Any]], names: Sequence[str]) -> Outputs:
        self = super().__new__(cls, arrays)
        self._names = tuple(names)
        if len(self) != len(self._names):
            raise ValueError(f"{len(self)} arrays and {len(self._names)} names")
        return self

    def keys(self) -> tuple[str, ...]:
        """Return the names, in the order of the arrays."""
        return self._names

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Return pairs of a name and its array."""
        return zip(self._names, self, strict=True)

    def as_dict(self) -> dict[str, NDArray[Any]]:
        """Return name -> array."""
        return dict(self.items())

    def get(self, name: str, default: _Default | None = None) -> NDArray[Any] | _Default | None:
        """Return the array of a name, or `default` where there is no such output."""
        return self[name] if name in self._names else default

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[NDArray[Any], ...]: ...
    def __getitem__(self, key: Any) -> Any:
        """Return an array by its name or its place, or a plain tuple of several by a slice."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self._names:
            raise KeyError(f"there is no output {key!r:.80}; there is {', '.join(map(repr, self._names))}")
        return super().__getitem__(self._names.index(key))

    def __contains__(self, key: object) -> bool:
        """Tell whether an output has that name; arrays are compared by identity."""
        return key in self._names if isinstance(key, str) else any(array is key for array in self)

    def __repr__(self) -> str:
        arrays = (f"{name}={np.array_repr(array)}" for name, array in self.items())
        return f"Outputs({', '.join(arrays)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Outputs, (tuple(self), self._names)
