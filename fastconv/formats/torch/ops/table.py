"""The table in which a family collects its ATen calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["Functions", "elementwise", "layer", "spatial"]

Function = TypeVar("Function", bound=Callable[..., Any])


class Functions(dict[str, Callable[..., Any]]):
    """ATen call, without ``aten.`` -> ``(reader, *args, **kwargs) -> Value``, or a tuple of what it gives.

    The arguments are the call's: a Value, a tensor where it is a constant, a number. In-place calls (``relu_``) come
    under the plain name. An output that is not computed, such as the indices of a pooling, is None.

    Attributes
    ----------
    integers : set of str
        Those whose first result may be of integers or truths, which are then whole numbers of the Graph's type.
    means : dict of str to tuple of str
        The operators that a call means which adds no node itself: its axes are kept in mind until a node needs them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.integers: set[str] = set()
        self.means: dict[str, tuple[str, ...]] = {}

    def __call__(
        self, *names: str, integers: bool = False, means: tuple[str, ...] = ()
    ) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            self.update(dict.fromkeys(names, function))
            self.means.update(dict.fromkeys(names, means))
            if integers:
                self.integers.update(names)
            return function

        return register


def layer(op: str, weights: tuple[str, ...] = (), attrs: tuple[str, ...] = ()) -> Callable[..., Value]:
    """Read a call that has a node of the same meaning, for a batch of images.

    Parameters
    ----------
    op
        The node's operator, which checks and completes the attributes.
    weights, attrs
        What the call's arguments after the input are.
    """

    def read(reader: Reader, x: Any, *args: Any, **kwargs: Any) -> Value:
        given = dict(zip((*weights, *attrs), args, strict=False))
        given |= {"padding" if key == "pad" else key: value for key, value in kwargs.items()}
        arrays = {role: given.pop(role, None) for role in weights}
        return reader.emit(op, x, weights=arrays, attrs=given)

    return read


def spatial(op: str, attrs: tuple[str, ...] = ()) -> Callable[..., Value]:
    """Read a call that has a node of the same meaning, and treats each channel of an image alone; see `layer`."""

    def read(reader: Reader, x: Any, *args: Any, **kwargs: Any) -> Value:
        return reader.spatial(op, x, count=2, attrs={**dict(zip(attrs, args, strict=False)), **kwargs})

    return read


def elementwise(op: str, attrs: tuple[str, ...] = ()) -> Callable[..., Value]:
    """Read a call that has a node of the same meaning, and treats all elements alike; see `layer`."""

    def read(reader: Reader, x: Any, *args: Any, **kwargs: Any) -> Value:
        return reader.along(op, x, attrs={**dict(zip(attrs, args, strict=False)), **kwargs})

    return read
