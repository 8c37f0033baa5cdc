"""3x3 convolutions on Winograd's algorithm, in every scheme, at every shape its loops treat differently.

Few input channels (no more than a vector) and many go different ways, in tiles that overhang, at
both strides, with every epilogue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiling import assert_equals_interpreter, batch_of
from networks import Net

from fastconv.compile import compile_graph
from fastconv.machine.description import this_machine

SCHEMES = [(f"winograd_{row['step']}x{row['step']}", row["stride"]) for row in this_machine().winograd]


@pytest.mark.parametrize(("kernel", "stride"), SCHEMES)
@pytest.mark.parametrize(
    ("channels", "out"),
    [(1, 1), (2, 17), (3, 16), (3, 40), (4, 5), (8, 33), (9, 8), (16, 16), (17, 64), (40, 7)],
)
@pytest.mark.parametrize(
    ("height", "width", "padding"),
    [(3, 3, 0), (4, 4, 1), (8, 8, 1), (9, 23, 1), (17, 5, (2, 0)), (33, 32, 1), (5, 530, 1)],
)
def test_equals_the_interpreter(
    channels: int, out: int, height: int, width: int, padding: Any, kernel: str, stride: int
) -> None:
    net = Net(channels, height, width)
    net.conv(out, 3, padding=padding, stride=stride)
    graph = net.graph()
    assert_equals_interpreter(graph, batch_of(graph, 3), kernel=kernel)


@pytest.mark.parametrize(("kernel", "stride"), SCHEMES)
@pytest.mark.parametrize("channels", [3, 24])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "hardtanh", "sigmoid"])
@pytest.mark.parametrize("pool", [None, "max_pool2d", "avg_pool2d"])
def test_epilogues(channels: int, kernel: str, stride: int, activation: str, pool: str | None) -> None:
    net = Net(channels, 20, 18)
    net.conv(20, 3, padding=1, stride=stride)
    net.add(activation)
    if pool:
        net.add(pool, kernel_size=2)
    graph = net.graph()
    assert_equals_interpreter(graph, batch_of(graph, 3), kernel=kernel)


def test_every_scheme_is_named() -> None:
    names = set()
    for kernel, stride in SCHEMES:
        net = Net(32, 16, 16)
        net.conv(64, 3, padding=1, stride=stride)
        steps = compile_graph(net.graph(), kernel=kernel).steps
        names |= {step["label"] for step in steps if step["kernel"] == "conv_winograd"}
    assert names == {"Winograd F(4x4, 3x3)", "Winograd F(4x4, 3x3), stride 2", "Winograd F(2x2, 3x3)"}


@pytest.mark.parametrize(("kernel", "stride"), SCHEMES)
@pytest.mark.parametrize("channels", [3, 24])
@pytest.mark.parametrize(("out", "threads"), [(5, 2), (40, 2), (70, 3)])
def test_threads_that_share_the_outputs_give_the_same_bits(
    channels: int, out: int, threads: int, kernel: str, stride: int
) -> None:
    """Weights beyond L2, here one of a few bytes, are shared out to the threads, in one image and in several."""
    net = Net(channels, 21, 18)
    net.conv(out, 3, padding=1, stride=stride)
    net.add("sigmoid")
    graph = net.graph()
    x = batch_of(graph, 4 * threads)
    little = this_machine().replace(l2_bytes=256)
    alone = compile_graph(graph, kernel=kernel, threads=1).run(x)
    for machine in (little, this_machine()):
        np.testing.assert_array_equal(compile_graph(graph, kernel=kernel, threads=1, machine=machine).run(x), alone)
        together = compile_graph(graph, kernel=kernel, threads=threads, machine=machine)
        for images in (x[:1], x[:2], x):
            np.testing.assert_array_equal(together.run(images), alone[: len(images)])
