"""torchvision's classifiers, small: what `from_torch` makes of them, compiled, beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision_nets import ATTENTION, attention, models, randomised

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


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_equals_pytorch(name: str) -> None:
    """Windows and heads beside the batch, shifted windows with masks, relative positions."""
    import torch

    torch.manual_seed(0)
    net = attention(name)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = net(x).numpy()
    actual = fastconv.from_torch(net, (3, 32, 32))(x.numpy())
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max(), "the outputs depend on the image"
