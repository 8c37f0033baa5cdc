"""ResNet (He et al., "Deep Residual Learning for Image Recognition", 2015), as in torchvision.

The stride of a bottleneck is in its 3x3 convolution. ResNeXt and Wide ResNet are bottlenecks with other
widths and groups, which follow from the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph import INPUT
from .plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["plan"]

# The kernels of a block's convolutions, and the number of the one that has the stride and the groups.
_BLOCKS = {"basic": ((3, 3), 0), "bottleneck": ((1, 3, 1), 1)}


def plan(block: str, depths: Sequence[int]) -> Plan:
    """Return a network of four stages with so many blocks each.

    Parameters
    ----------
    block : {"basic", "bottleneck"}
    depths
    """
    net = Plan()
    x = net.node("bn1", "batch_norm", net.conv("conv1", INPUT, 7, stride=2))
    x = net.node("relu", "relu", x)
    x = net.node("maxpool", "max_pool2d", x, kernel_size=3, stride=2, padding=1)
    for stage, depth in enumerate(depths, 1):
        for index in range(depth):
            stride = 2 if index == 0 and stage > 1 else 1
            # A basic block widens where it strides; a bottleneck's first block always widens.
            widens = index == 0 and (stage > 1 or block == "bottleneck")
            x = _block(net, f"layer{stage}.{index}", x, block, stride, widens)
    x = net.node("avgpool", "adaptive_avg_pool2d", x, output_size=1)
    net.node("fc", "linear", net.node("flatten", "flatten", x))
    return net


def _block(net: Plan, path: str, x: str, block: str, stride: int, widens: bool) -> str:
    kernels, strided = _BLOCKS[block]
    y = x
    for number, kernel in enumerate(kernels):
        again = f"#{number}" if number > 1 else ""  # one ReLU module serves the whole block
        if number:
            y = net.node(f"{path}.relu{again}", "relu", y)
        here = number == strided
        grouped = here and block == "bottleneck"
        y = net.conv(f"{path}.conv{number + 1}", y, kernel, stride=stride if here else 1, grouped=grouped)
        y = net.node(f"{path}.bn{number + 1}", "batch_norm", y)
    if widens:
        x = net.conv(f"{path}.downsample.0", x, 1, stride=stride)
        x = net.node(f"{path}.downsample.1", "batch_norm", x)
    y = net.node(f"{path}.add", "add", y, x)
    return net.node(f"{path}.relu#{len(kernels)}", "relu", y)
