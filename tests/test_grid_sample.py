"""Images sampled at places: beside PyTorch, places that are no numbers or far away, and spatial transformers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import assert_agree
from compiling import assert_equals_interpreter, batch_of, in_float64, outputs_of
from graphs import op

import fastconv
import fastconv.functional as F
from fastconv.compile import compile_graph
from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Graph, Node

torch = pytest.importorskip("torch")
MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
LARGE = 1e30
SPECIAL = [np.nan, np.inf, -np.inf, LARGE, -LARGE, 3e4, -3e4, 1.0, -1.0, 0.0]


def torch_samples(x: np.ndarray, grid: np.ndarray, *how: Any) -> np.ndarray:
    result: np.ndarray = torch.nn.functional.grid_sample(torch.tensor(x), torch.tensor(grid), *how).numpy()
    return result


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_inside_and_around(mode: str, padding: str, align: bool) -> None:
    """Places up to some images away; channels around the vector width."""
    rng = np.random.default_rng(0)
    for channels in (1, 3, 7, 8, 9, 16, 17, 33):
        for height, width in ((1, 1), (1, 6), (5, 1), (7, 9)):
            x = rng.standard_normal((2, channels, height, width)).astype(np.float32)
            grid = rng.uniform(-3, 3, (2, 5, 6, 2)).astype(np.float32)
            expected = torch_samples(x.astype(np.float64), grid.astype(np.float64), mode, padding, align)
            assert_agree(F.grid_sample(x, grid, mode, padding, align), expected, np.dtype(np.float32))
            twice = F.grid_sample(x.astype(np.float64), grid.astype(np.float64), mode, padding, align)
            assert_agree(twice, expected, np.dtype(np.float64))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 6])
def test_places_that_are_no_numbers_or_far_away(mode: str, padding: str, align: bool, size: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 9, size, 6)).astype(np.float32)
    grid = np.array([[[(a, b) for a in SPECIAL] for b in SPECIAL]], np.float32)
    got, expected = F.grid_sample(x, grid, mode, padding, align), torch_samples(x, grid, mode, padding, align)
    if padding == "reflection":  # where what is far away comes to lie is a matter of rounding
        far = np.isfinite(grid).all(-1) & (np.abs(grid) > 1).any(-1)
        assert np.isfinite(got.transpose(0, 2, 3, 1)[far]).all()
        got, expected = (np.where(far[:, None], 0, y) for y in (got, expected))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_pixels_that_are_no_numbers(mode: str, value: float) -> None:
    """They reach what is made of them, if with a weight of 0, and nothing else."""
    x = np.random.default_rng(0).standard_normal((1, 9, 6, 6)).astype(np.float32)
    x[:, 4, 2, 3] = value
    axis = (2 * np.arange(6, dtype=np.float32)) / 5 - 1
    grid = np.stack(np.meshgrid(axis, axis), -1)[np.newaxis]
    grid = np.concatenate([grid, np.random.default_rng(1).uniform(-1.2, 1.2, grid.shape).astype(np.float32)], 1)
    for padding in PADDINGS:
        expected = torch_samples(x.astype(np.float64), grid.astype(np.float64), mode, padding, True)
        got = F.grid_sample(x.astype(np.float64), grid.astype(np.float64), mode, padding, True)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_a_grid_that_the_network_computes(mode: str, padding: str) -> None:
    """Each image has its own, whatever the threads and the place in the batch."""
    nodes = (
        Node("seen", "conv2d", ("image",), {}, {"weight": np.ones((17, 3, 1, 1), np.float32)}),
        op("y", "grid_sample", "seen", "grid", mode=mode, padding_mode=padding),
    )
    graph = Graph({"image": (3, 7, 9), "grid": (5, 11, 2)}, nodes, ("y",))
    x = batch_of(graph, 5)
    for version, arrays in ((graph, x), (in_float64(graph), tuple(array.astype(np.float64) for array in x))):
        assert_equals_interpreter(version, arrays)
    one, two = (outputs_of(compile_graph(graph, threads=n), x)[0] for n in (1, 2))
    assert one.tobytes() == two.tobytes()


class Transformer(torch.nn.Module):  # type: ignore[misc]
    """Jaderberg's spatial transformer in front of a classifier, as PyTorch's tutorial has it."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        nn = torch.nn
        self.align_corners = align_corners
        self.localize = nn.Sequential(
            *(nn.Conv2d(1, 8, 7), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(90, 32), nn.ReLU(), nn.Linear(32, 6)),
        )
        self.classify = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 24 * 24, 10))

    def forward(self, x: Any) -> Any:
        theta = self.localize(x).view(-1, 2, 3)
        grid = torch.nn.functional.affine_grid(theta, list(x.size()), align_corners=self.align_corners)
        return self.classify(torch.nn.functional.grid_sample(x, grid, align_corners=self.align_corners))


@pytest.mark.parametrize("align", [False, True])
def test_a_spatial_transformer(align: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Transformer(align).eval()
    x = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        expected = net(x).numpy()
    model = fastconv.from_torch(net, (1, 28, 28))
    assert "grid_sample" in {node.op for node in model.graph.nodes}
    np.testing.assert_allclose(model(x.numpy()), expected, atol=1e-5)
    model.save(tmp_path / "net.npz")
    np.testing.assert_array_equal(fastconv.load(tmp_path / "net.npz")(x.numpy()), model(x.numpy()))


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_spatial_transformer_through_onnx(dynamo: bool, opset: int, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    if not dynamo and opset < 20:
        pytest.skip("that exporter has AffineGrid from opset 20 on")
    torch.manual_seed(0)
    net = Transformer(False).eval()
    x = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        expected = net(x).numpy()
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = {"dynamic_shapes": {"x": {0: torch.export.Dim("batch")}}} if dynamo else {"dynamic_axes": {"x": {0: "b"}}}
        torch.onnx.export(
            net, (x[:2],), path, dynamo=dynamo, opset_version=opset, input_names=["x"], verbose=False, **how
        )
    np.testing.assert_allclose(fastconv.load(path)(x.numpy()), expected, atol=1e-5)


def test_a_constant_grid_of_a_constant_matrix(tmp_path: Path) -> None:
    class Turned(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("theta", torch.tensor([[[0.8, -0.6, 0.1], [0.6, 0.8, 0.0]]]))

        def forward(self, x: Any) -> Any:
            theta = self.theta.expand(len(x), -1, -1)
            grid = torch.nn.functional.affine_grid(theta, [len(x), 3, 6, 7], align_corners=False)
            return torch.nn.functional.grid_sample(x, grid, "bicubic", "reflection", align_corners=False)

    x = torch.randn(3, 3, 9, 8)
    model = fastconv.from_torch(Turned(), (3, 9, 8))
    assert [node.op for node in model.graph.nodes] == ["grid_sample"]
    np.testing.assert_allclose(model(x.numpy()), Turned()(x).numpy(), atol=1e-5)
    model.save(tmp_path / "net.npz")
    np.testing.assert_array_equal(fastconv.load(tmp_path / "net.npz")(x.numpy()), model(x.numpy()))


REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "one image": ((np.zeros((3, 4, 4)), np.zeros((2, 2, 2))), r"input must be \(N, C, H, W\), got shape \(3, 4, 4\)"),
    "another batch": ((np.zeros((2, 3, 4, 4)), np.zeros((1, 2, 2, 2))), r"grid must be \(2, H', W', 2\)"),
    "a grid of three": ((np.zeros((1, 3, 4, 4)), np.zeros((1, 2, 2, 3))), r"needs a grid \(H', W', 2\)"),
    "no pixels": ((np.zeros((1, 3, 0, 4)), np.zeros((1, 2, 2, 2))), r"cannot sample an image of \(0, 4\) pixels"),
    "mode": ((np.zeros((1, 3, 4, 4)), np.zeros((1, 2, 2, 2)), "area"), r"mode must be one of bilinear, nearest"),
    "padding": (
        (np.zeros((1, 3, 4, 4)), np.zeros((1, 2, 2, 2)), "nearest", "wrap"),
        r"padding_mode must be one of zeros, border",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(FastconvError, match=rf"grid_sample: {message}"):
        F.grid_sample(*arguments)


def test_a_network_needs_a_grid() -> None:
    with pytest.raises(FastconvError, match="y: needs two inputs, an image and a grid, or one and the constant 'grid'"):
        Graph((3, 4, 4), (op("y", "grid_sample", INPUT),), ("y",))
