"""`Network`, and the examples that train one."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_readme import snippets_of

import fastconv
from fastconv.errors import ArgumentError, ShapeError
from fastconv.train import Network

ROOT = Path(__file__).resolve().parents[1]


def lenet(seed: int = 0) -> Network:
    net = Network((1, 28, 28), seed)
    net.conv2d(6, 5, name="conv1")
    net.relu()
    net.max_pool2d(2)
    net.conv2d(16, (5, 5), name="conv2")
    net.relu()
    net.max_pool2d(2)
    net.flatten()
    net.linear(120, name="fc1")
    return net


def test_weights_are_drawn_as_pytorch_draws_them() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = {
        "conv1": torch.nn.Conv2d(1, 6, 5),
        "conv2": torch.nn.Conv2d(6, 16, 5),
        "fc1": torch.nn.Linear(256, 120),
    }
    graph = lenet().graph()
    for name, layer in layers.items():
        for role, bound in (("weight", layer.weight[0].numel() ** -0.5), ("bias", layer.weight[0].numel() ** -0.5)):
            ours, theirs = graph.node(name).weights[role], getattr(layer, role).detach().numpy()
            assert ours.shape == theirs.shape
            assert ours.dtype == np.float32
            assert max(np.abs(ours).max(), np.abs(theirs).max()) <= bound
        # A uniform distribution's deviation is bound / sqrt(3), and that of n draws' is within 5 / sqrt(n) of it.
        ours = graph.node(name).weights["weight"]
        assert ours.std() == pytest.approx(bound / 3**0.5, rel=5 / ours.size**0.5)
        assert abs(ours.mean()) < 4 * bound / 3**0.5 / ours.size**0.5


def test_a_seed_gives_the_same_weights() -> None:
    first, again, other = (lenet(seed).graph().node("fc1").weights["weight"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_residual_network_in_lines() -> None:
    net = Network((3, 8, 8))
    start = net.conv2d(4, 3, padding=1, bias=False)
    net.batch_norm()
    net.relu()
    net.conv2d(4, 3, padding="same", groups=2)
    net.add("add", net.last, start)
    net.add("adaptive_avg_pool2d", output_size=1)
    net.dropout(0.2)
    net.flatten()
    net.linear(5, bias=False)
    graph = net.graph(labels=list("abcde"))
    assert [node.op for node in graph.nodes] == [
        *("conv2d", "batch_norm", "relu", "conv2d", "add", "adaptive_avg_pool2d", "dropout", "flatten", "linear")
    ]
    assert [list(node.weights) for node in graph.nodes if node.op == "linear"] == [["weight"]]
    norm = {role: float(array[0]) for role, array in graph.node("batch_norm").weights.items()}
    assert norm == {"running_mean": 0, "running_var": 1, "weight": 1, "bias": 0}
    assert fastconv.Model(graph)(np.ones((2, 3, 8, 8), np.float32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("add", "error", "match"),
    [
        (lambda net: net.conv2d(4, 3, groups=2), ShapeError, "C a multiple of groups=2, input is \\(3, 8, 8\\)"),
        (lambda net: net.conv2d(0, 3), ArgumentError, "channels must be"),
        (lambda net: net.conv2d(4, 0), ArgumentError, "kernel_size must be"),
        (lambda net: net.linear(-1), ArgumentError, "features must be"),
    ],
)
def test_layers_that_do_not_fit(add: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        add(Network((3, 8, 8)))


def test_the_page_on_training_learns() -> None:
    names: dict[str, Any] = {}
    (snippet,) = snippets_of("docs/training.md")
    exec(snippet, names)
    assert names["history"][-1].loss < names["history"][0].loss / 2
    assert names["accuracy"] > 0.9
    assert isinstance(names["model"], fastconv.Model)


def example(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


def test_the_example_learns_its_kernel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example("learn_kernel.py", monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[-1]) for line in lines if line.startswith("step")]
    assert len(losses) >= 10
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-3
    kernel = [float(number) for number in lines[-1].removeprefix("kernel").split()]
    np.testing.assert_allclose(kernel, [1, -1], atol=0.05)


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "npz"])
def test_the_example_trains_a_lenet(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_digits(tmp_path, kind)
    model = tmp_path / "lenet.npz"
    example("train_lenet.py", str(tmp_path), "--out", str(model), "--epochs", "6", monkeypatch=monkeypatch)
    captured = capsys.readouterr()
    assert captured.err.count("[########################]") == 6
    assert float(captured.out.split("test accuracy")[1].split("%")[0]) > 90
    assert fastconv.load(model).input_shape == (1, 28, 28)


def write_digits(folder: Path, kind: str) -> None:
    """Write images in which a bright row stands for the class, in MNIST's encoding, or as arrays."""
    import gzip

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 1000), ("t10k", 100)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[3 + 2 * label : 5 + 2 * label] = 250
        arrays |= {f"{part}-images": images, f"{part}-labels": labels}
    if kind == "npz":
        names = {"train-images": "x_train", "train-labels": "y_train", "t10k-images": "x_test", "t10k-labels": "y_test"}
        np.savez(folder / "mnist.npz", **{names[name]: array for name, array in arrays.items()})
        return
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        data = header + array.tobytes()
        path = folder / f"{name}-idx{array.ndim}-ubyte"
        if kind == "idx":
            path.write_bytes(data)
        else:
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(data))
