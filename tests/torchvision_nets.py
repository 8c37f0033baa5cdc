"""torchvision's networks with random weights, and batch-norm statistics that keep activations in range."""

from __future__ import annotations

from typing import Any

import pytest


def models() -> Any:
    """Return ``torchvision.models``; skips the test where it is not installed."""
    torch = pytest.importorskip("torch")
    # torchvision registers shape functions for operators of its compiled library, which does not load
    # beside another torch than the one it was built with; none is used here.
    register_fake = torch.library.register_fake

    def tolerant(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    torch.library.register_fake = tolerant
    try:
        return pytest.importorskip("torchvision").models
    finally:
        torch.library.register_fake = register_fake


def randomised(net: Any) -> Any:
    """Put a network into ``eval()`` mode and randomise what a new batch norm has ones and zeros in."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean = torch.randn(shape, generator=generator) * 0.1
            module.running_var = torch.rand(shape, generator=generator) + 0.5
            with torch.no_grad():
                module.weight.copy_(torch.rand(shape, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(shape, generator=generator) * 0.1)
    return net.eval()
