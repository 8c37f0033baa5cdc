"""OpSpec: the row that every operator has in its family's table, and what families share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    import numpy as np

    from ..attributes import Normaliser

    Shape: TypeAlias = tuple[int, ...]
    Two: TypeAlias = tuple[int, int]
    Attributes: TypeAlias = Mapping[str, Any]
    Weights: TypeAlias = Mapping[str, np.ndarray]
    Settled: TypeAlias = tuple[Shape, Attributes]
    # What one output looks at: the kernel's reach, the stride, and how many (H, W) outputs there are.
    Window: TypeAlias = tuple[Sequence[int], Sequence[int], Sequence[int]]

__all__ = [
    "ANY_RANK",
    "REQUIRED",
    "Attributes",
    "FeatureMismatchError",
    "OpSpec",
    "Settled",
    "Shape",
    "Two",
    "Weights",
    "Window",
]

REQUIRED: Any = object()  # the default of an attribute that has none
ANY_RANK = -1  # of a weight


def no_macs(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> int:
    """Count nothing: only products with weights are counted."""
    return 0


def one_pixel(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """Look at one pixel, as whatever treats all of them alike does, or only gives them another shape."""
    return (1, 1), (1, 1), (out[1], out[2]) if len(out) == 3 else extent


class OpSpec:  # neither a dataclass nor a NamedTuple: making one of those takes a part of a millisecond
    """What an operator takes.

    Attributes
    ----------
    infer
        ``(input shapes, attributes, weights) -> (output shape, attributes)``. Shapes never include
        the batch axis, but attributes that name an axis (``dim``, ``start_dim``) count it, as
        PyTorch does. Attributes come from their normalisers; whatever depends on the shapes ('same'
        padding, negative axes, sizes given as -1 or None) is settled in those returned. Nothing
        given is changed. What is accepted and refused follows PyTorch 2.13. Messages do not name
        the node; Graph adds it.
    attributes
        Name -> (default, normaliser); the default is normalised already, or REQUIRED.
    required, optional
        The weights' roles -> their rank, or ANY_RANK.
    arity
        The least and the greatest number of inputs.
    macs
        ``(input shapes, settled attributes, weights) -> multiply-accumulates of one image``.
    field
        ``(settled attributes, weights, (H, W) of the input, output shape) -> Window``, from which
        receptive fields follow. Where the input is no image, (H, W) is that of the last image
        before it.
    """

    __slots__ = ("arity", "attributes", "field", "infer", "macs", "optional", "required")

    def __init__(
        self,
        infer: Callable[[Sequence[Shape], Attributes, Weights], Settled],
        attributes: Mapping[str, tuple[Any, Normaliser]] | None = None,
        *,
        required: Mapping[str, int] | None = None,
        optional: Mapping[str, int] | None = None,
        arity: Two = (1, 1),
        macs: Callable[[Sequence[Shape], Attributes, Weights], int] = no_macs,
        field: Callable[[Attributes, Weights, Two, Shape], Window] = one_pixel,
    ) -> None:
        self.infer = infer
        self.attributes = attributes or {}
        self.required = required or {}
        self.optional = optional or {}
        self.arity = arity
        self.macs = macs
        self.field = field


class FeatureMismatchError(ShapeError):
    """A linear layer's weight does not fit its input; Graph looks for the image size that would."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expects {expected} features, the input has {got}")
        self.expected = expected
        self.got = got


# --- what the families' inference shares ----------------------------------------------------------


def same_shape(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Any shape, unchanged."""
    return shapes[0], attrs


def image(shape: Shape) -> Shape:
    """Return `shape` if it is (C, H, W)."""
    if len(shape) != 3:
        raise ShapeError(f"needs an image (C, H, W), got shape {shape}")
    return shape


def axis(name: str, value: int, rank: int) -> int:
    """Return a non-negative axis of the batched tensor of `rank` axes; refuse the batch itself."""
    if not -rank <= value < rank:
        raise ArgumentError(f"{name}={value} is not an axis of the batched input, {-rank}..{rank - 1}")
    result = value + rank if value < 0 else value
    if result == 0:
        raise ArgumentError(f"{name}={value} is the batch axis; images of a batch are computed apart")
    return result


def check_vector(weights: Weights, role: str, size: int) -> None:
    """Check that a 1-d weight, where it is given, has `size` elements."""
    array = weights.get(role)
    if array is not None and array.shape[0] != size:
        raise ShapeError(f"{role} must have {size} elements, got {array.shape[0]}")


def check_residual(shapes: Sequence[Shape], out: Shape) -> None:
    """Check that a second input, which is added to the output, has its shape."""
    if len(shapes) == 2 and shapes[1] != out:
        raise ShapeError(f"the residual must have the output's shape {out}, got {shapes[1]}")
