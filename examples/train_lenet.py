"""Train LeNet on MNIST, save it, and print its accuracy on the test images.

    python examples/train_lenet.py FOLDER [--out lenet.npz] [--epochs 24] [--seed 0]

FOLDER holds MNIST as the IDX files ``train-images-idx3-ubyte`` and so on (``train10k-…`` too; gzip-compressed or not),
or as an ``.npz`` file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.train import AdamW, Network, Trainer, cosine, warmup

BATCH = 64
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.02
SHIFT = 2  # pixels, at most, in each direction


def lenet(seed: int) -> Network:
    """Describe LeNet: (1, 28, 28) -> 10 classes."""
    net = Network((1, 28, 28), seed)
    net.conv2d(6, 5, name="conv1")
    net.relu()
    net.max_pool2d(2)
    net.conv2d(16, 5, name="conv2")
    net.relu()
    net.max_pool2d(2)
    net.flatten()
    net.linear(120, name="fc1")
    net.relu()
    net.linear(84, name="fc2")
    net.relu()
    net.linear(10, name="fc3")
    return net


def read_idx(folder: Path, parts: tuple[str, ...], kind: str) -> Any:
    """Read an IDX file: two zeros, the type (8: bytes), the number of axes, their sizes, the data."""
    for name in [f"{part}-{kind}-ubyte{end}" for part in parts for end in ("", ".gz")]:
        path = folder / name
        if path.exists():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            if len(data) < 4 or data[:3] != b"\0\0\x08":
                raise SystemExit(f"{path}: is no IDX file of bytes")
            shape = np.frombuffer(data, ">u4", data[3], 4)
            return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    raise SystemExit(f"{folder}: holds neither an .npz file nor {parts[0]}-{kind}-ubyte")


def read_mnist(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Return the training images and labels, and those of the test; images (N, 1, 28, 28), 0..1."""
    archives = sorted(folder.glob("*.npz"))
    if archives:
        with np.load(archives[0]) as arrays:
            x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    else:
        train, test = ("train", "train10k"), ("t10k",)
        x, y = read_idx(folder, train, "images-idx3"), read_idx(folder, train, "labels-idx1")
        x_test, y_test = read_idx(folder, test, "images-idx3"), read_idx(folder, test, "labels-idx1")
    x, x_test = (np.asarray(images, np.float32).reshape(-1, 1, 28, 28) / 255 for images in (x, x_test))
    return x, y.astype(np.int64), x_test, y_test.astype(np.int64)


def shifted(x: Any, rng: np.random.Generator) -> Any:
    """Move each image by a few pixels, another way each time."""
    padded = np.pad(x, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, x.shape[2:], (2, 3))
    down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(x)))
    return windows[np.arange(len(x)), :, down, right]


def main() -> None:
    """Train, save, evaluate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", default="lenet.npz")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    x, y, x_test, y_test = read_mnist(options.folder)
    rng = np.random.default_rng(options.seed)
    steps = options.epochs * -(-len(x) // BATCH)
    schedule = warmup(max(steps // 10, 1), cosine(max(steps - steps // 10, 1)))
    graph = lenet(options.seed).graph(labels=[str(digit) for digit in range(10)])
    trainer = Trainer(
        graph, optimizer=AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY), schedule=schedule, seed=options.seed
    )
    for _ in range(options.epochs):
        (epoch,) = trainer.fit(shifted(x, rng), y, 1, BATCH, progress=True)
        print(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, {epoch.seconds:.2f} s")
    trainer.model().save(options.out)
    accuracy = trainer.evaluate(x_test, y_test).accuracy
    assert accuracy is not None
    print(f"{options.out}: test accuracy {accuracy:.2%}")


if __name__ == "__main__":
    main()
