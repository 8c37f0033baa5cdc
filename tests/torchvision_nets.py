"""torchvision's networks with random weights, with statistics that keep activations in range."""

from __future__ import annotations

from typing import Any

import pytest
from torchvision_import import import_torchvision


def models() -> Any:
    """Return ``torchvision.models``; skips the test where it is not installed."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # tests run side by side
    return import_torchvision().models


def randomised(net: Any, channels: int = 3) -> Any:
    """Randomise batch norms, measure their statistics on a batch of random images, and switch to ``eval()`` mode.

    With the statistics of a new network, activations would die away from layer to layer, and outputs would be biases.
    As in a trained network, what a residual block adds is small beside what it adds to: else rounding is amplified
    from block to block.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics of one batch
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(-0.3, 0.2, generator=generator)
        for block in net.modules():
            if hasattr(block, "downsample"):
                last = [module for module in block.children() if isinstance(module, torch.nn.BatchNorm2d)][-1]
                last.weight.mul_(0.3)
        net.train()(torch.randn(16, channels, 64, 64, generator=generator))
    return net.eval()


ATTENTION = {
    "vit": lambda m: m.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=48, mlp_dim=64, num_classes=10
    ),
    "swin": lambda m: m.SwinTransformer(
        patch_size=[4, 4], embed_dim=24, depths=[2, 2], num_heads=[3, 6], window_size=[3, 3], num_classes=10
    ),
    "maxvit": lambda m: m.MaxVit(
        input_size=(32, 32), stem_channels=16, partition_size=4, block_channels=[16, 32], block_layers=[1, 1],
        head_dim=8, stochastic_depth_prob=0.1, num_classes=10,
    ),
}  # fmt: skip


def attention(name: str) -> Any:
    """Return a small network of `ATTENTION` for images of 3x32x32, whose parameters all matter."""
    import torch

    net = ATTENTION[name](models()).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


RANDOM = {"weights": None, "weights_backbone": None}


def detector(name: str) -> Any:
    """Return what is convolutional in a detector: its backbone and, where it has no regions, its head too."""
    import torch

    net = models().get_model(name, num_classes=5, **RANDOM)
    if not hasattr(net, "head"):
        return net.backbone

    class Convolutional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = net.backbone, net.head

        def forward(self, x: torch.Tensor) -> Any:
            features = self.backbone(x)
            return {"features": features, **self.head(list(features.values()))}

    return Convolutional()
