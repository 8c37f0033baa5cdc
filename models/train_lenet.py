"""Train the LeNet that ships with fastconv and export it as a plain PyTorch ``state_dict``.

    python models/train_lenet.py DATA_FOLDER [--out models/lenet.npz] [--epochs 100] [--seed 0]

``DATA_FOLDER`` holds MNIST in its original encoding, gzip-compressed or not:
``train10k-{images-idx3,labels-idx1}-ubyte`` (or the full ``train-…``) and ``t10k-…``.
Pixels are scaled to 0..1 and nothing else, because a plain ``state_dict`` cannot carry a
normalisation. The schedule is fixed beforehand and the last weights are kept; the test images are
read once, after training, to print the accuracy. Use ``--hold-out N`` to try other settings
against training images that were left out.

Needs ``pip install torch numpy tqdm``.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64
PEAK_LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.02

# Augmentation: each bound is the largest change drawn, uniformly on both sides of none.
ROTATION = 0.2  # radians
SCALE = 0.12  # of the size, each axis on its own
SHEAR = 0.15
SHIFT = 0.15  # in grid_sample's units, where the image spans -1..1: two pixels of 28
ELASTIC_KNOTS = 5  # the displacement field is drawn on this many knots per side
ELASTIC = 0.06  # standard deviation of a knot, in the same units: 0.8 pixels
THICKEN = 0.7  # share of the way to the 3x3 dilation of the strokes
THIN = 0.4  # share of the way to their 2x2 erosion


class LeNet(nn.Module):
    """The classic ConvNet: (N, 1, 28, 28) pixels in 0..1 -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def read_idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes, gzip-compressed or not.

    Returns
    -------
    ndarray of uint8
        Of the shape that the file's header states.

    Raises
    ------
    ValueError
        If the file is damaged, is not IDX, does not hold bytes, or is shorter or longer than its
        header says.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file: {error}") from error
    header = 4 + 4 * raw[3] if len(raw) > 3 else 4
    if len(raw) < header or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    shape = tuple(np.frombuffer(raw[4:header], ">u4").tolist())
    data = np.frombuffer(raw[header:], np.uint8)
    if data.size != np.prod(shape):
        raise ValueError(f"{path}: the header says {shape}, the file holds {data.size} bytes")
    return data.reshape(shape)


def find_idx(folder: Path, *stems: str) -> Path:
    """Return the first of the named IDX files that exists, trying each with and without ``.gz``.

    Raises
    ------
    FileNotFoundError
        If there is none; the message lists every name that was tried.
    """
    names = [stem + suffix for stem in stems for suffix in (".gz", "")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: no {' or '.join(names)} in this folder")


def load_mnist(folder: Path, *sets: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 28, 28) uint8 images and (N,) uint8 labels of the first set that is there."""
    images = find_idx(folder, *(f"{name}-images-idx3-ubyte" for name in sets))
    labels = find_idx(folder, *(f"{name}-labels-idx1-ubyte" for name in sets))
    x, y = read_idx(images), read_idx(labels)
    if x.shape[1:] != (28, 28) or y.shape != x.shape[:1]:
        raise ValueError(f"{folder}: images {x.shape} and labels {y.shape} are not MNIST's")
    return x, y


def as_input(images: np.ndarray) -> Tensor:
    """Return (N, H, W) uint8 images as (N, 1, H, W) float32 in 0..1."""
    return torch.from_numpy(images.astype(np.float32) / np.float32(255)).unsqueeze(1)


def augment(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return (N, 1, H, W) digits written anew: thicker or thinner, bent, turned and moved."""
    n = len(x)

    def uniform(bound: float, *shape: int) -> Tensor:
        return (2 * torch.rand(n, *shape, generator=rng) - 1) * bound

    # Strokes first, so that the resampling below smooths what dilation makes blocky.
    weight = torch.rand(n, 1, 1, 1, generator=rng)
    kind = torch.randint(3, (n, 1, 1, 1), generator=rng)
    thick = F.max_pool2d(x, 3, stride=1, padding=1)
    thin = -F.max_pool2d(-F.pad(x, (0, 1, 0, 1)), 2, stride=1)
    x = torch.where(kind == 1, x.lerp(thick, weight * THICKEN), x)
    x = torch.where(kind == 2, x.lerp(thin, weight * THIN), x)

    angle = uniform(ROTATION)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(n, 2, 2)
    stretch = torch.diag_embed(1 + uniform(SCALE, 2))
    stretch[:, 0, 1] = uniform(SHEAR)
    theta = torch.cat([turn @ stretch, uniform(SHIFT, 2, 1)], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)

    knots = torch.randn(n, 2, ELASTIC_KNOTS, ELASTIC_KNOTS, generator=rng) * ELASTIC
    bend = F.interpolate(knots, x.shape[2:], mode="bilinear", align_corners=True)
    return F.grid_sample(x, grid + bend.permute(0, 2, 3, 1), align_corners=False)


def train(x: Tensor, y: Tensor, *, epochs: int, seed: int) -> LeNet:
    """Train on (N, 1, 28, 28) pixels and (N,) class indices by a schedule fixed beforehand."""
    from tqdm import tqdm

    torch.set_num_threads(1)  # the sums, and so the weights, do not depend on the core count
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = LeNet()
    steps = -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=epochs * steps)
    for epoch in range(1, epochs + 1):
        seen, loss_sum, right = 0, 0.0, 0
        order = torch.randperm(len(x), generator=rng).split(BATCH)
        with tqdm(order, f"epoch {epoch}/{epochs}", unit="batch", leave=epoch == epochs) as bar:
            for index in bar:
                logits = net(augment(x[index], rng))
                loss = F.cross_entropy(logits, y[index], label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                seen += len(index)
                loss_sum += loss.item() * len(index)
                right += int((logits.argmax(1) == y[index]).sum())
                bar.set_postfix(loss=f"{loss_sum / seen:.4f}", acc=f"{right / seen:.2%}")
    return net.eval()


@torch.inference_mode()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of (N, 1, 28, 28) images that get their (N,) label."""
    return float((net(x).argmax(1) == y).float().mean())


def export(net: nn.Module, path: Path) -> None:
    """Write the plain ``state_dict``; a run that is stopped half-way leaves no broken file."""
    handle, name = tempfile.mkstemp(suffix=".npz", dir=path.parent)
    os.close(handle)
    try:
        np.savez(name, **{k: v.numpy() for k, v in net.state_dict().items()})
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Train fastconv's LeNet on MNIST and export it as a plain state_dict (.npz)."
    )
    parser.add_argument("data", type=Path, help="folder with the MNIST IDX files")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("lenet.npz"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="leave the last N training images out, print the accuracy on them, write nothing",
    )
    options = parser.parse_args()
    try:
        images, labels = load_mnist(options.data, "train10k", "train")
        test_images, test_labels = load_mnist(options.data, "t10k")
        if not options.out.parent.is_dir():
            raise FileNotFoundError(f"{options.out.parent}: no such folder to write to")
    except (OSError, ValueError) as error:
        print(f"train_lenet: {error}", file=sys.stderr)
        return 2

    x, y = as_input(images), torch.from_numpy(labels.astype(np.int64))
    fit = len(x) - options.hold_out
    start = time.perf_counter()
    net = train(x[:fit], y[:fit], epochs=options.epochs, seed=options.seed)
    print(f"trained on {fit} images in {time.perf_counter() - start:.0f} s")
    if options.hold_out:
        share = accuracy(net, x[fit:], y[fit:])
        print(f"accuracy on {options.hold_out} held-out images: {share:.2%}")
        return 0
    export(net, options.out)
    print(f"wrote {options.out}")
    x_test, y_test = as_input(test_images), torch.from_numpy(test_labels.astype(np.int64))
    print(f"accuracy on {len(x_test)} test images: {accuracy(net, x_test, y_test):.2%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
