"""Networks as people write them in PyTorch, through `from_torch`, against PyTorch in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from checks import assert_close

import fastconv

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

Shape = tuple[int, int, int]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


class LeNet5(nn.Module):
    """At 32x32: 16 maps of 5x5, 400 features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 400)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def cifar_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class Block(nn.Module):
    """ResNet's: two 3x3 convolutions and a shortcut, a 1x1 one where the shape changes."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or into != out:
            down = nn.Conv2d(into, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(down, nn.BatchNorm2d(out))

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Block(16, 16, 1),
        Block(16, 24, 2),
        Block(24, 24, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 13),
    )


class Inverted(nn.Module):
    """MobileNetV2's: widen by 1x1, a depthwise 3x3, narrow by 1x1, and a shortcut where it fits."""

    def __init__(self, into: int, out: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = into * widen
        self.body = nn.Sequential(
            nn.Conv2d(into, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = stride == 1 and into == out

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        return x + y if self.shortcut else y


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU6(),
        Inverted(12, 12, 1, 4),
        Inverted(12, 20, 2, 6),
        Inverted(20, 20, 1, 6),
        nn.Conv2d(20, 70, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(70, 11),
    )


class Inception(nn.Module):
    """Branches of different kernels, concatenated; a dense connection; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 9, 3, stride=2)
        self.one = nn.Conv2d(9, 7, 1)
        self.three = nn.Conv2d(9, 8, (1, 3), padding=(0, 1))
        self.five = nn.Conv2d(9, 5, 5, padding="same", dilation=2)
        self.pooled = nn.Conv2d(9, 4, 1)
        self.head = nn.Conv2d(33, 6, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Any) -> Any:
        x = F.leaky_relu(self.stem(x), 0.2)
        pooled = self.pooled(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        branches = torch.cat([self.one(x), F.relu(self.three(x)), self.five(x), pooled, x], 1)
        maps = torch.tanh(self.head(branches))
        return maps.softmax(1), maps.mean((2, 3))


def segmentation() -> nn.Module:
    """Dilated, never shrunk to a vector: a map of classes comes out."""
    return nn.Sequential(
        nn.ZeroPad2d((1, 2, 0, 1)),
        nn.Conv2d(3, 18, 3, padding=1),
        nn.Hardtanh(-0.5, 2.0),
        nn.Conv2d(18, 18, 3, padding=2, dilation=2, groups=3),
        nn.Sigmoid(),
        nn.Conv2d(18, 34, 3, padding=4, dilation=4),
        nn.MaxPool2d(2, stride=1, padding=1, ceil_mode=True),
        nn.Conv2d(34, 5, 1),
        nn.LogSoftmax(dim=1),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "lenet5": (LeNet5, (1, 32, 32)),
    "cifar_conv": (cifar_conv, (3, 32, 32)),
    "resnet": (resnet, (3, 64, 61)),
    "mobilenet": (mobilenet, (3, 40, 40)),
    "inception": (Inception, (3, 27, 33)),
    "segmentation": (segmentation, (3, 22, 19)),
}


def trained(module: nn.Module) -> nn.Module:
    """Give batch norms statistics and scales as after training, in evaluation mode."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
    return module.eval()


def truth(module: nn.Module, x: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = copy.deepcopy(module).double()(torch.from_numpy(x).double())
    return [y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,))]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_torch(name: str, threads: int) -> None:
    build, shape = NETWORKS[name]
    module = trained(build())
    model = fastconv.from_torch(module, shape, threads=threads)
    x = np.random.default_rng(0).standard_normal((9, *shape)).astype(np.float32)
    for count in (1, 2, 9):
        outputs = model(x[:count])
        actual = outputs if isinstance(outputs, tuple) else (outputs,)
        for one, expected in zip(actual, truth(module, x[:count]), strict=True):
            assert_close(one, expected, 1e-5)


def test_the_shapes_are_those_of_the_architectures() -> None:
    lenet5 = fastconv.from_torch(LeNet5(), (1, 32, 32))
    assert lenet5.output_shapes == ((10,),)
    conv = fastconv.from_torch(cifar_conv(), (3, 32, 32))
    assert conv.output_shapes == ((64, 8, 8),)
    assert conv(np.zeros((3, 32, 32), np.float32)).shape == (64, 8, 8)


def test_a_network_of_several_outputs_gives_a_tuple() -> None:
    model = fastconv.from_torch(Inception().eval(), (3, 27, 33))
    maps, means = model(np.zeros((2, 3, 27, 33), np.float32))
    assert (maps.shape, means.shape) == ((2, 6, 13, 16), (2, 6))
    maps, means = model(np.zeros((3, 27, 33), np.float32))
    assert (maps.shape, means.shape) == ((6, 13, 16), (6,))


@pytest.mark.parametrize("name", NETWORKS)
def test_saving_keeps_the_bits(name: str, tmp_path: Any) -> None:
    build, shape = NETWORKS[name]
    model = fastconv.from_torch(trained(build()), shape, threads=1)
    model.save(tmp_path / "net.npz")
    again = fastconv.load(tmp_path / "net.npz", threads=1)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    ours, loaded = model(x), again(x)
    if not isinstance(ours, tuple):
        ours, loaded = (ours,), (loaded,)
    for a, b in zip(ours, loaded, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
