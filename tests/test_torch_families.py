"""What families of vision networks write beside plain layers, as small networks: compiled, against PyTorch.

Constants with a matrix for each index, windows and heads that share the batch's axis, columns added up (col2im), masks
of attention, and chains of calls that are one operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.graph import INPUT, Graph, Node

torch = pytest.importorskip("torch")
F = torch.nn.functional
nn = torch.nn

from compiling import assert_equals_interpreter  # noqa: E402

from fastconv.formats.torch.export import from_torch  # noqa: E402

IMAGE = (4, 11, 13)


class Call(nn.Module):
    """A module from a function of its input."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def check(module: nn.Module, shape: tuple[int, ...] = IMAGE, tolerance: float = 2e-6) -> fastconv.Model:
    """Compare with PyTorch on three images, and these with each of them alone."""
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    with torch.no_grad():
        want = module.eval()(x).numpy()
    model = fastconv.from_torch(module, shape)
    got = model(x.numpy())
    assert got.shape == want.shape
    assert np.isfinite(want).all()
    assert np.ptp(want, axis=0).max() > 0
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    for image, alone in zip(x.numpy(), got, strict=True):
        np.testing.assert_array_equal(model(image), alone)
    return model


def const(*shape: int) -> Any:
    """Return a constant without symmetry."""
    return torch.linspace(-1, 1, int(np.prod(shape))).view(*shape).sin()


# Products with constants -----------------------------------------------------------------------------

PRODUCTS = {
    "of_each_channel": lambda x: x @ const(4, 13, 5),
    "of_each_channel_left": lambda x: const(4, 5, 11) @ x,
    "of_one": lambda x: x @ const(1, 13, 5),
    "of_more_channels": lambda x: x[:, :1] @ const(3, 13, 5),
    "of_more_axes": lambda x: x[:, :, None] @ const(1, 3, 13, 5) + x.mean(1)[:, None, None] @ const(4, 3, 13, 5),
    "of_some_axes": lambda x: x.view(-1, 2, 2, 11, 13) @ const(2, 1, 13, 5),
    "of_joined_images": lambda x: (x.flatten(0, 1) @ const(1, 13, 5)).view(-1, 4, 11, 5),
    "of_groups_of_joined_images": lambda x: (
        (x.transpose(0, 1).reshape(2, -1, 11, 13) @ const(2, 1, 13, 5)).view(4, -1, 11, 5).transpose(0, 1)
    ),
    "images_among_the_rows": lambda x: (
        (x.permute(1, 2, 0, 3).reshape(4, -1, 13) @ const(4, 13, 5)).view(4, 11, -1, 5).permute(2, 0, 1, 3)
    ),
    "einsum_of_rows": lambda x: torch.einsum("nchw,hkw->nchk", x, const(11, 5, 13)),
    "einsum_of_columns": lambda x: torch.einsum("nchw,wkc->nhwk", x, const(13, 5, 4)),
    "einsum_left": lambda x: torch.einsum("ckw,nchw->nkch", const(4, 5, 13), x),
}


@pytest.mark.parametrize("call", PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_with_constants(call: Callable[[Any], Any]) -> None:
    check(Call(call))


def test_one_matrix_is_a_linear_layer() -> None:
    graph = from_torch(Call(lambda x: (x.flatten(0, 1) @ const(1, 13, 5)).view(-1, 4, 11, 5)), IMAGE)
    assert [node.op for node in graph.nodes] == ["linear"]


class Relative(nn.Module):
    """Attention with relative positions along rows and columns, as MViT v2 and SAM have it; the scores in place."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 24)
        self.rows, self.columns = nn.Parameter(torch.randn(9, 4)), nn.Parameter(torch.randn(11, 4))

    def forward(self, x: Any) -> Any:
        n, _, h, w = x.shape
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).view(n, h * w, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        along = torch.arange(h)[:, None] - torch.arange(h) + h - 1, torch.arange(w)[:, None] - torch.arange(w) + w - 1
        grid = q.reshape(n, 2, h, w, 4)
        rows = torch.einsum("byhwc,hkc->byhwk", grid, self.rows[along[0]])
        columns = torch.einsum("byhwc,wkc->byhwk", grid, self.columns[along[1]])
        bias = rows.unsqueeze(-1) + columns.unsqueeze(-2)
        scores[:] = (scores.view(n, 2, h, w, h, w) + bias).view(n, 2, h * w, h * w)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, h * w, 8)


class Shifted(nn.Module):
    """Relative logits by padding and cutting, as bottleneck transformers have it, with heads beside the batch."""

    def forward(self, x: Any) -> Any:
        n, _, h, w = x.shape
        q = x.reshape(n * 2, 2, h, w).permute(0, 2, 3, 1)
        logits = (q @ const(2, 2 * w - 1)).reshape(-1, w, 2 * w - 1)
        flat = F.pad(F.pad(logits, [0, 1]).flatten(1), [0, w - 1])
        logits = flat.reshape(-1, w + 1, 2 * w - 1)[:, :w, w - 1 :]
        return (
            logits.reshape(n * 2, h, 1, w, w).expand(-1, -1, h, -1, -1).permute(0, 1, 3, 2, 4).reshape(n, 2, h * w, -1)
        )


class Outlook(nn.Module):
    """VOLO's outlook attention: what each pixel attends to around it, added up where it belongs."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.v, self.scores, self.stride = nn.Linear(4, 4), nn.Linear(4, 162), stride

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        frame = {"kernel_size": 3, "padding": 1, "stride": self.stride}
        v = F.unfold(self.v(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), **frame)
        count = v.shape[-1]
        v = v.reshape(n, 2, c // 2, 9, count).permute(0, 1, 4, 3, 2)
        pooled = F.avg_pool2d(x, self.stride, self.stride, ceil_mode=True).permute(0, 2, 3, 1)
        scores = self.scores(pooled).reshape(n, count, 2, 9, 9).permute(0, 2, 1, 3, 4)
        y = (scores.softmax(-1) @ v).permute(0, 1, 4, 3, 2).reshape(n, c * 9, count)
        return F.fold(y, (h, w), **frame)


@pytest.mark.parametrize("net", [Relative(), Shifted(), Outlook(1), Outlook(2)], ids=lambda net: type(net).__name__)
def test_attention_of_a_family(net: nn.Module) -> None:
    torch.manual_seed(0)
    check(net, (4, 5, 6), 1e-5)


# Windows and heads beside the batch ------------------------------------------------------------------


def shares(function: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """Apply a function to images that share the batch's axis with what stands behind it, before it, on both sides."""

    def behind(x: Any) -> Any:
        y = function(x.reshape(-1, 2, 11, 13))
        return y.reshape(len(x), 2, *y.shape[1:])

    def before(x: Any) -> Any:
        y = function(x.view(-1, 2, 2, 11, 13).transpose(0, 1).reshape(-1, 2, 11, 13))
        return y.reshape(2, len(x), *y.shape[1:]).transpose(0, 1)

    def around(x: Any) -> Any:
        y = function(x.view(-1, 2, 1, 2, 11, 13).permute(1, 0, 3, 2, 4, 5).expand(-1, -1, -1, 2, -1, -1).flatten(0, 2))
        return y.reshape(2, len(x), 2, *y.shape[1:]).transpose(0, 1)

    return {"behind": behind, "before": before, "around": around}


OF_WINDOWS = {
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "avg_pool": lambda x: F.avg_pool2d(x, (2, 3), ceil_mode=True, count_include_pad=False),
    "adaptive_pool": lambda x: F.adaptive_avg_pool2d(x, (3, 4)) + F.adaptive_max_pool2d(x, (3, 4)),
    "resized": lambda x: F.interpolate(x, (5, 17), mode="bilinear"),
    "padded": lambda x: F.pad(x, (1, -2, 3, 0, 1, 0), value=0.5),
    "reflected": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
}


@pytest.mark.parametrize("call", OF_WINDOWS.values(), ids=OF_WINDOWS)
@pytest.mark.parametrize("place", ["behind", "before", "around"])
def test_windows_by_channel(place: str, call: Callable[[Any], Any]) -> None:
    check(Call(shares(call)[place]))


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "one_pixel": {"kernel_size": 1},
    "padded": {"kernel_size": 3, "padding": 1},
    "by_channel": {"kernel_size": 3, "padding": 1, "groups": 2},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "stride_beyond_the_kernel": {"kernel_size": 2, "stride": (4, 3)},
    "more_padding_than_kernel": {"kernel_size": 1, "padding": 2, "stride": 2},
    "uneven": {"kernel_size": (5, 2), "padding": (3, 0), "stride": (3, 2)},
    "same": {"kernel_size": (4, 3), "padding": "same", "dilation": 2},
    "without_bias": {"kernel_size": 3, "dilation": (2, 1), "bias": False},
    "the_whole_window": {"kernel_size": (11, 13)},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("place", ["behind", "before", "around"])
def test_a_convolution_of_windows(place: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 6, **options)
    model = check(Call(shares(conv)[place]))
    assert sum(array.size for node in model.graph.nodes for array in node.weights.values()) == sum(
        parameter.numel() for parameter in conv.parameters()
    ), "weights are not repeated"


PADS = [(1, 2), (0, 0, 1, 2), (-1, 3, 0, 2, 1, -1), (1, 1, 1, 1, 1, 1, 1, 1), (0, 1, -2, -3), (0, 0, 0, 0, 2, 0, 0, 3)]


@pytest.mark.parametrize("widths", PADS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 1, 6, 7, 17)])
def test_padding_of_many_axes(shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    graph = Graph(shape, (Node("pad", "pad", (INPUT,), {"padding": widths, "value": -0.5}),), ("pad",))
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    assert_equals_interpreter(graph, x)


# Columns added up --------------------------------------------------------------------------------------

FRAMES: dict[str, dict[str, Any]] = {
    "overlapping": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "uneven": {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 0), "stride": (3, 2)},
    "apart": {"kernel_size": 2, "stride": 3},
    "one_pixel": {"kernel_size": 1},
    "all": {"kernel_size": (11, 13)},
    "mostly_padding": {"kernel_size": 2, "padding": 4, "stride": 5},
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_columns_added_up(frame: dict[str, Any]) -> None:
    check(Call(lambda x: F.fold(F.unfold(x, **frame).sin(), (11, 13), **frame)))


def test_columns_of_windows() -> None:
    check(Call(lambda x: F.fold(x.reshape(-1, 18, 20), (4, 5), 3, padding=1).reshape(-1, 2, 2, 4, 5)), (36, 20))


def test_columns_carry_nan_to_their_pixels_only() -> None:
    call = Call(lambda x: F.fold(x, (4, 5), 3, padding=1))
    x = torch.randn(1, 18, 20)
    x[0, 3, 7], x[0, 13, 8] = float("nan"), float("inf")
    np.testing.assert_allclose(fastconv.from_torch(call, (18, 20))(x.numpy()), call(x).numpy(), rtol=1e-5, atol=1e-6)


# Masks of attention ----------------------------------------------------------------------------------------


def attention(x: Any, mask: Any = None, **options: Any) -> Any:
    """Attend from 11 places to 9."""
    return F.scaled_dot_product_attention(
        x[..., :8], 2 * x[..., :9, 3:11], x[..., 1:10, 2:9] + 1, attn_mask=mask, **options
    )


TAKEN = const(11, 9).mul(50).sin() > -0.3
NO_ROW_3 = TAKEN & (torch.arange(11) != 3)[:, None]
MASKS = {
    "causal": lambda x: attention(x, is_causal=True),
    "truths": lambda x: attention(x, TAKEN),
    "truths_of_heads": lambda x: attention(x, const(1, 4, 11, 9) > 0.1),
    "truths_of_keys": lambda x: attention(x, (torch.arange(9) < 5)[None, None, None].expand(len(x), -1, -1, -1)),
    "a_row_without_any": lambda x: attention(x, NO_ROW_3),
    "a_row_of_minus_infinity": lambda x: attention(x, torch.zeros(11, 9).masked_fill(~NO_ROW_3, -torch.inf)),
    "numbers": lambda x: attention(x, const(4, 11, 9)),
    "computed_numbers": lambda x: attention(x, x[:, :1, :, :9]),
    "computed_numbers_of_keys": lambda x: attention(x, x[:, 0, :1, :9].unsqueeze(1)),
    "computed_truths": lambda x: attention(x, (x[:, :1, :, :9] > 0.3) & TAKEN),
    "computed_rows_without_any": lambda x: attention(x, x[:, :1, :, :9] > 1.5),
    "heads_beside_the_batch": lambda x: attention(x.flatten(0, 1), TAKEN).view(-1, 4, 11, 7),
    "shared_keys": lambda x: F.scaled_dot_product_attention(x, x[:, 1:3], x[:, :2], TAKEN[:, :1], enable_gqa=True),
    "shared_learned_keys": lambda x: F.scaled_dot_product_attention(
        x, const(1, 2, 5, 13), const(1, 2, 5, 6), enable_gqa=True
    ),
    "learned_queries": lambda x: F.scaled_dot_product_attention(const(4, 5, 13).expand(len(x), -1, -1, -1), x, x),
    "learned_keys": lambda x: F.scaled_dot_product_attention(x, const(4, 5, 13), const(4, 5, 6), scale=0.3),
}


@pytest.mark.parametrize("call", MASKS.values(), ids=MASKS)
def test_a_mask_of_attention(call: Callable[[Any], Any]) -> None:
    check(Call(call))


class Tokens(nn.Module):
    """PyTorch's attention over pixels, with a mask."""

    def __init__(self, weights: bool, **mask: Any) -> None:
        super().__init__()
        self.attend, self.weights, self.mask = nn.MultiheadAttention(12, 3, batch_first=True), weights, mask

    def forward(self, x: Any) -> Any:
        x = x.flatten(2).transpose(1, 2)
        mask = {key: value(x) if callable(value) else value for key, value in self.mask.items()}
        return self.attend(x, x, x, need_weights=self.weights, **mask)[0]


CAUSAL = nn.Transformer.generate_square_subsequent_mask(12)
MASKS_OF_TOKENS: dict[str, dict[str, Any]] = {
    "causal": {"attn_mask": CAUSAL, "is_causal": True},
    "numbers": {"attn_mask": CAUSAL},
    "truths": {"attn_mask": CAUSAL < 0},
    "computed_truths": {"key_padding_mask": lambda x: x[..., 0] > 0.5},
    "computed_numbers": {"key_padding_mask": lambda x: x[..., 0], "attn_mask": CAUSAL},
}


@pytest.mark.parametrize("mask", MASKS_OF_TOKENS.values(), ids=MASKS_OF_TOKENS)
@pytest.mark.parametrize("weights", [False, True])
def test_a_mask_of_multihead_attention(mask: dict[str, Any], weights: bool) -> None:
    torch.manual_seed(0)
    check(Tokens(weights, **mask), (12, 3, 4))


# Chains of calls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"size": 5}, {"size": 2, "alpha": 0.5, "beta": 0.6, "k": 2}, {"size": 1}])
@pytest.mark.parametrize("shape", [(7, 6, 5), (7, 6), (7, 2, 3, 4)], ids=str)
def test_local_response_norm_is_one_operator(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    model = check(nn.LocalResponseNorm(**options), shape)
    assert [node.op for node in model.graph.nodes if node.op != "reshape"] == ["local_response_norm"]


def response(x: Any, pad: tuple[int, int] = (1, 1), kernel: int = 3, square: Any = None) -> Any:
    """Normalise signals as PyTorch does, or nearly so."""
    square = (x * x if square is None else square).unsqueeze(1)
    mean = F.avg_pool2d(F.pad(square, (0, 0, *pad)), (kernel, 1), stride=1).squeeze(1)
    return x / mean.mul(0.5).add(1.0).pow(0.75)


NEARLY = {
    "other_channels": lambda x: response(x, (2, 0)),
    "of_another": lambda x: response(x, square=x * x.relu()),
    "by_a_channel": lambda x: (
        x / F.avg_pool2d((x * x).unsqueeze(1), (1, 1)).squeeze(1).mul(const(7, 1).abs()).add(1).pow(0.7)
    ),
    "read_twice": lambda x: (y := (x * x).unsqueeze(1), response(x, square=y.squeeze(1)) + y.squeeze(1))[1],
}


@pytest.mark.parametrize("call", NEARLY.values(), ids=NEARLY)
def test_what_is_nearly_a_local_response_norm(call: Callable[[Any], Any]) -> None:
    model = check(Call(call), (7, 6))
    assert "local_response_norm" not in [node.op for node in model.graph.nodes]
    assert [node.op for node in from_torch(Call(response), (7, 6)).nodes][1] == "local_response_norm"


def test_a_local_response_norm_of_what_changes_in_between() -> None:
    def forward(x: Any) -> Any:
        y = 1 * x
        divisor = F.avg_pool2d(F.pad((y * y).unsqueeze(1), (0, 0, 1, 1)), (3, 1), stride=1).squeeze(1)
        divisor = divisor.mul(0.5).add(1.0).pow(0.75)
        y[:, 1:].add_(1)
        return y / divisor

    check(Call(forward), (7, 6))


WINDOWS_3D: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "stride": {"kernel_size": (2, 3, 1), "stride": (1, 2, 3), "padding": (1, 1, 0)},
    "ceil": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    "inside": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    "divisor": {"kernel_size": (2, 3, 2), "divisor_override": 5},
    "planes": {"kernel_size": (2, 1, 1), "divisor_override": 5},
}


@pytest.mark.parametrize("window", WINDOWS_3D.values(), ids=WINDOWS_3D)
def test_average_over_three_axes(window: dict[str, Any]) -> None:
    check(Call(lambda x: F.avg_pool3d(x.view(-1, 2, 4, 12, 13), **window)), (8, 12, 13))


# In place --------------------------------------------------------------------------------------------------

COPIES = {
    "all": lambda x: (y := x.relu(), y.copy_(2 * x), y + x)[2],
    "spread": lambda x: (y := x.relu(), y.copy_(x[:, :1]), y + x)[2],
    "constant": lambda x: (y := x.relu(), y.copy_(const(13)), y * x)[2],
    "of_another": lambda x: (y := x.relu(), z := x.exp(), y.copy_(z), z.mul_(2), y.add_(1), y + 3 * z)[5],
    "into_a_constant": lambda x: (z := x.exp(), y := torch.zeros_like(x), y.copy_(z), z.mul_(2), y + z.sin())[4],
    "assigned": lambda x: (y := x * 2, y.__setitem__(slice(None), x.exp()), y + x)[2],
}


@pytest.mark.parametrize("call", COPIES.values(), ids=COPIES)
def test_a_copy_in_place(call: Callable[[Any], Any]) -> None:
    check(Call(call))
