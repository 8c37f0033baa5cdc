"""The networks that the benchmarks run, and the suites of cases made of them.

Nothing here imports torch at module level: ``peers.py`` sets the environment variables that hold
engines to an instruction set, and they count only if they are set before torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn

SEED = 20
STATISTICS_SIZE = (96, 96)
"""Of the images that batch norms measure their statistics on."""
LENET_WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "lenet.npz"


@dataclass(frozen=True)
class Network:
    """A network by name: what it is called in a table, what it takes, how it is built."""

    title: str
    input_shape: tuple[int, int, int]
    """(C, H, W) of one image."""
    build: Callable[[], nn.Module]


@dataclass(frozen=True)
class Case:
    """One row of the table: a network, a batch, a thread count and the ratio it must reach."""

    network: str
    batch: int
    threads: int
    target: float | None = None

    @property
    def name(self) -> str:
        """A name such as ``lenet b=32 t=1``."""
        return f"{self.network} b={self.batch} t={self.threads}"


def _lenet(features: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(features, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def lenet() -> nn.Module:
    """The classic LeNet at 28x28, with the trained weights of ``models/lenet.npz`` if present."""
    import torch

    net = _lenet(256)
    if LENET_WEIGHTS.exists():
        with np.load(LENET_WEIGHTS) as arrays:
            values = [torch.from_numpy(arrays[key]) for key in arrays.files]
        # The file's names follow the module it was trained as; its order is this network's.
        net.load_state_dict(dict(zip(net.state_dict(), values, strict=True)))
    return net


def lenet5() -> nn.Module:
    """LeNet-5 at 32x32: the same layers on 400 features."""
    return _lenet(400)


def cifar_conv() -> nn.Module:
    """conv(3→32) · ReLU · pool · conv(32→64) · ReLU · pool; the output is a 64x8x8 map."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def _randomise_batch_norm(net: nn.Module) -> None:
    """Give every batch norm statistics of its own, so that folding it wrongly shows."""
    import torch

    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)


def cifar_vgg() -> nn.Module:
    """Three VGG blocks of two conv · batch norm · ReLU at 16, 32, 64 channels, then a classifier."""
    from torch import nn

    layers: list[nn.Module] = []
    before = 3
    for channels in (16, 32, 64):
        for _ in range(2):
            layers.append(nn.Conv2d(before, channels, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 10))
    _randomise_batch_norm(net)
    return net


def cifar_allconv() -> nn.Module:
    """All-convolutional: strides in place of pooling, a 1x1 classifier, a global average."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _settle_statistics(net: nn.Module) -> None:
    """Give an untrained network parameters that all matter, and activations that stay in range.

    What a new network has as a constant (the scales of a batch norm, 1; ConvNeXt's, 1e-6) would hide what is done with
    it, and with the statistics of a new network activations die away or grow from layer to layer, and rounding with
    them: engines could not be compared. Batch norms measure their statistics on a batch of random images. Their shift
    is above zero, so that rounding does not grow with the depth.
    """
    import torch

    norms = [module for module in net.eval().modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.min() == parameter.max():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for norm in norms:
            norm.train().momentum = 1.0  # the statistics of one batch
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.5, 0.2)
        if norms:
            net(torch.rand(8, 3, *STATISTICS_SIZE))
    net.eval()


def _import_torchvision() -> Any:
    """Return ``torchvision.models``.

    torchvision registers shape functions for operators of its compiled library, which does not load beside another
    torch than the one it was built with; none is used here.
    """
    import torch

    register_fake = torch.library.register_fake

    def tolerant(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    torch.library.register_fake = tolerant
    try:
        from torchvision import models
    except ImportError as error:
        raise SystemExit("error: needs torchvision: pip install --no-deps torchvision==0.28.0") from error
    finally:
        torch.library.register_fake = register_fake
    return models


def _torchvision(name: str, title: str, **options: bool) -> Network:
    """Return torchvision's network ``name`` with random weights, for images of 224x224."""

    def build() -> nn.Module:
        net: nn.Module = getattr(_import_torchvision(), name)(weights=None, **options)
        _settle_statistics(net)
        return net

    return Network(f"{title} 224x224", (3, 224, 224), build)


NETWORKS = {
    "lenet": Network("LeNet 28x28", (1, 28, 28), lenet),
    "lenet5": Network("LeNet-5 32x32", (1, 32, 32), lenet5),
    "cifar_conv": Network("conv 3→32 · pool · conv 32→64 · pool, 32x32", (3, 32, 32), cifar_conv),
    "cifar_vgg": Network("VGG-style 16-32-64, 32x32", (3, 32, 32), cifar_vgg),
    "cifar_allconv": Network("All-conv 16-32-64-64, 32x32", (3, 32, 32), cifar_allconv),
    "mobilenet_v2": _torchvision("mobilenet_v2", "MobileNetV2"),
    "resnet18": _torchvision("resnet18", "ResNet-18"),
    "resnet50": _torchvision("resnet50", "ResNet-50"),
    "vgg16": _torchvision("vgg16", "VGG-16"),
    "squeezenet1_1": _torchvision("squeezenet1_1", "SqueezeNet 1.1"),
    "densenet121": _torchvision("densenet121", "DenseNet-121"),
    # Its heads for training would not run; its own initialisation takes seconds.
    "googlenet": _torchvision("googlenet", "GoogLeNet", aux_logits=False, init_weights=False),
    "resnext50_32x4d": _torchvision("resnext50_32x4d", "ResNeXt-50 32x4d"),
    "mnasnet1_0": _torchvision("mnasnet1_0", "MNASNet 1.0"),
    "efficientnet_b0": _torchvision("efficientnet_b0", "EfficientNet-B0"),
    "shufflenet_v2_x1_0": _torchvision("shufflenet_v2_x1_0", "ShuffleNetV2 1.0"),
    "mobilenet_v3_small": _torchvision("mobilenet_v3_small", "MobileNetV3 small"),
    "regnet_y_400mf": _torchvision("regnet_y_400mf", "RegNetY-400MF"),
    "convnext_tiny": _torchvision("convnext_tiny", "ConvNeXt-Tiny"),
}

SUITES = {
    "small": (
        Case("lenet", 1, 1, 2.5),
        Case("lenet", 8, 1, 1.6),
        Case("lenet", 32, 1, 1.65),
        Case("lenet", 256, 1, 1.5),
        Case("lenet", 256, 2, 1.7),
        Case("cifar_conv", 1, 1, 1.9),
        Case("cifar_conv", 32, 1, 1.7),
        Case("cifar_conv", 32, 2, 1.5),
        Case("lenet5", 1, 1, 1.5),
        Case("cifar_vgg", 1, 1, 1.5),
        Case("cifar_allconv", 1, 1, 1.5),
    ),
    "zoo": (
        Case("mobilenet_v2", 1, 1, 1.3),
        Case("mobilenet_v2", 1, 2, 1.3),
        Case("mobilenet_v2", 16, 2, 1.4),
        Case("resnet18", 1, 1, 1.35),
        Case("resnet18", 1, 2, 1.35),
        Case("resnet18", 16, 2, 1.7),
        Case("resnet50", 1, 1, 1.3),
        Case("resnet50", 1, 2, 1.3),
        Case("resnet50", 16, 2, 1.4),
        Case("vgg16", 1, 1, 1.6),
        Case("vgg16", 1, 2, 1.5),
        Case("squeezenet1_1", 1, 1, 1.25),
        Case("densenet121", 1, 1, 1.25),
        Case("googlenet", 1, 1, 1.25),
        Case("resnext50_32x4d", 1, 1, 1.25),
        Case("mnasnet1_0", 1, 1, 1.25),
        Case("efficientnet_b0", 1, 1, 1.25),
        Case("shufflenet_v2_x1_0", 1, 1, 1.25),
        Case("mobilenet_v3_small", 1, 1, 1.25),
        Case("regnet_y_400mf", 1, 1, 1.25),
        Case("convnext_tiny", 1, 1, 1.25),
    ),
}


def build(name: str) -> nn.Module:
    """Return network ``name`` in evaluation mode, the same weights on every call."""
    import torch

    torch.manual_seed(SEED)
    return NETWORKS[name].build().eval().requires_grad_(False)


def images(case: Case) -> npt.NDArray[np.float32]:
    """Return the input of ``case``: (N, C, H, W) float32 in 0..1, the same on every call."""
    shape = (case.batch, *NETWORKS[case.network].input_shape)
    return np.random.default_rng(SEED).random(shape, dtype=np.float32)
