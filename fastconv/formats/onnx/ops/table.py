"""The tables in which a family of operators collects its entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Fold", "Folds", "Functions"]

Function = TypeVar("Function", bound=Callable[..., Any])


class Functions(dict[str, Callable[..., Any]]):
    """ONNX operator -> ``(reader, *inputs, **attributes) -> Value``, or a tuple of what its outputs are.

    Inputs are a Value, an array, or None where they are left out; attributes have ONNX's names, and its
    defaults where it has some. An input of a newer opset that was an attribute before has the name of
    both.

    Attributes
    ----------
    sized : set of str
        Those which take constants that depend on the size of the batch.
    integers : set of str
        Those which take integers from the network.
    mixed : set of str
        Those whose first input may be a constant, where another is none.
    means : dict of str to tuple of str
        The Graph's operators that one means which adds no node itself: axes are kept in mind until a node needs them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sized: set[str] = set()
        self.integers: set[str] = set()
        self.mixed: set[str] = set()
        self.means: dict[str, tuple[str, ...]] = {}

    def __call__(
        self,
        *names: str,
        sized: bool = False,
        integers: bool = False,
        mixed: bool = False,
        means: tuple[str, ...] = (),
    ) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            self.update(dict.fromkeys(names, function))
            self.means.update(dict.fromkeys(names, means))
            for flag, marked in ((sized, self.sized), (integers, self.integers), (mixed, self.mixed)):
                if flag:
                    marked.update(names)
            return function

        return register


class Fold(NamedTuple):
    """How an operator is computed of constants.

    Attributes
    ----------
    compute
        ``(reader, *arrays, **attributes) -> array``, or a tuple of them.
    moves
        Whether it only moves elements, so that what is the same for two sizes of the batch is so for all.
    """

    compute: Callable[..., Any]
    moves: bool = False


class Folds(dict[str, Fold]):
    """ONNX operator -> `Fold`."""

    def __call__(self, *names: str, moves: bool = False) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            self.update(dict.fromkeys(names, Fold(function, moves)))
            return function

        return register
