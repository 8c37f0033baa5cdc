"""1x1 convolution on the caller's planes: every shape its loops treat differently, and where it is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from compiling import assert_equals_interpreter, batch_of
from networks import Net

from fastconv.compile import compile_graph
from fastconv.errors import UnsupportedOperatorError
from fastconv.graph import Graph
from fastconv.rewrite import optimize

KERNEL = "pointwise"


def one(channels: int, out: int, height: int, width: int, activation: str | None = None) -> Graph:
    net = Net(channels, height, width)
    net.conv(out, 1, padding=0)
    if activation:
        net.add(activation)
    return optimize(net.graph())


def kernels_of(graph: Graph) -> list[str]:
    return [str(step["kernel"]) for step in compile_graph(graph).steps]


@pytest.mark.parametrize(("channels", "out"), [(1, 1), (3, 14), (17, 15), (33, 29), (64, 230), (600, 3)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 4), (1, 17), (5, 7), (8, 4), (9, 31), (23, 50)])
def test_equals_the_interpreter(channels: int, out: int, height: int, width: int) -> None:
    graph = one(channels, out, height, width)
    assert_equals_interpreter(graph, batch_of(graph, 3), kernel=KERNEL)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "hardtanh", "sigmoid", "tanh"])
def test_epilogues(activation: str) -> None:
    graph = one(19, 21, 9, 11, activation)
    assert_equals_interpreter(graph, batch_of(graph, 3), kernel=KERNEL)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (16, 16), (40, 41)])
def test_bits_are_those_of_the_direct_tile(height: int, width: int) -> None:
    """For any number of threads and any place in a batch: both sum over the channels in one order."""
    graph = one(24, 40, height, width, "relu")
    x = batch_of(graph, 5)
    expected = compile_graph(graph, threads=1, kernel="direct")(x)
    for threads in (1, 2, 3):
        program = compile_graph(graph, threads=threads, kernel=KERNEL)
        np.testing.assert_array_equal(program(x), expected)
        np.testing.assert_array_equal(program(x[3:4]), expected[3:4])


def test_what_is_not_finite_stays_in_its_pixel() -> None:
    graph = one(8, 12, 9, 9)
    x = batch_of(graph, 1)
    clean = compile_graph(graph, kernel=KERNEL)(x)
    x[0, 2, 4, 5], x[0, 3, 8, 8] = np.nan, np.inf
    y = compile_graph(graph, kernel=KERNEL)(x)
    struck = np.zeros((9, 9), bool)
    struck[4, 5] = struck[8, 8] = True
    assert not np.isfinite(y[..., struck]).any()
    np.testing.assert_array_equal(y[..., ~struck], clean[..., ~struck])


def test_chosen_between_the_callers_arrays_only() -> None:
    assert kernels_of(one(16, 32, 12, 12)) == ["conv_pointwise"]
    net = Net(16, 12, 12)
    net.conv(32, 1, padding=0)
    net.conv(8, 1, padding=0)
    assert "conv_pointwise" not in kernels_of(net.graph())


@pytest.mark.parametrize("attrs", [{"stride": 2}, {"padding": 1}, {"groups": 4}])
def test_refuses_what_it_cannot_do(attrs: dict[str, int]) -> None:
    net = Net(16, 12, 12)
    net.conv(32, 1, **{"padding": 0, **attrs})
    with pytest.raises(UnsupportedOperatorError, match="pointwise"):
        compile_graph(net.graph(), kernel=KERNEL)
