"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018)."""

from __future__ import annotations

from ...graph import INPUT
from .plan import Plan

__all__ = ["plan"]

# The paper's table 2: whether the block expands its channels first, the number of blocks, the stride of the first.
_STAGES = ((False, 1, 1), (True, 2, 2), (True, 3, 2), (True, 4, 2), (True, 3, 1), (True, 3, 2), (True, 1, 1))


def plan() -> Plan:
    """Return the network, as in torchvision; of any width."""
    net = Plan()
    x = _conv(net, "features.0", INPUT, 3, stride=2)
    number = 1
    for expands, blocks, stride in _STAGES:
        for index in range(blocks):
            x = _inverted_residual(net, f"features.{number}", x, expands, stride if index == 0 else 1)
            number += 1
    x = _conv(net, f"features.{number}", x, 1)
    x = net.node("adaptive_avg_pool2d", "adaptive_avg_pool2d", x, output_size=1)
    x = net.node("classifier.0", "dropout", net.node("flatten", "flatten", x), p=0.2)
    net.node("classifier.1", "linear", x)
    return net


def _conv(net: Plan, path: str, x: str, kernel: int, stride: int = 1, depthwise: bool = False) -> str:
    """Convolution, batch norm, ReLU6."""
    x = net.conv(f"{path}.0", x, kernel, stride=stride, grouped=depthwise)
    x = net.node(f"{path}.1", "batch_norm", x)
    return net.node(f"{path}.2", "hardtanh", x, min_val=0.0, max_val=6.0)


def _inverted_residual(net: Plan, path: str, x: str, expands: bool, stride: int) -> str:
    """1x1 where it expands, 3x3 depthwise, 1x1 without activation; the input is added where it has that shape."""
    y = x
    layer = 0
    if expands:
        y = _conv(net, f"{path}.conv.0", y, 1)
        layer = 1
    y = _conv(net, f"{path}.conv.{layer}", y, 3, stride, depthwise=True)
    y = net.conv(f"{path}.conv.{layer + 1}", y, 1)
    y = net.node(f"{path}.conv.{layer + 2}", "batch_norm", y)
    return net.residual(f"{path}.add", x, y) if stride == 1 else y
