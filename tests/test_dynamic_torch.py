"""Modules whose image size may vary: equal to PyTorch at any size, or refused when they are converted."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision_nets import models, randomised

import fastconv
from fastconv import ShapeError
from fastconv.graph.preprocessing import Preprocessing

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402  # they need the extra
from torch.nn import functional as F  # noqa: E402

WHOLE = 1e-4
"""Error of a whole network, relative to its largest output."""


def assert_as_in_pytorch(model: fastconv.Model, net: nn.Module, *shapes: tuple[int, ...]) -> None:
    for shape in shapes:
        x = np.random.default_rng(shape).standard_normal((2, *shape)).astype(np.float32)
        with torch.inference_mode():
            expected = net(torch.from_numpy(x)).numpy()
        found = model(x)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= WHOLE * np.abs(expected).max()


class SqueezeExcitation(nn.Module):
    """Global means in two spellings, a fixed adaptive pooling, a dilated and a strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.parts = nn.AdaptiveMaxPool2d((2, 3))
        self.last = nn.Linear(8 + 48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.second(self.first(x))))
        return self.last(torch.cat([x.mean((2, 3)), self.parts(x).flatten(1)], 1))


class Encoder(nn.Module):
    """Two paths that meet again: only multiples of 4 fit, and what rounds to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return torch.cat([F.max_pool2d(F.avg_pool2d(x, 2), 2), F.max_pool2d(x, 3, stride=4, padding=1)], 1)


@pytest.mark.parametrize(
    ("build", "shape", "others"),
    [
        (SqueezeExcitation, (3, 20, 24), [(3, 20, 24), (3, 3, 3), (3, 21, 23), (3, 50, 17)]),
        (Encoder, (3, 16, 16), [(3, 16, 16), (3, 20, 40), (3, 4, 8)]),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (1, 9, 9), [(1, 3, 3), (1, 4, 31), (1, 64, 65)]),
    ],
)
def test_as_in_pytorch(build: Any, shape: tuple[int, ...], others: list[tuple[int, ...]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = randomised(build(), shape[0])
    model = fastconv.from_torch(net, shape, dynamic=True)
    assert (model.dynamic, model.input_shape) == (True, shape)
    assert_as_in_pytorch(model, net, *others)
    model.save(tmp_path / "net.npz")
    assert_as_in_pytorch(fastconv.load(tmp_path / "net.npz"), net, *others)
    assert not fastconv.from_torch(net, shape).dynamic


# --- numbers that follow the size -----------------------------------------------------------------


class Halves(nn.Module):
    """A reshape that only even heights allow."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x.reshape(x.shape[0], 6, x.shape[2] // 2, x.shape[3]))


class KeepsHeight(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (None, 1))


class Heads(nn.Module):
    """Boxes of two scales, as YOLO's: (N, anchors, numbers, H, W) becomes rows of numbers, which are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)])
        self.heads = nn.ModuleList([nn.Conv2d(8, 3 * 7, 1) for _ in self.layers])

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for layer, head in zip(self.layers, self.heads, strict=True):
            x = F.silu(layer(x))
            y = head(x)
            n, _, height, width = y.shape
            y = y.view(n, 3, 7, height, width).permute(0, 1, 3, 4, 2).sigmoid()
            rows.append(y.reshape(n, 3 * height * width, 7))
        return torch.cat(rows, 1)


class Upwards(nn.Module):
    """A U-Net's step, to the size of what it meets; group norm; the image's own size at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(16, 2, 1)
        self.norm = nn.GroupNorm(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.down(x))
        up = F.interpolate(self.deep(y).relu(), size=y.shape[-2:])
        return F.interpolate(self.last(torch.cat([y, up], 1)), size=x.shape[-2:], mode="bilinear")


class Tokens(nn.Module):
    """Attention over tokens whose keys are fewer, as SegFormer's, and back to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 16, 7, 4, 3), nn.LayerNorm(16)
        self.query, self.fewer = nn.Linear(16, 16), nn.Conv2d(16, 16, 2, 2)
        self.mix = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        n, c, height, width = x.shape
        x = self.norm(x.flatten(2).transpose(1, 2))
        fewer = self.fewer(x.transpose(1, 2).reshape(n, c, height, width)).reshape(n, c, -1).transpose(1, 2)
        query = self.query(x).reshape(n, height * width, 2, 8).permute(0, 2, 1, 3)
        key, value = (fewer.reshape(n, -1, 2, 8).permute(0, 2, *order) for order in ((3, 1), (1, 3)))
        x = x + ((query @ key / 3).softmax(-1) @ value).transpose(1, 2).reshape(n, height * width, c)
        return self.mix(x.transpose(1, 2).view(n, c, height, width))


class Pixels(nn.Module):
    """Attention of all pixels to all, with one head and a number on the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.three, self.last = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 48, 1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        n, c, height, width = x.shape
        query, key, value = self.three(x).reshape(n, 3, c, height * width).unbind(1)
        shares = torch.softmax(query.transpose(1, 2) @ key / 4 + 0.5, -1)
        return self.last(x + (value @ shares.transpose(1, 2)).reshape(n, c, height, width))


ODD = [(3, 29, 35), (3, 64, 36), (3, 17, 80)]


@pytest.mark.parametrize(
    ("build", "shape", "others"),
    [
        (Halves, (3, 8, 8), [(3, 2, 8), (3, 8, 3), (3, 10, 5)]),
        (KeepsHeight, (3, 8, 8), [(3, 1, 1), (3, 8, 3), (3, 11, 5)]),
        (Heads, (3, 32, 32), [(3, 4, 4), *ODD]),
        (Upwards, (3, 16, 16), [(3, 4, 4), *ODD]),
        (Tokens, (3, 32, 32), [(3, 8, 8), *ODD]),
        (Pixels, (3, 12, 16), [(3, 2, 2), *ODD]),
    ],
)
@pytest.mark.parametrize("way", ["module", "onnx"])
def test_numbers_follow_the_size(
    way: str, build: Any, shape: tuple[int, ...], others: list[tuple[int, ...]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = build().eval()
    if way == "module":
        model = fastconv.from_torch(net, shape, dynamic=True)
    else:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")
        axes = {"x": {0: "n", 2: "h", 3: "w"}}
        if build is KeepsHeight:
            pytest.skip("PyTorch's exporter fixes the height")
        torch.onnx.export(
            net, (torch.zeros(2, *shape),), tmp_path / "net.onnx", dynamo=False, input_names=["x"], dynamic_axes=axes
        )
        model = fastconv.load(tmp_path / "net.onnx", input_shape=shape)
        assert model.dynamic
    assert_as_in_pytorch(model, net, shape, *others)
    model.save(tmp_path / "net.npz")
    again = fastconv.load(tmp_path / "net.npz")
    assert_as_in_pytorch(again, net, shape, *others)
    assert str(again.graph) == str(model.graph)
    fixed = fastconv.load(tmp_path / "net.npz", input_shape=others[-1], dynamic=False)
    assert not any(node.sizes for node in fixed.graph.nodes)
    assert_as_in_pytorch(fixed, net, others[-1])
    assert_as_in_pytorch(pickle.loads(pickle.dumps(again)), net, *others)


def test_a_size_that_a_reshape_does_not_take_is_refused() -> None:
    model = fastconv.from_torch(Halves(), (3, 8, 8), dynamic=True)
    with pytest.raises(ShapeError, match=r"images of shape \(3, 7, 8\): reshape.*: shape takes 1/2 of axis 2 of input"):
        model(np.zeros((1, 3, 7, 8), np.float32))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvisions_networks(name: str, tmp_path: Path) -> None:
    net = randomised(getattr(models(), name)(weights=None, num_classes=10))
    others = [(3, 64, 64), (3, 33, 95), (3, 97, 40)]
    assert_as_in_pytorch(fastconv.from_torch(net, (3, 64, 64), dynamic=True), net, *others)
    np.savez(tmp_path / "weights.npz", **{key: value.numpy() for key, value in net.state_dict().items()})
    model = fastconv.load(tmp_path / "weights.npz", architecture=name, input_shape=(3, 64, 64), dynamic=True)
    assert_as_in_pytorch(model, net, *others)


# --- what depends on the size ---------------------------------------------------------------------


class Conv(nn.Module):
    """A convolution, and what a subclass does with its result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.conv(x))

    def use(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Scaled(Conv):
    def use(self, x: Tensor) -> Tensor:
        return x * (1 / x.shape[-1])


class Branching(Conv):
    def use(self, x: Tensor) -> Tensor:
        return F.relu(x) if x.shape[-1] < 33 else x


class BranchingBelow(Conv):
    def use(self, x: Tensor) -> Tensor:
        return x if x.shape[-1] > 31 else F.relu(x)


class PaddedToEven(Conv):
    """Equal to a convolution alone for even sizes."""

    def use(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)), 2)


class Middle(Conv):
    """A part whose place is no multiple of anything."""

    def use(self, x: Tensor) -> Tensor:
        return x[:, :, (x.shape[2] - 8) // 2 :]


class Position(Conv):
    def use(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def norm(self, x: Tensor) -> Tensor:
        scale = torch.linspace(0, 1, x.shape[2])[:4]
        return F.linear(x.mean((2, 3)), self.linear.weight * scale)


class ExactSize(Conv):
    def use(self, x: Tensor) -> Tensor:
        if x.shape[2:] not in ((32, 32), (64, 64)):
            raise ValueError("only 32x32 and 64x64")
        return x


class OneSize(Conv):
    def use(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (32, 32):
            raise ValueError("only 32x32")
        return x


class PaddedToSevens(nn.Module):
    """Takes even sizes alone. Of 64 rows 32 are left, and padded by 3; of 128 rows 64, and padded by 6."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_unshuffle(x, 2)
        x = F.pad(x, (0, 0, 0, -x.shape[2] % 7))
        return x.unflatten(2, (x.shape[2] // 7, 7)).mean(2)


def test_padding_to_a_multiple_is_no_fraction_of_the_size() -> None:
    with pytest.raises(ShapeError, match="leave out dynamic=True"):
        fastconv.from_torch(PaddedToSevens(), (2, 64, 64), dynamic=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Scaled, "batch_norm depends on the image size: weight differs"),
        (Branching, "relu: relu depends on the image size: the node itself differs"),
        (BranchingBelow, "relu depends on the image size: the node itself differs"),
        (PaddedToEven, r"depends on the image size|the node itself differs"),
        (Middle, r"slice depends on the image size: start, 12 or"),
        (Position, "linear depends on the image size: weight differs"),
        (ExactSize, "the image size cannot vary: ExactSize fails .* only 32x32 and 64x64"),
        (OneSize, "the image size cannot vary: OneSize fails .* only 32x32"),
    ],
)
def test_what_depends_on_the_size_is_refused_by_its_name(kind: type[nn.Module], message: str) -> None:
    torch.manual_seed(0)
    net = kind().eval()
    assert not fastconv.from_torch(net, (3, 32, 32)).dynamic
    with pytest.raises(ShapeError, match=message) as caught:
        fastconv.from_torch(net, (3, 32, 32), dynamic=True)
    assert "leave out dynamic=True" in str(caught.value)


def test_a_flattened_image_before_a_linear_layer_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 9, 4))
    with pytest.raises(ShapeError, match="3: expects 18 features, the input has 98, where images have shape"):
        fastconv.from_torch(net, (1, 8, 8), dynamic=True)


def test_labels_and_normalisation_are_kept() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = fastconv.from_torch(net, (3, 8, 8), labels=["a", "b"], mean=[0.5] * 3, std=[0.2] * 3, dynamic=True)
    pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    x = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.2)
    assert model.predict(pixels) == "ab"[model(np.ascontiguousarray(x.transpose(2, 0, 1))).argmax()]


def test_transforms_are_kept_and_tell_nothing_of_other_sizes() -> None:
    pytest.importorskip("PIL.Image")
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = Preprocessing(resize_size=10, crop_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    model = fastconv.from_torch(net, (3, 8, 8), labels=["a", "b"], transforms=before, dynamic=True)
    fixed = fastconv.from_torch(net, (3, 8, 8), labels=["a", "b"], transforms=before)
    assert (model.dynamic, model.labels, model.preprocessing) == (True, ("a", "b"), before)
    pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    np.testing.assert_array_equal(model.predict_proba(pixels), fixed.predict_proba(pixels), strict=True)
    x = np.random.default_rng(1).standard_normal((2, 3, 11, 13)).astype(np.float32)
    np.testing.assert_allclose(model(x), net(torch.from_numpy(x)).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [OneSize, ExactSize])
def test_transforms_hide_no_size_that_cannot_vary(kind: type[nn.Module]) -> None:
    with pytest.raises(ShapeError, match="the image size cannot vary"):
        fastconv.from_torch(kind().eval(), (3, 32, 32), transforms=Preprocessing(36, 32), dynamic=True)
