"""The examples that train a network."""

from __future__ import annotations

import gzip
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv

ROOT = Path(__file__).resolve().parents[1]


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
