"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph import INPUT
from .plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["plan"]


def plan(blocks: Sequence[int], batch_norm: bool) -> Plan:
    """Return a network of blocks, each of so many 3x3 convolutions and a max-pooling, as in torchvision.

    Parameters
    ----------
    blocks
    batch_norm
        Behind every convolution.
    """
    net = Plan()
    x, number = INPUT, 0

    def name() -> str:
        nonlocal number
        number += 1
        return f"features.{number - 1}"

    for convolutions in blocks:
        for _ in range(convolutions):
            x = net.conv(name(), x, 3, bias=True)
            if batch_norm:
                x = net.node(name(), "batch_norm", x)
            x = net.node(name(), "relu", x)
        x = net.node(name(), "max_pool2d", x, kernel_size=2, stride=2)
    x = net.node("avgpool", "adaptive_avg_pool2d", x, output_size=7)
    x = net.node("flatten", "flatten", x)
    for layer in (0, 3):
        x = net.node(f"classifier.{layer}", "linear", x)
        x = net.node(f"classifier.{layer + 1}", "relu", x)
        x = net.node(f"classifier.{layer + 2}", "dropout", x)
    net.node("classifier.6", "linear", x)
    return net
