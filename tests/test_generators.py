"""Networks that make images, or boxes: from PyTorch, through ONNX and through a file, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

EXPORTERS = ("torchscript", "dynamo")


def dcgan() -> nn.Module:
    """Radford et al., "Unsupervised representation learning with deep convolutional GANs", 2015: the generator."""
    layers: list[Any] = []
    widths = (100, 64, 32, 16, 8)
    for into, out in pairwise(widths):
        stride, padding = (1, 0) if into == 100 else (2, 1)
        layers += [nn.ConvTranspose2d(into, out, 4, stride, padding, bias=False), nn.BatchNorm2d(out), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False), nn.Tanh())


class UNet(nn.Module):
    """Ronneberger et al., 2015, with transposed convolutions on the way up."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        self.down = nn.ModuleList(self._double(i, o) for i, o in pairwise((3, *widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for o, i in pairwise(widths))
        self.join = nn.ModuleList(self._double(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 2, 1)

    @staticmethod
    def _double(into: int, out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for index, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if index else x)
            skips.append(x)
        for up, join, skip in zip(self.up[::-1], self.join[::-1], skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


def espcn() -> nn.Module:
    """Shi et al., "Real-time single image and video super-resolution", 2016: pixels out of channels at the end."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(),
        nn.Conv2d(8, 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip


class StyleTransfer(nn.Module):
    """Johnson et al., 2016, as in PyTorch's examples: reflected borders, instance norms, nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(self._conv(3, 8, 9, 1), self._conv(8, 16, 3, 2))
        self.residuals = nn.ModuleList(
            nn.Sequential(self._conv(16, 16, 3, 1), *self._bare(16, 16, 3)) for _ in range(2)
        )
        self.grow = self._conv(16, 8, 3, 1)
        self.tail = nn.Sequential(nn.ReflectionPad2d(4), nn.Conv2d(8, 3, 9))

    @staticmethod
    def _bare(into: int, out: int, kernel: int, stride: int = 1) -> tuple[nn.Module, ...]:
        conv = nn.Conv2d(into, out, kernel, stride)
        return nn.ReflectionPad2d(kernel // 2), conv, nn.InstanceNorm2d(out, affine=True)

    def _conv(self, into: int, out: int, kernel: int, stride: int) -> nn.Module:
        return nn.Sequential(*self._bare(into, out, kernel, stride), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        for block in self.residuals:
            x = x + block(x)
        return self.tail(self.grow(F.interpolate(x, scale_factor=2, mode="nearest")))


class Conv(nn.Sequential):
    """A convolution as YOLO's have been since version 5."""

    def __init__(self, into: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out), nn.SiLU())


class Split(nn.Module):
    """Cross-stage partial connections: half of the channels go through blocks, whose results are all joined."""

    def __init__(self, into: int, out: int, count: int, shortcut: bool) -> None:
        super().__init__()
        half = out // 2
        self.first, self.last = Conv(into, out), Conv((2 + count) * half, out)
        self.blocks = nn.ModuleList(nn.Sequential(Conv(half, half, 3), Conv(half, half, 3)) for _ in range(count))
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]) + parts[-1] if self.shortcut else block(parts[-1]))
        return self.last(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    """SPPF: windows of 5, 9 and 13, by one of 5 three times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = Conv(width, width // 2), Conv(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class YOLO(nn.Module):
    """A detector as Ultralytics' eighth: two scales here; sides of boxes are expectations over `BINS` distances.

    (N, 3, H, W) -> (N, 4 + CLASSES, anchors): centre, width and height in pixels, and the probability of each class.
    """

    BINS, CLASSES = 8, 5

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 8, 3, 2), Conv(8, 16, 3, 2), Split(16, 16, 1, True), Conv(16, 32, 3, 2))
        self.middle = Split(32, 32, 2, True)
        self.deep = nn.Sequential(Conv(32, 64, 3, 2), Split(64, 64, 1, True), PyramidPool(64))
        self.up, self.join = nn.Upsample(scale_factor=2), Split(96, 32, 1, False)
        self.down, self.joined = Conv(32, 32, 3, 2), Split(96, 64, 1, False)
        self.boxes = nn.ModuleList(nn.Sequential(Conv(w, 16, 3), nn.Conv2d(16, 4 * self.BINS, 1)) for w in (32, 64))
        self.classes = nn.ModuleList(nn.Sequential(Conv(w, 16, 3), nn.Conv2d(16, self.CLASSES, 1)) for w in (32, 64))
        anchors, strides = [], []
        for stride in (8, 16):
            rows, columns = torch.meshgrid(*(torch.arange(s // stride) + 0.5 for s in size), indexing="ij")
            anchors.append(torch.stack([columns, rows]).flatten(1))
            strides.append(torch.full((1, rows.numel()), float(stride)))
        self.register_buffer("anchors", torch.cat(anchors, 1))
        self.register_buffer("strides", torch.cat(strides, 1))
        self.register_buffer("bins", torch.arange(float(self.BINS)).reshape(1, self.BINS, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = self.middle(self.stem(x))
        deep = self.deep(middle)
        fine = self.join(torch.cat([self.up(deep), middle], 1))
        coarse = self.joined(torch.cat([self.down(fine), deep], 1))
        heads = [
            torch.cat([box(y), of(y)], 1).flatten(2)
            for box, of, y in zip(self.boxes, self.classes, (fine, coarse), strict=True)
        ]
        distances, scores = torch.cat(heads, 2).split((4 * self.BINS, self.CLASSES), 1)
        shares = distances.view(distances.shape[0], 4, self.BINS, -1).transpose(1, 2).softmax(1)
        before, behind = F.conv2d(shares, self.bins).squeeze(1).chunk(2, 1)
        low, high = self.anchors - before, self.anchors + behind
        return torch.cat([torch.cat([(low + high) / 2, high - low], 1) * self.strides, scores.sigmoid()], 1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dcgan": (dcgan, (100, 1, 1)),
    "unet": (UNet, (3, 20, 28)),
    "espcn": (espcn, (1, 13, 17)),
    "style_transfer": (StyleTransfer, (3, 24, 32)),
    "yolo": (lambda: YOLO((48, 64)), (3, 48, 64)),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    """A network whose norms have statistics and parameters as after training."""
    build, shape = NETWORKS[request.param]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        module = build()
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm2d, nn.InstanceNorm2d)):
                part.momentum = 1.0
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.2)
        module.train()(torch.randn(8, *shape))
        return module.eval(), shape


def assert_same(model: Any, module: nn.Module, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.tensor(x)).numpy()
    got = model(x)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    np.testing.assert_array_equal(model(x[1]), got[1])


def test_from_pytorch(network: tuple[nn.Module, tuple[int, ...]], tmp_path: Path) -> None:
    module, shape = network
    model = fastconv.from_torch(module, shape)
    assert_same(model, module, shape)
    model.save(tmp_path / "net.npz")
    assert_same(fastconv.load(tmp_path / "net.npz"), module, shape)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_through_onnx(network: tuple[nn.Module, tuple[int, ...]], exporter: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from test_onnx_torch import export

    module, shape = network
    export(module, torch.randn(2, *shape), tmp_path / "net.onnx", exporter)
    assert_same(fastconv.load(tmp_path / "net.onnx"), module, shape)


def test_images_of_other_sizes() -> None:
    """Of the networks that take any size, one program for each."""
    for build, shape in (NETWORKS["unet"], NETWORKS["espcn"]):
        module = build().eval()
        model = fastconv.from_torch(module, shape, dynamic=True)
        assert_same(model, module, shape)
        assert_same(model, module, (shape[0], shape[1] + 12, shape[2] + 4))
