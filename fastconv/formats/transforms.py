"""What was done to images in training or evaluation -> `Preprocessing`: torchvision's transforms, timm's data config.

Objects are known by their class's name and module, so neither library is imported. A chain of transforms is followed
step by step, with what a PIL image has become at that point: a PIL image still, a uint8 tensor, or a float one. What
cannot give the same pixels is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import floor, isfinite
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import ArgumentError
from ..graph.attributes import number, pair, shown
from ..graph.preprocessing import SCALE, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..graph import Graph

__all__ = ["class_names", "described", "preprocessing_from", "preprocessing_of"]

_REMEDY = (
    "transforms is what torchvision's weights.transforms() of a classifier returns, a Compose of Resize, CenterCrop, "
    "conversions to a tensor and Normalize, or timm.data.resolve_model_data_config(module)"
)
_CONTAINERS = {"Compose": "transforms", "Sequential": "children"}
_OTHER_NAMES = {
    0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming",  # Pillow's numbers
    "nearest-exact": "nearest",  # to Pillow they are the same
}  # fmt: skip
_TIMM_REQUIRED = ("input_size", "interpolation", "mean", "std", "crop_pct")
_TIMM_ONLY = {"input_size", "crop_pct"}
_TIMM_CROP_MODE = "crop_mode"  # timm before 0.9 has no such key, and means "center"

_FIELDS = ", ".join(Preprocessing.FIELDS)

PIL, UINT8, FLOAT = "a PIL image", "a uint8 tensor", "a float tensor"

_SAME_PIXELS = {UINT8: ("bilinear", "bicubic"), FLOAT: ("bilinear",)}
"""What torchvision resizes to the same pixels, to 1/255, as a PIL image; of floats, others leave the range 0..1."""


def described(graph: Graph, labels: Sequence[str] | None, mean: Any, std: Any, transforms: Any) -> Graph:
    """Return a network with names for its classes, and with what is done to an image, where these are given.

    Parameters
    ----------
    graph
    labels
        None leaves those that it has.
    mean, std, transforms
        As for `preprocessing_from`; all None leaves what it has.

    Raises
    ------
    ArgumentError
        They do not fit the network.
    """
    changes: dict[str, Any] = {}
    if labels is not None:
        changes["labels"] = class_names(labels)
    if not (mean is None and std is None and transforms is None):
        changes["preprocessing"] = preprocessing_from(mean, std, transforms, graph.inputs)
    return graph.replace(**changes) if changes else graph


def class_names(labels: Any) -> tuple[Any, ...]:
    """Return what was given for the names of classes as a tuple, for a Graph to check."""
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ArgumentError(f"labels must be a list of strings, one for each class, got {shown(labels)}")
    return tuple(labels)


def preprocessing_from(mean: Any, std: Any, transforms: Any, inputs: Mapping[str, tuple[int, ...]]) -> Preprocessing:
    """Return what is done to an image, from one of the two ways to say it, `mean` and `std` or `transforms`.

    inputs: name -> shape of each of the network's.
    """
    if len(inputs) != 1:
        raise ArgumentError(
            f"mean, std and transforms are for networks of one input, which predict takes; this one has {len(inputs)}; "
            "leave them out"
        )
    (shape,) = inputs.values()
    if transforms is None:
        return Preprocessing(mean=mean, std=std).settled(shape)
    if mean is not None or std is not None:
        raise ArgumentError("transforms and mean or std were given, which may contradict each other; leave one out")
    return preprocessing_of(transforms, shape).settled(shape)


def preprocessing_of(transforms: Any, input_shape: tuple[int, ...]) -> Preprocessing:
    """Return what `transforms` does to a PIL image.

    Parameters
    ----------
    transforms
        The object that torchvision's ``weights.transforms()`` returns (``ImageClassification``); a ``Compose`` or
        ``nn.Sequential`` of torchvision's transforms (v1 or v2), or one alone; timm's data config, a dict; a dict
        of fields of `Preprocessing`; or a `Preprocessing`, which is returned.
    input_shape
        Of the network; its channels are how many numbers a mean that is given once becomes.

    Raises
    ------
    ArgumentError
        It is something else, or holds a step that is not understood; the message names it.
    """
    if isinstance(transforms, Preprocessing):
        return transforms
    channels = input_shape[0] if input_shape else 1
    if isinstance(transforms, Mapping):
        if not transforms.keys() & _TIMM_ONLY:
            return _from_fields(transforms)
        return _from_timm(transforms, input_shape, channels)
    name = _name(transforms)
    if name == "ImageClassification":
        return _from_preset(transforms, channels)
    chain = _Chain(channels)
    for step in _steps(transforms):
        row = _STEPS.get(_name(step))
        if row is None:
            raise ArgumentError(f"transforms: {_shown(step)} is not supported; {_REMEDY}")
        row(chain, step)
    return chain.preprocessing()


def _name(thing: Any) -> str:
    """Return the class's name if it is one of torchvision's, PyTorch's or timm's; otherwise nothing that is known."""
    kind = type(thing)
    return kind.__name__ if kind.__module__.split(".")[0] in ("torchvision", "torch", "timm") else ""


def _shown(step: Any) -> str:
    """Return a step as one short line."""
    return " ".join(repr(step).split())[:100]


def _steps(transforms: Any) -> Iterator[Any]:
    """Yield the steps, with those of nested containers in their place."""
    attribute = _CONTAINERS.get(_name(transforms))
    if attribute is None:
        yield transforms
        return
    inside = getattr(transforms, attribute)
    for step in inside() if callable(inside) else inside:
        yield from _steps(step)


# --- the values of steps --------------------------------------------------------------------------


def _interpolation(value: Any) -> Any:
    """Return our name for torchvision's enum, its name or Pillow's number."""
    value = getattr(value, "value", value)
    return _OTHER_NAMES.get(value, value) if isinstance(value, (int, str)) else value


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    """Return a number, a list or a tensor of them as floats; torchvision broadcasts one over the channels."""
    try:
        numbers = tuple(np.asarray(values, np.float64).reshape(-1).tolist())
    except (TypeError, ValueError):
        raise ArgumentError(f"transforms: mean and std must be numbers, got {shown(values)}") from None
    return numbers * channels if len(numbers) == 1 else numbers


def _from_preset(preset: Any, channels: int) -> Preprocessing:
    """Read torchvision's preset, which takes PIL images: those are always antialiased."""
    return Preprocessing(
        resize_size=preset.resize_size,
        crop_size=preset.crop_size,
        interpolation=_interpolation(preset.interpolation),
        mean=_per_channel(preset.mean, channels),
        std=_per_channel(preset.std, channels),
    )


def _from_fields(given: Mapping[str, Any]) -> Preprocessing:
    """Read a dict such as `Preprocessing.given` returns, and ``fastconv info --json`` prints."""
    for key in given:
        if key not in Preprocessing.FIELDS:
            raise ArgumentError(
                f"transforms has the unknown key {shown(key)}; it takes {_FIELDS}, or the keys of timm's data config, "
                f"{', '.join(_TIMM_REQUIRED)}"
            )
    return Preprocessing(**given)


def _from_timm(config: Mapping[str, Any], input_shape: tuple[int, ...], channels: int) -> Preprocessing:
    """Read timm's data config, with the sizes of its ``transforms_imagenet_eval``."""
    for key in config:
        if key not in (*_TIMM_REQUIRED, _TIMM_CROP_MODE):
            raise ArgumentError(f"transforms: timm's data config has no key {shown(key)}; {_REMEDY}")
    for key in _TIMM_REQUIRED:
        if key not in config:
            raise ArgumentError(f"transforms: timm's data config needs the key {key!r}; {_REMEDY}")
    size = config["input_size"]
    if not isinstance(size, (tuple, list)) or tuple(size) != input_shape:
        raise ArgumentError(
            f"transforms: input_size is {shown(size)}, the network's input_shape {input_shape}; give both the same"
        )
    crop = pair(1)("transforms: input_size", size[1:])
    share = number("transforms: crop_pct", config["crop_pct"])
    if not (isfinite(share) and share > 0):
        raise ArgumentError(f"transforms: crop_pct must be finite and positive, got {share}")
    resize = (floor(crop[0] / share), floor(crop[1] / share))
    mode = config.get(_TIMM_CROP_MODE) or "center"
    if mode == "center" and resize[0] != resize[1]:
        raise ArgumentError(
            f"transforms: crop_mode 'center' is supported for square images, input_size is {shown(size)}; "
            "use crop_mode 'squash'"
        )
    if mode not in ("center", "squash"):
        raise ArgumentError(f"transforms: crop_mode must be 'center' or 'squash', got {shown(mode)}")
    return Preprocessing(
        resize_size=resize[0] if mode == "center" else resize,
        crop_size=crop,
        interpolation=config["interpolation"],
        mean=_per_channel(config["mean"], channels),
        std=_per_channel(config["std"], channels),
    )


# --- a chain of transforms ------------------------------------------------------------------------


class _Chain:
    """What the steps so far make of an image; each method is a step."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.image = PIL
        self.fields: dict[str, Any] = {}

    def preprocessing(self) -> Preprocessing:
        if self.image is not FLOAT:
            raise ArgumentError(
                f"transforms: the network would get {self.image}; add ToTensor(), or ToImage() and "
                "ToDtype(torch.float32, scale=True)"
            )
        return Preprocessing(**self.fields)

    def _refuse(self, step: Any, why: str) -> NoReturn:
        raise ArgumentError(f"transforms: {_shown(step)} {why}")

    def _once(self, step: Any, *before: str) -> None:
        """Refuse a step after one of its own kind, or one that has to come later."""
        for field in before:
            if field in self.fields:
                self._refuse(
                    step, "comes too late; supported is one Resize, one CenterCrop, one Normalize, in this order"
                )

    def resize(self, step: Any) -> None:
        self._once(step, "resize_size", "crop_size", "mean")
        if getattr(step, "max_size", None) is not None:
            self._refuse(step, "has max_size, which is not supported; leave it out")
        interpolation = _interpolation(step.interpolation)
        if interpolation not in _SAME_PIXELS.get(self.image, (interpolation,)):
            self._refuse(step, f"of {self.image} takes other pixels than of a PIL image; put Resize first")
        self.fields["resize_size"] = step.size
        self.fields["interpolation"] = interpolation
        self.fields["antialias"] = self.image is PIL or step.antialias is True

    def center_crop(self, step: Any) -> None:
        self._once(step, "crop_size", "mean")
        self.fields["crop_size"] = step.size

    def to_uint8_tensor(self, step: Any) -> None:
        if self.image is PIL:
            self.image = UINT8

    def to_float_tensor(self, step: Any) -> None:
        if self.image is not PIL:
            self._refuse(step, f"takes a PIL image, and gets {self.image}; leave it out")
        self.image = FLOAT

    def to_dtype(self, step: Any) -> None:
        """ToDtype scales where it is told to, ConvertImageDtype always."""
        dtype = str(step.dtype)
        if self.image is PIL:
            self._refuse(step, "does nothing to a PIL image; put ToImage() before")
        if dtype not in ("torch.float32", "torch.uint8") or (dtype == "torch.uint8" and self.image is FLOAT):
            self._refuse(step, f"makes {dtype} of {self.image}; use torch.float32")
        if dtype == "torch.float32" and self.image is UINT8:
            self.image = FLOAT
            self.fields["scale"] = SCALE if getattr(step, "scale", True) else 1.0

    def normalize(self, step: Any) -> None:
        self._once(step, "mean")
        if self.image is not FLOAT:
            self._refuse(step, f"takes a float tensor, and gets {self.image}; put ToTensor() before")
        self.fields["mean"] = _per_channel(step.mean, self.channels)
        self.fields["std"] = _per_channel(step.std, self.channels)

    def nothing(self, step: Any) -> None:
        pass


_STEPS: dict[str, Callable[[_Chain, Any], None]] = {
    "Resize": _Chain.resize,
    "CenterCrop": _Chain.center_crop,
    "PILToTensor": _Chain.to_uint8_tensor,
    "ToImage": _Chain.to_uint8_tensor,
    "ToTensor": _Chain.to_float_tensor,
    "MaybeToTensor": _Chain.to_float_tensor,  # timm's
    "ToDtype": _Chain.to_dtype,
    "ConvertImageDtype": _Chain.to_dtype,
    "Normalize": _Chain.normalize,
    "ToPureTensor": _Chain.nothing,
}
