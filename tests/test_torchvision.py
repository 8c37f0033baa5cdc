"""torchvision's classifiers, small: what `from_torch` makes of them, compiled, beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision_nets import models, randomised

import fastconv

NAMES = [
    "convnext_tiny",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "shufflenet_v2_x0_5",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_equals_pytorch(name: str) -> None:
    import torch

    torch.manual_seed(0)
    net = randomised(models().get_model(name, weights=None, num_classes=10))
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = net(x).numpy()
    actual = fastconv.from_torch(net, (3, 64, 64))(x.numpy())
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (actual.argmax(1) == expected.argmax(1)).all()
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max(), "the outputs depend on the image"


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


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_equals_pytorch(name: str) -> None:
    """Windows and heads beside the batch, shifted windows with masks, relative positions."""
    import torch

    torch.manual_seed(0)
    net = ATTENTION[name](models()).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = net(x).numpy()
    actual = fastconv.from_torch(net, (3, 32, 32))(x.numpy())
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max(), "the outputs depend on the image"
