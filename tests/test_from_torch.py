"""from_torch: modules in every usual style, against themselves; and the refusals, by name."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from interpreter import run_graph

from fastconv.errors import (
    ArgumentError,
    MissingExtraError,
    ShapeError,
    UnsupportedOperatorError,
)
from fastconv.graph import Graph

torch = pytest.importorskip("torch")
F = torch.nn.functional
nn = torch.nn

from fastconv.formats.torch.export import BATCH, from_torch, to_torch  # noqa: E402

Forward = Callable[..., object]


class Functional(nn.Module):
    """A module from a forward function and its parts."""

    def __init__(self, forward: Forward, **parts: object) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> object:
        return self._forward(self, x)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def randomise(module: nn.Module) -> nn.Module:
    """Give batch normalisations statistics as after training."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module


def outputs(module: nn.Module, x: torch.Tensor) -> tuple[np.ndarray, ...]:
    """What the module itself computes in eval mode, in float64."""
    with torch.no_grad():
        y = copy.deepcopy(module).double().eval()(x.double().clone())
    return tuple(t.numpy() for t in (y if isinstance(y, (tuple, list)) else (y,)))


def check(module: nn.Module, shape: tuple[int, ...], ops: str | None = None, tolerance: float = 1e-9) -> Graph:
    """Convert, and compare with the module on a batch of another size than the exported one."""
    graph = from_torch(randomise(module), shape)
    x = torch.randn(3, *shape)
    for got, want in zip(run_graph(graph, x.numpy()), outputs(module, x), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, np.abs(want).max()))
    if ops is not None:
        assert " ".join(node.op for node in graph.nodes) == ops
    return graph


def lenet(**changes: object) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )  # fmt: skip


LENET = "conv2d relu max_pool2d conv2d relu max_pool2d flatten linear relu linear relu linear"


# Styles ------------------------------------------------------------------------------------------


def test_sequential() -> None:
    graph = check(lenet(), (1, 28, 28), LENET)
    assert [node.name for node in graph.nodes] == [str(i) for i in range(12)]


FLATTENINGS = {
    "view_features": lambda x: x.view(-1, 256),
    "view_size": lambda x: x.view(x.size(0), -1),
    "view_shape": lambda x: x.view(x.shape[0], 16 * 4 * 4),
    "view_len": lambda x: x.view(len(x), -1),
    "reshape": lambda x: x.reshape(x.size(0), -1),
    "torch_flatten": lambda x: torch.flatten(x, 1),
    "flatten": lambda x: x.flatten(1),
    "flatten_from_the_end": lambda x: x.flatten(-3, -1),
    "contiguous": lambda x: x.contiguous().view(-1, 256),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last).flatten(1),
    "in_steps": lambda x: x.flatten(2).view(-1, 256),
    "rank_5": lambda x: x.view(-1, 4, 4, 16).unsqueeze(1).flatten(1),
    "squeezed": lambda x: x.flatten(1).unsqueeze(2).unsqueeze(3).squeeze(3).squeeze(),
}


@pytest.mark.parametrize("flatten", FLATTENINGS.values(), ids=FLATTENINGS)
def test_functional(flatten: Callable[[torch.Tensor], torch.Tensor]) -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), (2, 2))
        x = F.dropout(flatten(x), training=self.training)
        x = F.relu(self.fc1(x), inplace=True)
        return self.fc2(x)

    module = Functional(
        forward,
        conv1=nn.Conv2d(1, 6, 5),
        conv2=nn.Conv2d(6, 16, 5),
        fc1=nn.Linear(256, 20),
        fc2=nn.Linear(20, 10),
    )
    graph = check(module, (1, 28, 28))
    names = [node.name for node in graph.nodes]
    assert names[:6] == ["conv1", "relu", "max_pool2d", "conv2", "relu#2", "max_pool2d#2"]
    assert names[-3:] == ["fc1", "relu#3", "fc2"]


def test_names_follow_the_module_path() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for conv in self.convs:
                x = F.relu(conv(x)) + x
            return x

    graph = check(nn.Sequential(Block(), nn.Sequential(Block())), (4, 5, 7))
    assert [node.name for node in graph.nodes] == [
        "0.convs.0", "0.relu", "0.add", "0.convs.1", "0.relu#2", "0.add#2",
        "1.0.convs.0", "1.0.relu", "1.0.add", "1.0.convs.1", "1.0.relu#2", "1.0.add#2",
    ]  # fmt: skip


def test_reused_modules_share_arrays() -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = self.relu(self.conv(x))
        return x

    module = Functional(forward, conv=nn.Conv2d(3, 3, 3, padding=1), relu=nn.ReLU())
    graph = check(module, (3, 6, 6))
    assert [node.name for node in graph.nodes] == ["conv", "relu", "conv#2", "relu#2"]
    assert graph.nodes[0].weights["weight"] is graph.nodes[2].weights["weight"]
    assert graph.parameters == 3 * 3 * 9 + 3


def test_tied_weights_share_arrays() -> None:
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    second.weight = first.weight
    graph = check(nn.Sequential(first, nn.Tanh(), second), (5,), "linear tanh linear")
    assert graph.nodes[0].weights["weight"] is graph.nodes[2].weights["weight"]
    assert graph.nodes[0].weights["bias"] is not graph.nodes[2].weights["bias"]


def test_a_module_called_input() -> None:
    graph = check(Functional(lambda self, x: self.input(x), input=nn.Linear(3, 2)), (3,))
    assert [node.name for node in graph.nodes] == ["input#2"]


def test_residual_block() -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        identity = self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)

    module = Functional(
        forward,
        conv1=nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        bn1=nn.BatchNorm2d(6),
        conv2=nn.Conv2d(6, 6, 3, padding=1, bias=False),
        bn2=nn.BatchNorm2d(6, eps=1e-3),
        downsample=nn.Sequential(nn.Conv2d(4, 6, 1, stride=2), nn.BatchNorm2d(6, affine=False)),
        relu=nn.ReLU(inplace=True),
    )
    ops = "conv2d batch_norm conv2d batch_norm relu conv2d batch_norm add relu"
    graph = check(module, (4, 9, 9), ops)
    assert graph.nodes[0].name == "downsample.0"
    assert graph.nodes[-1].name == "relu#2"


# Layers ------------------------------------------------------------------------------------------

IMAGE = (4, 11, 13)
LAYERS = {
    "depthwise": nn.Conv2d(4, 8, 3, groups=4),
    "grouped": nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2, bias=False),
    "same": nn.Conv2d(4, 3, (3, 4), padding="same", dilation=(2, 1)),
    "valid": nn.Conv2d(4, 3, 3, padding="valid", stride=2),
    "conv_zeros": nn.Conv2d(4, 3, 3, padding=2),
    "conv_reflect": nn.Conv2d(4, 3, 3, padding=(2, 1), padding_mode="reflect"),
    "conv_replicate": nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"),
    "conv_circular": nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
    "max_pool": nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True),
    "avg_pool": nn.AvgPool2d((3, 2), (2, 3), (1, 0), ceil_mode=True, count_include_pad=False),
    "avg_pool_divisor": nn.AvgPool2d(2, divisor_override=3),
    "adaptive_avg": nn.AdaptiveAvgPool2d((3, 5)),
    "adaptive_avg_none": nn.AdaptiveAvgPool2d((None, 5)),
    "adaptive_max": nn.AdaptiveMaxPool2d(4),
    "batch_norm": nn.BatchNorm2d(4),
    "batch_norm_plain": nn.BatchNorm2d(4, affine=False, eps=0.1),
    "relu": nn.ReLU(),
    "relu_in_place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky": nn.LeakyReLU(0.3, inplace=True),
    "hardtanh": nn.Hardtanh(-0.3, 0.7),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softmax": nn.Softmax(dim=-1),
    "softmax2d": nn.Softmax2d(),
    "log_softmax": nn.LogSoftmax(1),
    "zero_pad": nn.ZeroPad2d((1, 2, 3, -4)),
    "constant_pad": nn.ConstantPad2d(1, 0.5),
    "reflection_pad": nn.ReflectionPad2d(2),
    "replication_pad": nn.ReplicationPad2d((0, 1, 2, 3)),
    "linear_on_rows": nn.Linear(13, 5),
    "dropout": nn.Dropout(0.9),
    "dropout2d": nn.Dropout2d(0.9),
    "alpha_dropout": nn.AlphaDropout(0.9),
    "flatten": nn.Flatten(2),
    "unflatten": nn.Unflatten(1, (2, 2)),
    "weight_norm": nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layer(layer: nn.Module) -> None:
    check(layer, IMAGE, tolerance=1e-6)


def _windows(x: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Apply a function to the 6 windows of 5x6 pixels of each of 4x10x18's images, each an image of its own."""
    x = F.pad(x, (0, 5, 0, -1)).permute(0, 2, 3, 1)
    n, h, w, c = x.shape
    parts = x.view(n, 2, 5, 3, 6, c).permute(0, 1, 3, 2, 4, 5).reshape(n * 6, 30, c)
    y = function(parts.view(n, 6, 30, c) if function is not torch.tanh and function is not _masked else parts)
    return y.reshape(n, 2, 3, 5, 6, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c).permute(0, 3, 1, 2)


def _masked(parts: torch.Tensor) -> torch.Tensor:
    """Attention of each window with a mask of its own, as Swin's shifted windows have it."""
    mask = torch.linspace(-2, 2, 6 * 900, dtype=parts.dtype).view(6, 30, 30)
    heads = parts.reshape(-1, 30, 2, 2).permute(0, 2, 1, 3)
    scores = heads @ heads.transpose(-2, -1)
    scores = scores.view(-1, 6, 2, 30, 30) + mask.unsqueeze(1).unsqueeze(0)
    return (F.softmax(scores.view(-1, 2, 30, 30), -1) @ heads).transpose(1, 2).reshape(-1, 30, 4)


def _heads(tokens: torch.Tensor) -> torch.Tensor:
    """Attention as nn.MultiheadAttention writes it: (L, N, C), with N * heads in one axis."""
    length, n, channels = tokens.shape
    q = tokens.contiguous().view(length, n * 2, channels // 2).transpose(0, 1)
    y = F.softmax(torch.bmm(q * 0.5, q.transpose(1, 2)), -1) @ q
    return y.transpose(0, 1).contiguous().view(length * n, channels).view(length, n, channels).transpose(0, 1)


def _mask_of_regions(x: torch.Tensor) -> torch.Tensor:
    mask = x.new_zeros((11, 13))
    mask[:4, 2:] = 1
    mask[5:, :].add_(torch.ones_like(x)[0, 0, 5:])
    return mask


CALLS = {
    "mean": lambda x: x.mean((2, 3)),
    "mean_from_the_end": lambda x: x.mean([-1, -2], keepdim=True),
    "mean_flat": lambda x: x.flatten(2).mean(-1),
    "mean_flat_keepdim": lambda x: x.view(x.size(0), 4, -1).mean(2, keepdim=True),
    "amax": lambda x: torch.amax(x, (2, 3)),
    "mean_of_channels": lambda x: torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1),
    "mean_of_all_but_the_batch": lambda x: x.mean((1, 2, 3)) + x.flatten(1).sum(1),
    "mean_of_tokens": lambda x: x.flatten(2).transpose(1, 2).mean(1),
    "sum": lambda x: x.sum(-1) + x.sum((1, 3), keepdim=True).squeeze(3),
    "prod": lambda x: (x / 2 + 1).prod(2),
    "extremes": lambda x: (x.amin((1, 2)), *x.max(2), *x.min(1, keepdim=True)),
    "only_the_largest": lambda x: x.max(1)[0] - x.min(1).values,
    "only_its_index": lambda x: x.max(1)[1] * 0.5 + x.argmin(1),
    "index_as_a_number": lambda x: x.argmax(2).float() + x.argmax(-2, keepdim=True).type_as(x).squeeze(2),
    "logsumexp": lambda x: torch.logsumexp(x, (2, 3)) + x.logsumexp(1)[:, :4, 0],
    "norms": lambda x: F.normalize(x, dim=1) + x.norm(dim=(2, 3), keepdim=True) + x.norm(1, -1, keepdim=True),
    "norm_of_infinity": lambda x: torch.linalg.vector_norm(x, float("inf"), (1, 3)),
    "variance": lambda x: x.var((2, 3)) + x.std(1, unbiased=False)[:, :4, 0] + torch.var(x, 2, correction=0)[..., 0],
    "standardised": lambda x: (x - torch.var_mean(x, 1, keepdim=True)[1]) / torch.std_mean(x, (1, 2), keepdim=True)[0],
    "steps": lambda x: torch.floor(x) + torch.ceil(x * 3) - (4 * x).round() * torch.trunc(x * 2) + torch.sign(x),
    "angles": lambda x: torch.sin(x) * torch.cos(20 * x),
    "powers": lambda x: x**2 + x.abs() ** 1.7 + (x * x + 1) ** -0.75 + x.square() + x.float_power(3).float(),
    "power_of_two": lambda x: x.abs() ** torch.sigmoid(x) + 2**x + torch.pow(x.abs() + 1, torch.linspace(-2, 2, 13)),
    "shrinking": lambda x: F.hardshrink(x) + F.softshrink(x, 0.2) + F.tanhshrink(x) + F.threshold(x, 0.1, -3),
    "gated": lambda x: (
        F.glu(x, 1) + F.glu(x[:, :, :, :12].transpose(1, 3), 1).transpose(1, 3).mean(3, keepdim=True)[:, :2]
    ),
    "random_relu": lambda x: F.rrelu(x),
    "prelu": lambda x: F.prelu(x, x.new_tensor([0.3, -0.1, 0.0, 2.0])) + F.prelu(x, x.new_tensor([0.25])),
    "remainders": lambda x: x % 0.5 + torch.fmod(x, torch.linspace(0.5, 1.5, 13)) + torch.remainder(x, -0.7),
    "comparisons": lambda x: (x > 0) * x + (x <= 0.5).float() + (x <= 0.25).to(x.dtype) + (x == x.relu()) * 2.0,
    "comparisons_of_two": lambda x: (x < x.mean(1, keepdim=True)) * 1.0 + (torch.linspace(-1, 1, 13) != x) * x,
    "logic": lambda x: ((x > 0) & (x < 1) | ~(x > -1)).float() + torch.logical_xor(x > 0, x > 0.5).float(),
    "truths_as_outputs": lambda x: (x > 0, torch.isnan(x), torch.logical_not(x)),
    "where": lambda x: torch.where(x > 0, x, 0.0) + torch.where(x > 0.5, 1.0, 2.0) + torch.where(x < 0, 3.0, x.exp()),
    "masked": lambda x: (
        x.masked_fill(x > 1, 1.0) + x.masked_fill(torch.ones(11, 13).triu(1).bool(), float("-inf")).exp()
    ),
    "where_of_constants": lambda x: torch.where(torch.ones(13).cumsum(0) > 6, x, torch.zeros(4, 1, 1) + 2),
    "where_axes_moved": lambda x: torch.where(x.transpose(1, 2) > 0, x.transpose(1, 2), torch.ones(4, 13)).sum(1),
    "flipped": lambda x: x.flip(1) + x.flip((2, -1)),
    "running_sums": lambda x: x.cumsum(1) + torch.cumsum(x.transpose(1, 2), -1).transpose(1, 2),
    "largest": lambda x: (*x.topk(3, 1), x.topk(5, largest=False)[0], x.flatten(1).topk(100)[1]),
    "sorted": lambda x: (*x.sort(1), x.sort(dim=2, descending=True)[0], x.argsort(dim=-1, stable=True)),
    "expanded": lambda x: (
        x.amax(2, keepdim=True).expand(-1, -1, 5, -1) + x.mean((2, 3), keepdim=True).expand(-1, 4, 5, 13)
    ),
    "repeated": lambda x: x.repeat(1, 2, 1, 3) + x.tile((2, 1, 3)) * x.repeat_interleave(2, 1).repeat_interleave(3, 3),
    "indexed": lambda x: x[:, [2, 0, 2]] + x.index_select(1, torch.tensor([3, 1, 0])),
    "indexed_by_a_table": lambda x: x[:, :, torch.tensor([[0, 10, 3], [1, 2, -1]])],
    "indexed_by_several": lambda x: x[:, torch.tensor([0, 1, 3]), torch.tensor([10, 2, 2])],
    "gathered": lambda x: (
        x.gather(2, torch.arange(10).view(1, 1, 2, 5).expand(len(x), 3, 2, 5))
        + torch.take_along_dim(x, torch.tensor([4, 0]).view(1, 1, 2, 1), 2)[:, :3, :, :5]
    ),
    "cat": lambda x: torch.cat([x, F.relu(x), x], 1),
    "cat_last": lambda x: torch.cat((x, x), -1),
    "add": lambda x: x + torch.tanh(x) + x,
    "product": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "difference": lambda x: x - F.relu(x),
    "scaled_sum": lambda x: torch.add(x, F.relu(x), alpha=2),
    "scaled_difference": lambda x: torch.sub(x, F.relu(x), alpha=-0.5),
    "quotient": lambda x: 3 / (2 + torch.sigmoid(x)),
    "quotient_beside_the_batch": lambda x: (1 / (2 + x.transpose(0, 1).abs())).transpose(0, 1),
    "quotient_of_two": lambda x: x / (1 + x.abs()),
    "constant_map": lambda x: torch.arange(143.0).view(11, 13) - x,
    "constant_row": lambda x: x * torch.arange(13.0),
    "attention": lambda x: F.scaled_dot_product_attention(
        x, x * 2, x + 1, torch.linspace(-1, 1, 121, dtype=x.dtype).view(11, 11)
    ),
    "resized": lambda x: F.interpolate(x, (5, 30), mode="bilinear", align_corners=True),
    "upsampled": lambda x: nn.Upsample(scale_factor=2)(x) + nn.Upsample(scale_factor=2, mode="bicubic")(x),
    "pixels_shuffled": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2)[:, :, 1:21, 2:22], 5),
    "batched_product": lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)),
    "matrix_left": lambda x: torch.arange(33.0, dtype=x.dtype).view(3, 11) @ x,
    "windows": lambda x: _windows(x, lambda y: F.softmax(y, -1) + torch.arange(6.0).view(6, 1, 1)),
    "shifted_windows": lambda x: torch.roll(_windows(torch.roll(x, (-1, 2), (2, 3)), torch.tanh), (1, -2), (2, 3)),
    "windows_with_a_mask": lambda x: _windows(x, _masked),
    "batch_in_the_middle": lambda x: F.layer_norm(x.permute(2, 0, 3, 1), (4,)).permute(1, 3, 0, 2),
    "batch_beside_heads": lambda x: _heads(x.flatten(2).permute(2, 0, 1)),
    "two_axes_around_the_batch": lambda x: (
        torch.tanh(x.permute(1, 0, 2, 3).reshape(-1, 13)).view(4, -1, 11, 13)[:, :, 1].transpose(0, 1)
    ),
    "einsum": lambda x: torch.einsum("nchw, ndhw -> ncd", x, x * 2),
    "einsum_of_a_constant": lambda x: torch.einsum("nchw,kc->nhkw", x, torch.arange(8.0, dtype=x.dtype).view(2, 4)),
    "einsum_rows": lambda x: torch.einsum("nchw,nchv->ncwv", x, x),
    "baddbmm": lambda x: torch.baddbmm(x[:, 0], x[:, 1, :, :11], x[:, 2], beta=0.5, alpha=2),
    "truths": lambda x: x * (torch.arange(143.0).view(11, 13) > 7) + torch.arange(143).view(11, 13),
    "filled": lambda x: x + _mask_of_regions(x),
    "stacked": lambda x: torch.stack([x, F.relu(x)], 2),
    "unbound": lambda x: x.unbind(2)[3] + x[:, :, -1],
    "chunked": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
    "split": lambda x: x.split([5, 6], 2)[1] * 2,
    "strides": lambda x: x[:, 1:3, ::2, 1::3],
    "channels_shuffled": lambda x: x.view(x.size(0), 2, 2, 11, 13).transpose(1, 2).reshape(x.shape),
    "rolled": lambda x: torch.roll(x, (3, -2), (2, 3)),
    "addcmul": lambda x: (
        torch.addcmul(torch.arange(4.0).view(4, 1, 1), x, x.sin(), value=0.5)
        + torch.addcmul(x, torch.arange(13.0), torch.arange(11.0).view(11, 1), value=0.1)
        + torch.addcmul(x, torch.arange(13.0), x)
    ),
    "addcdiv": lambda x: (
        torch.addcdiv(x, x, 2 + x.sin(), value=0.5) + torch.addcdiv(x, torch.ones(13), torch.arange(1.0, 14.0))
    ),
    "images_repeated": lambda x: torch.sin(x).mean(1, keepdim=True).repeat_interleave(4, 0).reshape(-1, 4, 11, 13) + x,
    "windows_repeated": lambda x: torch.sin(
        x[..., :12].reshape(-1, 4, 11, 3, 4).transpose(1, 3).reshape(-1, 11, 16).repeat_interleave(2, 0)
    ).reshape(-1, 3, 2, 11, 16),
    "clamped_by_tensors": lambda x: (
        x.clamp(torch.linspace(-1, 0, 13), torch.tensor(0.5))
        + x.clamp(max=x.mean((2, 3), keepdim=True))
        + x.clamp_min(torch.tensor(0.1))
        - x.clip(torch.tensor(-0.2))
    ),
    "product_with_shared_heads": lambda x: (
        x @ x[:, :1].transpose(2, 3)
        + F.scaled_dot_product_attention(x[:, :, :, :11], x[:, 1:2, :, 1:12], x[:, 2:3, :, 2:])
    ),
    "batch_norm_of_rows": lambda x: F.batch_norm(
        x.flatten(0, 1).flatten(0, 1), *torch.linspace(0.5, 2, 4 * 13, dtype=x.dtype).view(4, 13)
    ).view(-1, 4, 11, 13),
    "columns": lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 3)) * 2,
    "dropout_of_a_constant": lambda x: x + F.dropout(torch.ones(13), 0.5, False),
    "unfolded": lambda x: x.unfold(2, 3, 2).unfold(3, 4, 3).sin().sum(-1) + x.unfold(-1, 3, 3)[:, :, :5, :, :1].exp(),
    "instance_norm": lambda x: F.instance_norm(x),
    "layer_norm_of_channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2),
    "with_a_token": lambda x: torch.cat([torch.ones(1, 1, 143).expand(len(x), -1, -1), x.flatten(2)], 1),
    "maximum": lambda x: torch.maximum(x, x.mean((2, 3), keepdim=True)),
    "minimum_of_a_constant": lambda x: torch.minimum(torch.linspace(-1, 1, 13), x),
    "softsign": lambda x: F.softsign(x),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp_max": lambda x: torch.clamp(x, max=0.1),
    "clamp_reversed": lambda x: torch.clamp(x, 0.5, 0.1),
    "clamp_min": lambda x: x.clamp_min(0.25),
    "scalars": lambda x: 1 - (2 * x - 0.5) / 4 + (0.25 - x) * 3,
    "negative": lambda x: -x,
    "per_channel": lambda x: (x - torch.arange(4).view(4, 1, 1)) / torch.ones(1, 4, 1, 1) * 2,
    "max_pool_ints": lambda x: F.max_pool2d(x, 2, 1),
    "max_pool_and_indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "adaptive_max_and_indices": lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True)[0],
    "relu6": lambda x: F.relu6(x * 5),
    "casts": lambda x: F.relu(x.float().to(x.dtype).type_as(x)),
    "detached": lambda x: F.relu(x.detach()),
    "circular": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
    "list": lambda x: [F.relu(x), torch.tanh(x)],
    "twice": lambda x: (y := F.relu(x), y),
    "itself": lambda x: (x, F.relu(x)),
    "view_of_itself": lambda x: x.flatten(1),
    "tuple_of_one": lambda x: (F.relu(x),),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_call(call: Callable[[torch.Tensor], object]) -> None:
    check(Functional(lambda _, x: call(x)), IMAGE, tolerance=1e-6)


def test_products_with_parameters() -> None:
    w, b = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(5))

    def forward(self: nn.Module, x: torch.Tensor) -> object:
        return (
            x @ self.w + self.b,
            torch.mm(x, self.w * 2),
            torch.addmm(self.b, x, self.w, beta=0.5, alpha=2),
            torch.matmul(x, self.w),
            F.linear(x, self.w.t(), self.b),
        )

    module = Functional(forward)
    module.w, module.b = w, b
    check(module, (6,), "linear batch_norm linear linear linear linear", tolerance=1e-6)


def test_batch_norm_after_linear() -> None:
    check(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU()), (5,))


def test_normalisation_inside_the_module() -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return self.conv((x - self.mean) / self.std)

    module = Functional(forward, conv=nn.Conv2d(3, 4, 3))
    module.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    module.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
    check(module, (3, 8, 8), "batch_norm div conv2d", tolerance=1e-6)


def test_gradient_modes_inside_forward() -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = self.conv(x)
        return F.relu(x)

    check(Functional(forward, conv=nn.Conv2d(3, 4, 3)), (3, 8, 8), "conv2d relu")


def test_autocast_that_is_off_inside_forward() -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.conv(x)
        with torch.autocast("cpu", enabled=False):
            y = F.relu_(x + self.scale)
            z = y * 2
        return y, z + x

    module = Functional(forward, conv=nn.Conv2d(3, 4, 3))
    module.register_buffer("scale", torch.arange(4.0).view(4, 1, 1))
    check(module, (3, 8, 8), tolerance=1e-6)


# In-place calls ----------------------------------------------------------------------------------

IN_PLACE = {
    "old_name_sees_it": lambda x: (y := torch.tanh(x), F.relu_(y), y + y)[-1],
    "clone_does_not": lambda x: (y := torch.tanh(x), z := y.clone(), F.relu_(y), y + z)[-1],
    "chained": lambda x: torch.tanh(x).clamp_(-0.5, 0.5).add_(1).mul_(2),
    "add_tensor": lambda x: (y := torch.tanh(x), y.add_(x), F.leaky_relu_(y, 0.1))[-1],
    "detached_name": lambda x: (y := torch.tanh(x), z := y.detach(), y.relu_(), z + y)[-1],
    "through_a_view": lambda x: F.relu_(torch.tanh(x).flatten(1)),
    "input": lambda x: (F.relu_(x), x + 1)[-1],
    "dropped": lambda x: F.relu_(F.dropout(torch.tanh(x), training=False)),
}


@pytest.mark.parametrize("call", IN_PLACE.values(), ids=IN_PLACE)
def test_in_place(call: Callable[[torch.Tensor], object]) -> None:
    check(Functional(lambda _, x: call(x)), IMAGE, tolerance=1e-6)


VIEWS = {
    "whole_after_its_part": lambda x: (a := x[:, :2], x.relu_(), a * 1)[2],
    "part_after_the_same": lambda x: (a := x[:, :2], b := x[:, 1:], a.relu_(), b * 2)[3],
    "steps": lambda x: (a := x[:, ::2], a.relu_(), x * 2)[2],
    "whole_after_its_part_of_another_shape": lambda x: (a := x[:, :2], a.flatten(1).relu_(), x * 2)[2],
    "parts_of_parts": lambda x: (a := x[:, :3], b := a[:, :, :4], c := a[:, :, 4:], c.relu_(), b.add_(2), x * 1)[5],
    "view_of_a_constant": lambda x: (y := torch.zeros_like(x), z := y[:, 0], y.add_(x), z + x[:, 1])[3],
    "expanded_before": lambda x: (a := x[:, :1].expand(-1, 4, -1, -1), x[:, 0].mul_(2), a + 1)[2],
    "windows_before": lambda x: (a := x.unfold(2, 3, 2), x.mul_(2), a + 1)[2],
    "through_windows": lambda x: (x.unfold(2, 2, 2).mul_(2), x + 1)[1],
}
APART = {
    "chunks": lambda x: (p := x.chunk(2, 1), p[1].sigmoid_(), p[0] * p[1])[2],
    "full_turn": lambda x: (y := torch.roll(x, 13, 3), y.relu_(), x + y)[2],
    "repeated_once": lambda x: (y := x.repeat(1, 1, 1, 1), y.relu_(), x + y)[2],
    "repeated_beside": lambda x: (y := x.repeat_interleave(2, 0).view(-1, 2, *x.shape[1:]), x.relu_(), x + y[:, 1])[2],
    "constant": lambda x: (y := torch.zeros_like(x), y.add_(x), y * 2)[2],
}
WITHIN = {
    "part": lambda x: (a := x[:, :2], a.relu_(), x * 2 + a.sum(1, keepdim=True))[2],
    "part_of_a_chunk": lambda x: (a := x.chunk(2, 1)[1], a.add_(1), x * 1)[2],
    "selected": lambda x: (x.select(1, 0).mul_(0), x[..., 2].add_(3), x * 1)[2],
    "part_of_a_part": lambda x: (
        a := x[:, :2],
        b := a[:, :, 1:-2],
        b.mul_(2),
        a.sum(1) + x.sum(1) + b.mean((1, 2, 3)).view(-1, 1, 1),
    )[3],
    "assigned": lambda x: (x.__setitem__((slice(None), slice(1, 3), slice(4)), x[:, :2, 1:5].exp()), x + 1)[1],
    "twice": lambda x: (a := x[:, :2], a.relu_(), a.add_(2), x.mul_(3), x + 1)[4],
    "parts_in_turn": lambda x: (
        a := x[:, :1],
        b := x[:, 1:],
        b.relu_(),
        a.add_(2),
        b.mul_(3),
        a.exp_(),
        torch.cat([x, b, a], 1),
    )[6],
    "part_of_a_view": lambda x: (x.transpose(1, 3)[:, 2:7].view(-1, 5, 11, 2, 2)[..., 0].mul_(2), x + 1)[1],
    "turned": lambda x: (x.permute(2, 0, 3, 1)[3:].relu_(), x + 1)[1],
    "unsqueezed": lambda x: (x.unsqueeze(2)[:, :, 0, 5:].relu_(), x + 1)[1],
    "scores_behind_a_token": lambda x: (
        y := x.flatten(2) @ x.flatten(2).transpose(1, 2),
        y[:, 1:, 1:].add_(x[:, :3, 0, :3]),
        y.softmax(-1),
    )[2],
}


CHANGING_CONSTANTS = {
    "weight": lambda x, z: (w := z[:2, :, None, None], y := F.conv2d(x, w), z[0].mul_(2), y - F.conv2d(x, w))[3],
    "other": lambda x, z: (w := z[:, :1, None], y := torch.maximum(x, w), z.neg_(), y - torch.maximum(x, w))[3],
}


@pytest.mark.parametrize("call", CHANGING_CONSTANTS.values(), ids=CHANGING_CONSTANTS)
def test_a_constant_that_changes_between_two_uses(call: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
    check(Functional(lambda _, x: call(x, torch.ones(4, 4, dtype=x.dtype))), IMAGE)


@pytest.mark.parametrize("call", VIEWS.values(), ids=VIEWS)
def test_in_place_through_a_part_is_refused(call: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(UnsupportedOperatorError, match="in place through another view"):
        from_torch(Functional(lambda _, x: call(x * 1)), IMAGE)


@pytest.mark.parametrize("call", APART.values(), ids=APART)
def test_in_place_apart_from_others(call: Callable[[torch.Tensor], object]) -> None:
    check(Functional(lambda _, x: call(x * 1)), IMAGE, tolerance=1e-6)


@pytest.mark.parametrize("call", WITHIN.values(), ids=WITHIN)
def test_in_place_within_another(call: Callable[[torch.Tensor], object]) -> None:
    check(Functional(lambda _, x: call(x * 1)), IMAGE, tolerance=1e-6)


def test_dividing_by_nothing() -> None:
    """As in PyTorch, it is infinite where the image is not 0; and so is a product with infinity."""
    graph = from_torch(Functional(lambda _, x: (x / 0.0, x * float("inf"))), (3,))
    x = np.array([[-2.0, 0.0, 3.0]], np.float32)
    for y in run_graph(graph, x):
        np.testing.assert_array_equal(y, [[-np.inf, np.nan, np.inf]])


def test_in_place_through_another_shape_is_refused() -> None:
    def forward(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        F.relu_(y.flatten(1))
        return y

    with pytest.raises(UnsupportedOperatorError, match="in place through another view"):
        from_torch(Functional(forward), IMAGE)


def test_in_place_on_a_parameter_is_refused() -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x * self.count

    module = Functional(forward)
    module.register_buffer("count", torch.zeros(()))
    with pytest.raises(UnsupportedOperatorError, match="buffer in place"):
        from_torch(module, IMAGE)
    assert module.count == 0


# The module stays as it was ----------------------------------------------------------------------


def test_training_flags_are_kept() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    module[1].eval()
    flags = [part.training for part in module.modules()]
    assert flags == [True, True, False, True]
    from_torch(module, (1, 5, 5))
    assert [part.training for part in module.modules()] == flags
    with pytest.raises(ShapeError):
        from_torch(module, (2, 5, 5))
    assert [part.training for part in module.modules()] == flags


def test_weights_are_copies() -> None:
    module = nn.Linear(3, 2)
    module.weight.requires_grad_(True)
    graph = from_torch(module, (3,))
    before = graph.nodes[0].weights["weight"].copy()
    with torch.no_grad():
        module.weight.add_(1)
    assert np.array_equal(graph.nodes[0].weights["weight"], before)
    assert module.weight.requires_grad
    assert module.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_become_float32(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).to(dtype)
    graph = check(module, (1, 5, 5), tolerance=1e-6)
    assert {a.dtype for node in graph.nodes for a in node.weights.values()} == {np.dtype("f4")}
    assert module[0].weight.dtype == dtype


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_modules(wrap: Callable[[nn.Module], nn.Module]) -> None:
    graph = from_torch(wrap(lenet()), (1, 28, 28))
    assert [node.name for node in graph.nodes] == [str(i) for i in range(12)]


# Preprocessing and labels ------------------------------------------------------------------------


def test_labels_and_preprocessing() -> None:
    labels = [f"digit {i}" for i in range(10)]
    graph = from_torch(lenet(), (1, 28, 28), labels=labels, mean=[0.13], std=np.array([0.31]))
    assert graph.labels == tuple(labels)
    assert graph.mean == (0.13,)
    assert graph.std == (0.31,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a", "b"]}, "10 classes.* 2$"),
        ({"labels": range(10)}, "strings"),
        ({"mean": [0.5, 0.5, 0.5]}, "1 channels, got 3"),
        ({"std": [0.0]}, "positive"),
        ({"mean": 0.5}, "mean must be"),
    ],
)
def test_labels_and_preprocessing_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        from_torch(lenet(), (1, 28, 28), **options)


# Refusals ----------------------------------------------------------------------------------------

UNSUPPORTED = {
    "layer": (nn.Sequential(nn.Sequential(nn.FractionalMaxPool2d(2, 3))), r"0\.0 \(torch.*FractionalMaxPool2d\): aten"),
    "call": (Functional(lambda _, x: torch.atan(x)), r"forward of .*Functional: aten.atan.default"),
    "conv3d": (Functional(lambda _, x: F.conv3d(x.unsqueeze(2), torch.ones(2, 4, 1, 3, 3))), "conv3d"),
    "batch_statistics": (nn.BatchNorm2d(4, track_running_stats=False), "statistics of the batch"),
    "dropout_in_eval": (Functional(lambda _, x: F.dropout(x)), "training=self.training"),
    "random": (Functional(lambda _, x: x + torch.rand(1)), "random"),
    "indices": (nn.MaxPool2d(2, return_indices=True), "indices"),
    "batch_mixed": (Functional(lambda _, x: x.view(-1, 4)), "mixes the images"),
    "batch_flattened": (Functional(lambda _, x: x.flatten()), "mixes the images"),
    "cat_batch": (Functional(lambda _, x: torch.cat([x, x])), "mixes the images"),
    "batch_in_rows": (Functional(lambda _, x: F.softmax(x.transpose(0, 1), 1)), "mixes the images"),
    "batch_not_first": (Functional(lambda _, x: F.relu(x.transpose(0, 1))), "mixes the images"),
    "image_of_a_batch": (Functional(lambda _, x: x[0]), "mixes the images"),
    "parameter_in_place": (
        Functional(lambda self, x: x + self.p.relu_(), p=nn.Parameter(torch.ones(1), requires_grad=False)),
        "parameter or a buffer in place",
    ),
    "einsum_of_one": (Functional(lambda _, x: torch.einsum("nchw->nc", x)), "einsum.*of other than two operands"),
    "einsum_sum": (Functional(lambda _, x: torch.einsum("nchw,nc->nh", x, x[:, :, 0, 0])), "that sums over an axis"),
    "mean_batch": (Functional(lambda _, x: x.mean(0)), r"axes \[0\]"),
    "mean_all": (Functional(lambda _, x: x + x.mean()), r"axes \[0, 1, 2, 3\] mixes the images"),
    "argmax_all": (Functional(lambda _, x: x + x.argmax()), "over the images"),
    "constant_for_each_image": (
        Functional(lambda _, x: x + torch.arange(float(BATCH)).view(BATCH, 1, 1, 1)), "mixes the images",
    ),
    "first_images": (Functional(lambda _, x: x[: BATCH + 3]), "mixes the images"),
    "einsum_sizes": (Functional(lambda _, x: torch.einsum("bij,bjk->bik", torch.ones(1, 4, 11), x[:, 0])), "einsum"),
    "taken_from_all": (Functional(lambda _, x: torch.take_along_dim(x, torch.tensor([0]))), "flattened images"),
    "matrix_of_a_row": (Functional(lambda _, x: torch.ones(3, BATCH) @ x.mean((2, 3))), "mixes the images"),
    "row_left": (Functional(lambda _, x: torch.ones(11) @ x), "of a constant and a row"),
    "column_right": (Functional(lambda _, x: x @ torch.ones(13)), "with a constant column"),
    "integers": (Functional(lambda _, x: x.long().float()), "torch.int64"),
    "sum_of_truths": (Functional(lambda _, x: (x > 0) + (x < 1)), "gives torch.bool"),
    "bits": (Functional(lambda _, x: x.argmax(1) & x.argmin(1)), "torch.int64"),
    "computed_indices": (Functional(lambda _, x: x.gather(1, x.argmax(1, keepdim=True))), "computed from the image"),
    "flipped_batch": (Functional(lambda _, x: x.flip(0)), "mixes the images"),
    "random_slopes": (Functional(lambda _, x: F.rrelu(x, training=True)), r"training=self\.training|random"),
    "set": (Functional(lambda _, x: {F.relu(x)}), "Functional: returns a set; wrap it"),
    "object": (Functional(lambda _, x: {"a": [F.relu(x), object()]}), r"returns a object as a\.1; wrap it"),
    "constant_output": (Functional(lambda _, x: (F.relu(x), torch.ones(3))), "output 1 does not"),
    "number_output": (Functional(lambda _, x: {"out": F.relu(x), "loss": 0.5}), "output 1 does not"),
    "control_flow": (Functional(lambda _, x: x if x.sum() > 0 else -x), "cannot trace"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported(module: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=message):
        from_torch(module, IMAGE)


def test_softmax_over_the_batch() -> None:
    with pytest.raises((UnsupportedOperatorError, ArgumentError), match=r"softmax|batch"):
        from_torch(nn.Softmax(0), IMAGE)


def test_shape_that_the_module_does_not_take(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ShapeError, match=r"\(1, 32, 32\).*mat1 and mat2.*input_shape"):
        from_torch(lenet(), (1, 32, 32))
    assert capfd.readouterr() == ("", ""), "what torch logs is for its developers"
    with pytest.raises(ShapeError, match="input_shape"):
        from_torch(lenet(), (1, 1, 28, 28))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lenet().state_dict(), "torch.nn.Module, got OrderedDict"),
        (nn.Bilinear(2, 2, 2), "cannot be called with one batch"),
        (nn.LazyConv2d(4, 3), "lazy"),
    ],
)
def test_arguments(module: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        from_torch(module, (1, 28, 28))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript() -> None:
    with pytest.raises(ArgumentError, match="TorchScript"):
        from_torch(torch.jit.script(nn.ReLU()), IMAGE)


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="pip install torch"):
        from_torch(lenet(), (1, 28, 28))


def test_input_shape_must_be_ints() -> None:
    with pytest.raises(ArgumentError, match="input_shape"):
        from_torch(lenet(), 28)
    with pytest.raises(ShapeError, match="input_shape"):
        from_torch(lenet(), (1, -28, 28))


def test_export_batch_is_not_a_size_of_the_network() -> None:
    """A reshape that only fits the example batch would be taken for one that keeps the images."""
    with pytest.raises(UnsupportedOperatorError, match="mixes the images"):
        from_torch(Functional(lambda _, x: x.view(2, -1)), (4, 3, 2))
    assert BATCH not in (1, 2, 3, 4, 8, 16, 32, 64)


# Back to PyTorch ---------------------------------------------------------------------------------


def test_to_torch_computes_the_same() -> None:
    module = randomise(
        nn.Sequential(
            nn.Conv2d(3, 4, (2, 3), padding="same"), nn.BatchNorm2d(4), nn.ReLU6(),
            nn.ReflectionPad2d(1), nn.MaxPool2d(2, 1, 1), nn.Dropout(), nn.AvgPool2d(2),
            nn.Unflatten(1, (2, 2)), nn.Flatten(1), nn.Linear(100, 5), nn.LogSoftmax(1),
        )
    ).eval()  # fmt: skip
    graph = from_torch(module, (3, 7, 7))
    back = to_torch(graph)
    x = torch.randn(2, 3, 7, 7)
    assert not back.training
    torch.testing.assert_close(back(x), module(x), rtol=1e-5, atol=1e-6)
    names = {name: tuple(value.shape) for name, value in back.state_dict().items()}
    assert names["0_weight"] == (4, 3, 2, 3)
    assert names["1_running_mean"] == (4,)
    assert {name for name, _ in back.named_buffers()} == {"1_running_mean", "1_running_var"}
    check(back, (3, 7, 7), tolerance=1e-6)


def test_to_torch_registers_shared_arrays_once() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    back = to_torch(from_torch(nn.Sequential(conv, conv), (3, 5, 5)))
    assert len(list(back.parameters())) == 2
    assert sum(p.numel() for p in back.parameters()) == 3 * 3 * 9 + 3


@pytest.mark.parametrize("labels", ["abc", 5])
def test_labels_are_a_list(labels: object) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    with pytest.raises(ArgumentError, match="labels must be a list of strings, one for each class, got"):
        from_torch(net, (3, 2, 2), labels=labels)  # type: ignore[arg-type]
