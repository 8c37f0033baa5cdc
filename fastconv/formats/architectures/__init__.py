"""Networks that are known by name: weights in torchvision's key names -> Graph, without PyTorch.

plan       what a family writes down: layers and how they are connected, without weights; and plan + weights -> Graph
resnet     ResNet, ResNeXt, Wide ResNet        vgg        VGG, with batch norm and without        mobilenet  MobileNetV2

`ARCHITECTURES` has the names. Widths, groups and the number of classes follow from the weights, so that
a ResNet with other widths or other classes loads as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import ArgumentError
from ..state_dict import LENET, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...graph import Graph
    from ..state_dict import Source
    from .plan import Plan

__all__ = ["ARCHITECTURES", "matching", "plan_of", "read"]

_BASIC, _BOTTLENECK = "basic", "bottleneck"
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

# name: (its family's file, the arguments of that file's `plan`)
ARCHITECTURES: dict[str, tuple[str, tuple[object, ...]]] = {
    "resnet18": ("resnet", (_BASIC, (2, 2, 2, 2))),
    "resnet34": ("resnet", (_BASIC, (3, 4, 6, 3))),
    "resnet50": ("resnet", (_BOTTLENECK, (3, 4, 6, 3))),
    "resnet101": ("resnet", (_BOTTLENECK, (3, 4, 23, 3))),
    "resnet152": ("resnet", (_BOTTLENECK, (3, 8, 36, 3))),
    "resnext50_32x4d": ("resnet", (_BOTTLENECK, (3, 4, 6, 3))),
    "resnext101_32x8d": ("resnet", (_BOTTLENECK, (3, 4, 23, 3))),
    "resnext101_64x4d": ("resnet", (_BOTTLENECK, (3, 4, 23, 3))),
    "wide_resnet50_2": ("resnet", (_BOTTLENECK, (3, 4, 6, 3))),
    "wide_resnet101_2": ("resnet", (_BOTTLENECK, (3, 4, 23, 3))),
    **{f"vgg{depth}": ("vgg", (blocks, False)) for depth, blocks in _VGG.items()},
    **{f"vgg{depth}_bn": ("vgg", (blocks, True)) for depth, blocks in _VGG.items()},
    "mobilenet_v2": ("mobilenet", ()),
}


def read(source: Source, architecture: str, input_shape: Sequence[int] | None = None) -> Graph:
    """Build a network of `ARCHITECTURES` with the weights of a ``state_dict``.

    Parameters
    ----------
    source
        The weights, by torchvision's keys.
    architecture
        A key of `ARCHITECTURES`.
    input_shape
        (C, H, W) of one image; by default (3, 224, 224), with as many channels as the weights take.

    Raises
    ------
    ArgumentError
        There is no such architecture.
    ModelFormatError
        Keys are missing or unexpected; the message lists all of them.
    ShapeError
        A weight has not the shape that it needs in its place.
    """
    from .plan import build

    return build(plan_of(architecture), source, architecture, input_shape)


def plan_of(architecture: str) -> Plan:
    """Return the layers of an architecture."""
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ArgumentError(
            f"architecture must be one of {', '.join((LENET, *ARCHITECTURES))}, got {architecture!r:.80}; "
            "convert any other network with fastconv.from_torch"
        )
    family, arguments = ARCHITECTURES[architecture]
    plan: Plan = import_module(f".{family}", __name__).plan(*arguments)
    return plan


def matching(names: Iterable[str]) -> list[str]:
    """Return the architectures whose keys are exactly these, wrappers aside."""
    from .plan import relevant

    keys = relevant(unwrap(names))
    return [name for name in ARCHITECTURES if set(plan_of(name).keys()) == keys.keys()]
