"""Signals (N, C, L): the functions, the layers of PyTorch and ONNX, and that no reshape is left between layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import assert_agree, engine, torch_call
from compiling import assert_equals_interpreter, batch_of
from graphs import build, norm, op, random
from rewriting import assert_untouched, rewritten_by, summary

import fastconv
from fastconv.compile import compile_graph
from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Node
from fastconv.rewrite import optimize, remove
from fastconv.rewrite.signal import lift_signals

Arrays = tuple[tuple[int, ...], ...]

X = (2, 3, 20)
CALLS: list[tuple[str, Arrays, dict[str, Any]]] = [
    *(
        ("conv1d", arrays, attrs)
        for arrays in ((X, (5, 3, 4), (5,)), ((3, 17), (5, 3, 4), (5,)), ((0, 3, 20), (5, 3, 4)))
        for attrs in (
            {},
            {"stride": 2, "padding": 3},
            {"stride": (3,), "padding": (1,), "dilation": (2,)},
            {"padding": "same", "dilation": 3},
            {"padding": "valid", "stride": 2},
        )
    ),
    ("conv1d", ((2, 6, 9), (4, 3, 3)), {"groups": 2}),
    ("conv1d", ((2, 17, 33), (17, 1, 3), (17,)), {"groups": 17, "padding": 1}),
    ("conv1d", ((1, 1, 8000), (32, 1, 80), (32,)), {"stride": 4}),
    *(
        ("conv_transpose1d", arrays, attrs)
        for arrays in ((X, (3, 5, 4), (5,)), ((3, 2), (3, 5, 4), (5,)), ((3, 1), (3, 5, 4)), ((0, 3, 4), (3, 5, 4)))
        for attrs in (
            {},
            {"stride": 2, "padding": 1},
            {"stride": (3,), "padding": (1,), "output_padding": (2,)},
            {"stride": 2, "dilation": 3, "output_padding": 2},
        )
    ),
    ("conv_transpose1d", ((2, 6, 9), (6, 2, 3)), {"groups": 3, "stride": 2}),
    *(
        (name, (shape,), attrs)
        for name in ("max_pool1d", "avg_pool1d")
        for shape in (X, (3, 9), (1, 17, 33))
        for attrs in (
            {"kernel_size": 2},
            {"kernel_size": (3,), "stride": (2,), "padding": (1,)},
            {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        )
    ),
    *(("max_pool1d", (shape,), {"kernel_size": 3, "dilation": 2, "return_indices": True}) for shape in (X, (3, 9))),
    ("avg_pool1d", (X,), {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    *(
        (name, (shape,), {"output_size": size})
        for name in ("adaptive_avg_pool1d", "adaptive_max_pool1d")
        for shape in (X, (3, 9))
        for size in (1, 4, (7,), 30)
    ),
    ("adaptive_max_pool1d", (X,), {"output_size": 3, "return_indices": True}),
    *(
        ("interpolate", (X,), attrs)
        for attrs in (
            {"size": 33},
            {"size": (7,), "mode": "nearest-exact"},
            {"scale_factor": 1.7, "mode": "linear"},
            {"scale_factor": (0.4,), "mode": "linear"},
            {"size": 9, "mode": "linear", "align_corners": True},
        )
    ),
]


def _id(call: tuple[str, Arrays, dict[str, Any]]) -> str:
    return f"{call[0]}-{call[1]}-{call[2]}".replace(" ", "")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", CALLS, ids=_id)
def test_functions(call: tuple[str, Arrays, dict[str, Any]], dtype: Any) -> None:
    pytest.importorskip("torch")
    name, shapes, attrs = call
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    expected = torch_call(name, *(array.astype(np.float64) for array in arrays), **attrs)
    assert_agree(engine(name, *arrays, **attrs), expected, np.dtype(dtype))


@pytest.mark.parametrize("align_corners", [False, True])
def test_interpolation_keeps_infinity(align_corners: bool) -> None:
    pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 11)).astype(np.float32)
    x[0, 1, 4], x[1, 2, 0], x[1, 0, 10] = np.inf, -np.inf, np.nan
    attrs = {"size": 29, "mode": "linear", "align_corners": align_corners}
    expected = torch_call("interpolate", x.astype(np.float64), **attrs)
    assert_agree(engine("interpolate", x, **attrs), expected, x.dtype)


REFUSED: list[tuple[str, Arrays, dict[str, Any]]] = [
    *(("conv1d", (X, (5, 3, 4)), {"stride": value}) for value in (0, (1, 2), 1.5, None, (), True)),
    *(("conv1d", (X, (5, 3, 4)), {"padding": value}) for value in (-1, (1, 2), "full", None)),
    ("conv1d", (X, (5, 3, 4)), {"padding": "same", "stride": 2}),
    ("conv1d", (X, (5, 3, 24)), {}),
    ("conv1d", (X, (5, 2, 4)), {}),
    ("conv1d", (X, (5, 3, 4, 1)), {}),
    ("conv1d", ((20,), (5, 3, 4)), {}),
    ("conv1d", ((1, 2, 3, 20), (5, 3, 4)), {}),
    ("conv1d", (X, (5, 3, 4), (4,)), {}),
    *(("conv_transpose1d", (X, (3, 5, 4)), {"output_padding": value}) for value in (1, -1, (0, 0))),
    *(("conv_transpose1d", (X, (3, 5, 4)), {"stride": value}) for value in (0, (1, 2), None)),
    ("conv_transpose1d", (X, (3, 5, 4)), {"padding": 30}),
    ("conv_transpose1d", (X, (2, 5, 4)), {}),
    *((name, (X,), {"kernel_size": value}) for name in ("max_pool1d", "avg_pool1d") for value in (0, (1, 2), 30, None)),
    *((name, ((20,),), {"kernel_size": 2}) for name in ("max_pool1d", "avg_pool1d")),
    *((name, (X,), {"kernel_size": 2, "padding": 2}) for name in ("max_pool1d", "avg_pool1d")),
    *(
        (name, (X,), {"output_size": value})
        for name in ("adaptive_avg_pool1d", "adaptive_max_pool1d")
        for value in (-1, (1, 2), 1.5)
    ),
    ("interpolate", (X,), {"size": 3, "mode": "bilinear"}),
    ("interpolate", ((2, 3, 4, 5),), {"size": 3, "mode": "linear"}),
    ("interpolate", (X,), {"size": (3, 4)}),
    ("interpolate", ((20,),), {"size": 3}),
]


@pytest.mark.parametrize("call", REFUSED, ids=_id)
def test_refusals(call: tuple[str, Arrays, dict[str, Any]]) -> None:
    name, shapes, attrs = call
    arrays = [np.ones(shape, np.float32) for shape in shapes]
    with pytest.raises(FastconvError, match=f"^{name}: "):
        engine(name, *arrays, **attrs)
    pytest.importorskip("torch")
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch_call(name, *arrays, **attrs)


# Rewriting ---------------------------------------------------------------------------------------


def test_an_output_has_the_name_of_its_layer(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.c2 = torch.nn.Conv1d(3, 4, 3), torch.nn.Conv1d(4, 5, 3)

        def forward(self, x: Any) -> Any:
            x = self.c1(x)
            return self.c2(x), x, self.c2(x).relu()

    model = fastconv.from_torch(Two(), (3, 20))
    assert model.output_names == ("c2", "c1", "relu")
    model.save(tmp_path / "two.npz")
    loaded = fastconv.load(tmp_path / "two.npz")
    assert loaded.output_names == ("c2", "c1", "relu")
    x = random(2, 3, 20)
    np.testing.assert_array_equal(loaded(x)["c1"], model(x)[1])
    assert fastconv.from_torch(torch.nn.Conv1d(3, 4, 3), (3, 20)).output_names == ("conv2d",)


def conv_of_signal(name: str, source: str, out: int, into: int) -> list[Node]:
    """A convolution of a signal as readers write it: reshape, conv2d, reshape."""
    length = 12
    weights = {"weight": random(out, into, 1, 3), "bias": random(out)}
    return [
        op(f"{name}.image", "reshape", source, shape=(into, 1, length)),
        Node(name, "conv2d", (f"{name}.image",), {"padding": (0, 1)}, weights),
        op(f"{name}.signal", "reshape", name, shape=(out, length)),
    ]


BETWEEN: dict[str, list[Node]] = {
    "nothing": [op("x", "identity", "a.signal")],
    "activation": [op("x", "leaky_relu", "a.signal", negative_slope=0.2)],
    "norm": [norm("x", "a.signal", 4)],
    "group_norm": [op("x", "group_norm", "a.signal", num_groups=2)],
    "itself": [op("x", "add", "a.signal", "a.signal")],
    "constant": [Node("x", "mul", ("a.signal",), {}, {"other": random(4, 1)})],
    "row": [Node("x", "add", ("a.signal",), {}, {"other": random(12)})],
    "whole": [Node("x", "sub", ("a.signal",), {}, {"other": random(4, 12)})],
    "two": [op("r", "relu", "a.signal"), op("t", "tanh", "a.signal"), op("x", "mul", "r", "t")],
    "cat_and_slice": [op("c", "cat", "a.signal", "a.signal", dim=1), op("x", "slice", "c", dim=1, start=3, end=7)],
    "in_time": [op("c", "cat", "a.signal", "a.signal", dim=2), op("x", "slice", "c", dim=2, start=3, end=15)],
    "shift": [op("x", "pad", "a.signal", padding=(2, -2))],
    "shift_both": [op("x", "pad", "a.signal", padding=(2, -2, 1, -1), value=2.0)],
    "reflect": [op("p", "pad", "a.signal", padding=(2, 1), mode="reflect"), op("x", "slice", "p", dim=2, end=12)],
}


@pytest.mark.parametrize("nodes", BETWEEN.values(), ids=BETWEEN)
def test_no_reshape_is_left_between_layers(nodes: list[Node]) -> None:
    graph = build((3, 12), *conv_of_signal("a", INPUT, 4, 3), *nodes, *conv_of_signal("b", "x", 5, 4))
    kept = [] if nodes[0].op == "identity" else [node.op for node in nodes]
    rewritten = rewritten_by((remove.drop_identities, lift_signals), graph)
    assert [node.op for node in rewritten.nodes] == ["reshape", "conv2d", *kept, "conv2d", "reshape"]


def test_outputs_between_layers_stay() -> None:
    nodes = *conv_of_signal("a", INPUT, 4, 3), op("x", "relu", "a.signal"), *conv_of_signal("b", "x", 5, 4)
    graph = rewritten_by(lift_signals, build((3, 12), *nodes, outputs=("b.signal", "x", "a.signal")))
    assert [graph.shapes[name] for name in graph.outputs] == [(5, 12), (4, 12), (4, 12)]


def test_reshapes_are_joined() -> None:
    nodes = op("r", "reshape", INPUT, shape=(4, 6)), op("s", "reshape", "r", shape=(2, 12)), op("t", "tanh", "s")
    assert summary(rewritten_by(lift_signals, build((24,), *nodes))) == ["s reshape", "t tanh"]
    nodes = op("r", "reshape", INPUT, shape=(4, 6)), op("f", "flatten", "r"), op("t", "tanh", "f")
    graph = rewritten_by(lift_signals, build((2, 3, 4), *nodes))
    assert summary(graph) == ["f flatten", "t tanh"]
    assert graph.nodes[0].attrs == {"start_dim": 1, "end_dim": 3}


def test_rows_become_an_image_without_a_copy() -> None:
    """Embedded words (L, C), transposed for a convolution, lie in memory as the convolution reads them."""
    weights = {"weight": random(5, 40, 1, 3).astype(np.float32)}
    nodes = (
        op("t", "permute", INPUT, dims=(0, 2, 1)),
        op("i", "reshape", "t", shape=(40, 1, 12)),
        Node("c", "conv2d", ("i",), {}, weights),
        op("f", "flatten", "c"),
        Node("l", "linear", ("f",), {}, {"weight": random(3, 50).astype(np.float32)}),
    )
    graph = rewritten_by(lift_signals, build((12, 40), *nodes))
    assert [node.op for node in graph.nodes] == ["reshape", "permute", "conv2d", "flatten", "linear"]
    steps = compile_graph(graph, threads=1, kernel="direct").steps
    assert [step["node"] for step in steps] == ["c", "l"]
    assert_equals_interpreter(graph, batch_of(graph, 3))


def test_what_is_no_signal_stays() -> None:
    for shape in ((4, 30), (20, 6), (4, 5, 6, 1)):
        nodes = op("r", "reshape", INPUT, shape=shape), op("t", "tanh", "r")
        assert_untouched(lift_signals, build((4, 5, 6), *nodes))
    nodes = op("r", "reshape", INPUT, shape=(4, 6)), op("s", "softmax", "r", dim=1)
    assert_untouched(lift_signals, build((4, 1, 6), *nodes))


# Networks ----------------------------------------------------------------------------------------


def text_cnn() -> tuple[Any, tuple[int, ...]]:
    """Kim, "Convolutional Neural Networks for Sentence Classification", 2014, over embedded words."""
    import torch
    from torch import nn

    class TextCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv1d(50, 20, width) for width in (3, 4, 5))
            self.fc = nn.Linear(60, 4)

        def forward(self, x: Any) -> Any:
            x = x.transpose(1, 2)
            each = [torch.relu(conv(x)) for conv in self.convs]
            over_time = [nn.functional.max_pool1d(y, y.shape[2]).squeeze(2) for y in each]
            return self.fc(torch.cat(over_time, 1))

    return TextCNN(), (21, 50)


def m5() -> tuple[Any, tuple[int, ...]]:
    """Dai et al., "Very deep convolutional neural networks for raw waveforms", 2017."""
    from torch import nn

    layers: list[Any] = []
    for into, out, kernel, stride in ((1, 16, 80, 4), (16, 16, 3, 1), (16, 32, 3, 1), (32, 32, 3, 1)):
        layers += [nn.Conv1d(into, out, kernel, stride), nn.BatchNorm1d(out), nn.ReLU(), nn.MaxPool1d(4)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 7)), (1, 4000)


def unet1d() -> tuple[Any, tuple[int, ...]]:
    import torch
    from torch import nn

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv1d(2, 8, 5, padding="same")
            self.norm = nn.BatchNorm1d(8)
            self.middle = nn.Conv1d(8, 16, 3, padding=1)
            self.up = nn.ConvTranspose1d(16, 8, 4, 2, 1)
            self.head = nn.Conv1d(16, 3, 1)

        def forward(self, x: Any) -> Any:
            first = torch.relu(self.norm(self.down(x)))
            y = torch.relu(self.middle(nn.functional.avg_pool1d(first, 2)))
            return self.head(torch.cat([self.up(y), first], 1))

    return UNet(), (2, 32)


NETWORKS = {"text_cnn": text_cnn, "m5": m5, "unet1d": unet1d}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[Any, tuple[int, ...]]:
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, shape = NETWORKS[request.param]()
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2)
        return module.eval(), shape


def assert_same(model: Any, module: Any, shape: tuple[int, ...]) -> None:
    import torch

    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.tensor(x)).numpy()
    got = model(x)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_networks_from_pytorch(network: tuple[Any, tuple[int, ...]], tmp_path: Path) -> None:
    import fastconv

    module, shape = network
    model = fastconv.from_torch(module, shape)
    assert_same(model, module, shape)
    model.save(tmp_path / "net.npz")
    assert_same(fastconv.load(tmp_path / "net.npz"), module, shape)
    middle = [node.op for node in optimize(model.graph).nodes][1:-1]
    images = [at for at, kind in enumerate(middle) if kind in ("conv2d", "conv_transpose2d", "avg_pool2d")]
    if len(shape) == 2 and shape[0] < 3:  # the layers of a text network all read the words
        assert "reshape" not in middle[images[0] : images[-1]]


def test_summary_and_profile_know_reshapes_that_rewriting_adds() -> None:
    torch = pytest.importorskip("torch")
    import fastconv

    module = torch.nn.Sequential(torch.nn.Conv1d(4, 5, 3), torch.nn.ReLU()).eval()
    model = fastconv.from_torch(module, (4, 9))
    rows = model.summary().rows
    assert [row.op for row in rows] == ["reshape", "conv2d + relu", "reshape"]
    assert rows[1].name == "0 + 1"
    assert rows[2].output_shape == (5, 7)
    assert "0 + 1" in str(model.profile(np.zeros((4, 9), np.float32)))


def test_networks_through_onnx(network: tuple[Any, tuple[int, ...]], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    import torch
    from test_onnx_torch import export

    import fastconv

    module, shape = network
    export(module, torch.randn(2, *shape), tmp_path / "net.onnx")
    assert_same(fastconv.load(tmp_path / "net.onnx"), module, shape)


LAYERS: dict[str, Callable[[Any], Any]] = {
    "conv": lambda nn: nn.Conv1d(4, 6, 3, 2, 1, 2, groups=2),
    "conv_same": lambda nn: nn.Conv1d(4, 6, 4, padding="same"),
    "conv_circular": lambda nn: nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"),
    "conv_transpose": lambda nn: nn.ConvTranspose1d(4, 6, 4, 3, 1, 2, 2),
    "max_pool": lambda nn: nn.MaxPool1d(3, 2, 1),
    "avg_pool": lambda nn: nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "adaptive_avg": lambda nn: nn.AdaptiveAvgPool1d(4),
    "adaptive_max": lambda nn: nn.AdaptiveMaxPool1d(4),
    "nearest": lambda nn: nn.Upsample(scale_factor=3),
    "linear": lambda nn: nn.Upsample(scale_factor=1.5, mode="linear"),
    "linear_to": lambda nn: nn.Upsample(30, mode="linear", align_corners=True),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_from_pytorch(layer: Callable[[Any], Any]) -> None:
    torch = pytest.importorskip("torch")
    import fastconv

    module = torch.nn.Sequential(torch.nn.Tanh(), layer(torch.nn)).eval()
    model = fastconv.from_torch(module, (4, 17))
    assert_same(model, module, (4, 17))
    assert "1" in {node.name for node in model.graph.nodes}
