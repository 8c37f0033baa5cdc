"""Preprocessing: how an image becomes a network's input, as data that travels with the network.

The names and their meaning are torchvision's: resize, crop the centre, scale the pixels, then ``(pixel - mean) / std``.
Imported only for networks that have any of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from . import Frozen
from . import attributes as at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ops.spec import Shape

__all__ = ["INTERPOLATIONS", "MAX_PIXELS", "SCALE", "Preprocessing"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""Pillow's filters by torchvision's names; "nearest" takes the pixel at the centre, ``"nearest-exact"`` of PyTorch."""

NOT_ANTIALIASED = ("nearest", "bilinear", "bicubic")
"""Those that exist without antialiasing as well."""

MAX_PIXELS = 2**27
"""No image is resized to more, which is 400 MB of RGB: a narrow one may grow without bound."""

SCALE = 1 / 255


class Preprocessing(Frozen):
    """What `Model.predict` does with an image before the network sees it, in this order.

    Parameters
    ----------
    resize_size
        An int: the shorter side becomes that long, and the longer ``int(resize_size * longer / shorter)``. Or (H, W).
        None: nothing is resized.
    crop_size
        (H, W), or an int for both, cut out of the centre; zeros are added around an image that is smaller. None:
        nothing is cropped.
    interpolation
        One of `INTERPOLATIONS`.
    antialias
        Whether a smaller image averages all pixels of the larger one. Pillow, and so torchvision on PIL images, always
        does. "nearest" never does.
    scale
        What a uint8 pixel is multiplied by; 1/255 brings it to 0..1, exactly as ``pixel / 255``.
    mean, std
        One number per channel, for ``(pixel * scale - mean) / std``. In a Graph, where only one is given, the other is
        0 or 1.

    Raises
    ------
    fastconv.errors.ArgumentError
        A value is not of the kind described; the message names the field.
    """

    __slots__ = ("antialias", "crop_size", "interpolation", "mean", "resize_size", "scale", "std")

    FIELDS = ("resize_size", "crop_size", "interpolation", "antialias", "scale", "mean", "std")
    DEFAULTS = (None, None, "bilinear", True, SCALE, None, None)

    resize_size: int | tuple[int, int] | None
    crop_size: tuple[int, int] | None
    interpolation: str
    antialias: bool
    scale: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def __init__(
        self,
        resize_size: int | Sequence[int] | None = None,
        crop_size: int | Sequence[int] | None = None,
        interpolation: str = "bilinear",
        antialias: bool = True,
        scale: float = SCALE,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "resize_size", None if resize_size is None else _size("resize_size", resize_size))
        put(self, "crop_size", None if crop_size is None else at.pair(1)("crop_size", crop_size))
        put(self, "interpolation", _interpolation(interpolation))
        put(self, "antialias", at.boolean("antialias", antialias))
        put(self, "scale", _positive("scale", scale))
        put(self, "mean", None if mean is None else _numbers("mean", mean))
        put(self, "std", None if std is None else _numbers("std", std))
        if not self.antialias and self.interpolation not in NOT_ANTIALIASED:
            raise ArgumentError(
                f"antialias must be True where interpolation is {self.interpolation!r}; without it there are "
                f"{', '.join(NOT_ANTIALIASED)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return Preprocessing, self._values()

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Preprocessing) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.FIELDS])

    def given(self) -> dict[str, Any]:
        """Return the fields that do not have their default."""
        every = zip(self.FIELDS, self._values(), self.DEFAULTS, strict=True)
        return {name: value for name, value, default in every if value != default}

    def replace(self, **changes: Any) -> Preprocessing:
        """Return a copy with the fields in `changes` replaced."""
        return Preprocessing(**{**dict(zip(self.FIELDS, self._values(), strict=True)), **changes})

    def __repr__(self) -> str:
        return f"Preprocessing({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def __str__(self) -> str:
        """Return it as one line, for tables."""
        parts = []
        if self.resize_size is not None:
            size = self.resize_size
            target = f"shorter side to {size}" if isinstance(size, int) else f"to {size[0]}x{size[1]}"
            parts.append(f"resize {target} ({self.interpolation}{'' if self.antialias else ', no antialias'})")
        if self.crop_size is not None:
            parts.append(f"center crop {self.crop_size[0]}x{self.crop_size[1]}")
        parts.append("scale 1/255" if self.scale == SCALE else f"scale {self.scale:g}")
        for name in ("mean", "std"):
            if (values := getattr(self, name)) is not None:
                parts.append(f"{name} {' '.join(f'{value:g}' for value in values)}")
        return ", ".join(parts)

    @property
    def factor(self) -> float | None:
        """`scale` where it is not the usual one, which divides by 255."""
        return None if self.scale == SCALE else self.scale

    # --- sizes ------------------------------------------------------------------------------------

    @property
    def changes_size(self) -> bool:
        """Whether images are resized or cropped at all."""
        return self.resize_size is not None or self.crop_size is not None

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that an image is resized to, by torchvision's formula."""
        size = self.resize_size
        if size is None:
            return height, width
        if not isinstance(size, int):
            return size
        longer = int(size * max(height, width) / min(height, width))
        return (longer, size) if width <= height else (size, longer)

    def keeps(self, input_shape: Shape) -> bool:
        """Tell whether an image of a network's own size is neither resized nor cropped."""
        return not self.changes_size or self.resized(*input_shape[1:]) == input_shape[1:]

    def settled(self, input_shape: Shape) -> Preprocessing:
        """Return it for a network's input, checked; a mean or std that is missing beside the other is 0 or 1."""
        channels = input_shape[0] if input_shape else 1
        for name in ("mean", "std"):
            if (values := getattr(self, name)) is not None and len(values) != channels:
                raise ArgumentError(f"{name} must have one number for each of {channels} channels, got {len(values)}")
        if self.changes_size:
            self._check_size(input_shape)
        if (self.mean is None) == (self.std is None):
            return self
        if self.mean is None:
            return self.replace(mean=(0.0,) * channels)
        return self.replace(std=(1.0,) * channels)

    def _check_size(self, input_shape: Shape) -> None:
        """Refuse to resize or crop to anything but the network's size."""
        name = "resize_size" if self.crop_size is None else "crop_size"
        size = getattr(self, name)
        if len(input_shape) != 3 or 0 in input_shape:
            raise ArgumentError(f"{name} is for images, (C, H, W); the network's input is {input_shape}; leave it out")
        if not isinstance(size, int) and size != input_shape[1:]:
            needed = "x".join(map(str, input_shape[1:]))
            raise ArgumentError(
                f"{name} gives {size[0]}x{size[1]} pixels (height x width), the network takes {needed}; "
                f"give the network that input_shape, or change {name}"
            )

    def at_size(self, old: Shape, new: Shape) -> Preprocessing:
        """Return it for another input size: what is cropped becomes that size, what is resized grows in proportion.

        The share of the resized image that the crop shows stays as it was, as timm's ``crop_pct`` does.
        """
        if len(old) != 3 or len(new) != 3 or 0 in old[1:] or old[1:] == new[1:]:
            return self
        sides = list(zip(new[1:], old[1:], strict=True))
        resize = self.resize_size
        if isinstance(resize, int):  # as the side that grows most, so that the crop finds pixels
            resize = max(1, *(resize * now // was for now, was in sides))
        elif resize is not None:
            height, width = (max(1, side * now // was) for side, (now, was) in zip(resize, sides, strict=True))
            resize = (height, width)
        return self.replace(resize_size=resize, crop_size=None if self.crop_size is None else new[1:])


def _size(name: str, value: Any) -> int | tuple[int, int]:
    """Return the length of the shorter side (an int, or a list of one as in torchvision), or a pair."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        height, width = at.pair(1)(name, value)
        size: int | tuple[int, int] = (height, width)
    else:
        single = isinstance(value, (tuple, list)) and len(value) == 1
        height = width = size = at.positive(name, value[0] if single else value)
    if height * width > MAX_PIXELS:
        raise ArgumentError(f"{name} must give at most {MAX_PIXELS} pixels, got {at.shown(value)}")
    return size


def _interpolation(value: Any) -> str:
    if not isinstance(value, str) or value not in INTERPOLATIONS:
        raise ArgumentError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {at.shown(value)}")
    return value


def _positive(name: str, value: Any) -> float:
    number = at.number(name, value)
    if isinstance(value, bool) or not (isfinite(number) and number > 0):
        raise ArgumentError(f"{name} must be finite and positive, got {at.shown(value)}")
    return number


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ArgumentError(f"{name} must be a list of numbers, got {at.shown(value)}")
    numbers = tuple([at.number(name, item) for item in value])
    if not all(isfinite(item) and (name == "mean" or item > 0) for item in numbers):
        kind = "finite" if name == "mean" else "finite and positive"
        raise ArgumentError(f"{name} must be {kind}, got {at.shown(numbers)}")
    return numbers
