"""Modules through both of PyTorch's exporters to ONNX, against the modules themselves."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
F = torch.nn.functional
nn = torch.nn

from interpreter import run_graph  # noqa: E402
from onnx_models import check_file  # noqa: E402
from torchvision_nets import attention, models  # noqa: E402

import fastconv  # noqa: E402
from fastconv.errors import UnsupportedOperatorError  # noqa: E402
from fastconv.formats.onnx import load  # noqa: E402

EXPORTERS = ("torchscript", "dynamo")


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def export(
    module: nn.Module, x: torch.Tensor, path: Path, exporter: str = "torchscript", opset: int | None = None
) -> None:
    """Write a module for batches of any size; with one image, for that."""
    several = len(x) > 1
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            pytest.importorskip("onnxscript")
            shapes = ({0: torch.export.Dim("batch")},) if several else None
            torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=shapes, opset_version=opset)
        else:
            axes = {"x": {0: "batch"}} if several else None
            torch.onnx.export(
                module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=opset
            )


def randomise(module: nn.Module) -> nn.Module:
    """Give batch normalisations statistics as after training, and put the module in eval mode."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.5)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1)
            nn.init.normal_(part.bias, 0, 0.1)
    return module.eval()


def check(module: nn.Module, path: Path, *shape: int, exporter: str = "torchscript", opset: int | None = None) -> Any:
    """Export for one batch, and compare on another: float64 with float64, the engine to 1e-4."""
    randomise(module)
    export(module, torch.randn(2, *shape), path, exporter, opset)
    x = torch.randn(3, *shape)
    with torch.no_grad():
        y = module(x)
        exact = module.double()(x.double())
    graph = check_file(path, x.numpy(), [t.numpy() for t in (y if isinstance(y, tuple) else (y,))])
    for got, want in zip(run_graph(graph, x.numpy()), exact if isinstance(exact, tuple) else (exact,), strict=True):
        assert np.abs(got - want.numpy()).max() <= 1e-6 * max(1, np.abs(want.numpy()).max())
    return graph


class Functional(nn.Module):
    """A module from a function of the image, and its parts."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self, x)


def function(forward: Callable[[torch.Tensor], Any]) -> Functional:
    return Functional(lambda self, x: forward(x))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Dropout(), nn.Linear(120, 10), nn.Softmax(1),
    )  # fmt: skip


def residual() -> nn.Module:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(x)))
        return torch.cat([F.silu(y + x), F.leaky_relu(x, 0.2), F.hardtanh(x, -1, 0.5)], 1)

    return Functional(forward, conv=nn.Conv2d(4, 4, 3, padding=1, bias=False), norm=nn.BatchNorm2d(4))


def two_heads() -> nn.Module:
    def forward(self: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x).relu()
        return self.a(x.mean((2, 3))), torch.sigmoid(self.b(x))

    return Functional(forward, body=nn.Conv2d(3, 8, 3), a=nn.Linear(8, 5), b=nn.Conv2d(8, 2, 1))


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet": (lenet, (1, 28, 28)),
    "residual": (residual, (4, 9, 9)),
    "two_heads": (two_heads, (3, 10, 12)),
    "view_size": (lambda: function(lambda x: x.view(x.size(0), -1)), (3, 4, 5)),
    "view_shape": (lambda: function(lambda x: x.view(x.shape[0], 3 * x.shape[2], -1)), (3, 4, 5)),
    "flatten_some": (lambda: function(lambda x: x.flatten(2).unsqueeze(1).squeeze(1)), (3, 4, 5)),
    "affine": (lambda: function(lambda x: (2 - x * 3) / 4 + x - 1), (3, 4, 5)),
    "relu6": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, stride=2), nn.ReLU6()), (4, 9, 11)),
    "conv_same": (lambda: nn.Conv2d(3, 5, (2, 3), padding="same", dilation=(2, 1)), (3, 8, 8)),
    "conv_reflect": (lambda: nn.Conv2d(3, 5, 3, padding=2, padding_mode="reflect"), (3, 8, 8)),
    "conv_circular": (lambda: nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (3, 8, 8)),
    "pad": (lambda: nn.ConstantPad2d((1, 0, 2, 3), 0.5), (3, 8, 8)),
    "pad_and_crop": (lambda: nn.ZeroPad2d((-1, 2, 0, -2)), (3, 8, 8)),
    "max_pool_ceil": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (3, 9, 10)),
    "max_pool_dilated": (lambda: nn.MaxPool2d((2, 3), 1, dilation=2), (3, 9, 10)),
    "avg_pool": (lambda: nn.AvgPool2d(3, 2, 1), (3, 9, 10)),
    "avg_pool_ceil": (lambda: nn.AvgPool2d(2, 2, ceil_mode=True), (3, 9, 9)),
    "avg_pool_inside": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (3, 9, 10)),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d(1), (3, 9, 10)),
    "adaptive_parts": (lambda: nn.AdaptiveAvgPool2d((3, 5)), (3, 9, 10)),
    "log_softmax": (lambda: nn.LogSoftmax(1), (3, 4, 5)),
    "tanh": (lambda: nn.Sequential(nn.Tanh(), nn.Hardtanh(-0.5, 0.25)), (3, 4, 5)),
    "linear_last": (lambda: nn.Linear(5, 7), (3, 4, 5)),
    "slices": (lambda: function(lambda x: torch.cat([x[:, 1:, ::1], x[:, :1]], 1)), (3, 4, 5)),
    "chunks": (lambda: function(lambda x: sum(x.chunk(3, 1))), (6, 4, 5)),
    "select": (lambda: function(lambda x: x[:, 1] + x[:, -1]), (3, 4, 5)),
    "matrix": (lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), (5,)),
    "signal": (lambda: nn.Sequential(nn.Conv1d(3, 5, 3, 2), nn.BatchNorm1d(5), nn.MaxPool1d(2)), (3, 30)),
}


@pytest.mark.parametrize(("build", "shape"), MODULES.values(), ids=MODULES)
def test_modules(build: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path) -> None:
    check(build(), tmp_path / "net.onnx", *shape)


@pytest.mark.parametrize("name", ["lenet", "residual", "two_heads", "view_size", "avg_pool", "pad_and_crop", "select"])
def test_modules_through_the_newer_exporter(name: str, tmp_path: Path) -> None:
    build, shape = MODULES[name]
    check(build(), tmp_path / "net.onnx", *shape, exporter="dynamo")


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 16, 18, 20])
def test_opsets(opset: int, tmp_path: Path) -> None:
    check(lenet(), tmp_path / "net.onnx", 1, 28, 28, opset=opset)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_batch_of_one(exporter: str, tmp_path: Path) -> None:
    """It is what is written where nobody asks for more; the model takes any."""
    module = lenet().eval()
    export(module, torch.randn(1, 1, 28, 28), tmp_path / "net.onnx", exporter)
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        check_file(tmp_path / "net.onnx", x.numpy(), [module(x).numpy()])


def test_what_mixes_images_is_refused(tmp_path: Path) -> None:
    for forward in (
        lambda x: x.view(-1, 4),
        lambda x: x / x.shape[0],
        lambda x: x.reshape(x.shape[0] // 2, 2, 3, 4, 5),
        lambda x: x.softmax(0),
        lambda x: x[:1],
    ):
        export(function(forward).eval(), torch.randn(2, 3, 4, 5), tmp_path / "net.onnx")
        with pytest.raises(UnsupportedOperatorError):
            load(tmp_path / "net.onnx")


# torchvision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    ("name", "exporter"),
    [("vit", "torchscript"), ("vit", "dynamo"), ("swin", "torchscript"), ("maxvit", "torchscript")],
)
def test_attention(name: str, exporter: str, images: int, tmp_path: Path) -> None:
    """Windows and heads share an axis with the batch; a file for one image takes any number too."""
    net = attention(name)
    export(net, torch.randn(images, 3, 32, 32), tmp_path / "net.onnx", exporter)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        check_file(tmp_path / "net.onnx", x.numpy(), [net(x).numpy()])


CLASSIFIERS = (
    "efficientnet_b0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
)


def torchvision(name: str) -> nn.Module:
    """A network with random weights."""
    net: nn.Module = getattr(models(), name)(weights=None, num_classes=10)
    return net


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_torchvision(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    module = randomise(torchvision(name))
    export(module, torch.randn(2, 3, 64, 64), path)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = module(x).numpy()
    net = fastconv.load(path)
    got = net(x.numpy())
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
    net.save(tmp_path / "net.npz")
    np.testing.assert_array_equal(fastconv.load(tmp_path / "net.npz")(x.numpy()), got)


@pytest.mark.long
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "resnext50_32x4d",
        "vgg11_bn",
        "mobilenet_v2",
        "googlenet",
        "densenet121",
        "mnasnet0_5",
        "alexnet",
    ],
)
def test_torchvision_at_full_size(name: str, exporter: str, tmp_path: Path) -> None:
    module = randomise(torchvision(name))
    export(module, torch.randn(2, 3, 224, 224), tmp_path / "net.onnx", exporter)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        want = module(x).numpy()
    got = fastconv.load(tmp_path / "net.onnx")(x.numpy())
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_recurrent_layers(name: str, exporter: str, tmp_path: Path) -> None:
    """Over the columns of an image, which begin with the time."""
    inner = getattr(nn, name)(6, 5, num_layers=2, bidirectional=True)

    def forward(self: Any, x: torch.Tensor) -> Any:
        y, last = self.inner(x.squeeze(2).permute(2, 0, 1))
        return (y.permute(1, 0, 2), *(each.permute(1, 0, 2) for each in (last if isinstance(last, tuple) else (last,))))

    check(Functional(forward, inner=inner), tmp_path / "net.onnx", 6, 1, 7, exporter=exporter)
