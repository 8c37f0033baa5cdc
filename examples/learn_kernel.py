"""Recover a kernel by gradient descent, from an image and what the kernel made of it.

    python examples/learn_kernel.py

The image is white, 6x8, with columns 2 to 5 black. The kernel [1, -1] finds its vertical edges: 1 from white to black,
-1 from black to white. A kernel of random numbers learns to do the same.
"""

from __future__ import annotations

import numpy as np

import fastconv.functional as F
from fastconv.train import SGD, Network, Trainer

STEPS = 20
LEARNING_RATE = 1.0


def main() -> None:
    """Print the loss of each step, and the kernel found."""
    image = np.ones((1, 1, 6, 8), np.float32)
    image[..., 2:6] = 0
    edges = F.conv2d(image, np.array([[[[1, -1]]]], np.float32))

    net = Network((1, 6, 8), seed=0)
    net.conv2d(1, (1, 2), bias=False)
    trainer = Trainer(net.graph(), "mse", SGD(LEARNING_RATE))
    for step in range(1, STEPS + 1):
        print(f"step {step:2}  loss {trainer.step(image, edges):.6f}")
    print("kernel", *trainer.graph().node("conv2d").weights["weight"].ravel().round(3))


if __name__ == "__main__":
    main()
