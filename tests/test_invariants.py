"""The bits of an image's output do not depend on threads, batch, place in the batch, or callers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import networks
import numpy as np
import pytest
import threadpoolctl

from fastconv.compile import ALGORITHMS, compile_graph
from fastconv.rewrite import optimize

THREADS = (1, 2, 3, 5)
# Around half a group, one and two groups of images, whole and with a remainder.
BATCHES = (1, 2, 3, 4, 5, 7, 8, 13, 14, 15, 16, 27, 28, 29, 31, 56, 57, 64, 65)
FEW = (1, 2, 3, 5)
MOST = 65


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: on a busy machine, small sums wait for its others."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def batches(network: str) -> tuple[int, ...]:
    return FEW if network in ("vgg", "mixed", "large_images") else BATCHES


@functools.cache
def program(network: str, threads: int, algorithm: str = "auto") -> Any:
    graph = optimize(networks.NETWORKS[network]())
    return compile_graph(graph, threads=threads, algorithm=algorithm)


@functools.cache
def images(network: str) -> np.ndarray:
    shape = networks.NETWORKS[network]().input_shape
    x = np.random.default_rng(7).standard_normal((MOST, *shape)).astype(np.float32)
    return x[: max(batches(network))]


def run(network: str, x: np.ndarray, threads: int, algorithm: str = "auto") -> list[np.ndarray]:
    result = program(network, threads, algorithm)(x)
    return list(result) if isinstance(result, tuple) else [result]


def one_by_one(network: str, x: np.ndarray, algorithm: str = "auto") -> list[np.ndarray]:
    """Return the outputs of each image by itself on one thread: what every other way must equal."""
    each = [run(network, image[None], 1, algorithm) for image in x]
    return [np.concatenate(outputs) for outputs in zip(*each, strict=True)]


@functools.cache
def alone(network: str) -> list[np.ndarray]:
    return one_by_one(network, images(network))


def assert_same_bits(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_batch_and_threads(network: str, threads: int) -> None:
    x, expected = images(network), alone(network)
    assert all(np.isfinite(y).all() and y.any() for y in expected)
    for count in batches(network):
        assert_same_bits(run(network, x[:count], threads), [y[:count] for y in expected])


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_place_in_the_batch(network: str, threads: int) -> None:
    x, expected = images(network), alone(network)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(x))
        assert_same_bits(run(network, x[order], threads), [y[order] for y in expected])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_concurrent_callers(network: str, threads: int) -> None:
    x, expected = images(network), alone(network)

    def call(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for count in rng.choice(batches(network), 6):
            first = rng.integers(len(x) - count + 1)
            part = slice(first, first + count)
            assert_same_bits(run(network, x[part], threads), [y[part] for y in expected])

    program(network, threads)  # one for all callers
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(call, range(10)))


@pytest.mark.parametrize(
    ("network", "algorithm"),
    [
        (network, algorithm)
        for network in ("cifar_conv", "vgg", "large_images")
        for algorithm in ALGORITHMS
        if (network, algorithm) != ("large_images", "winograd")  # not all of its kernels are 3x3
    ],
)
def test_every_algorithm(network: str, algorithm: str) -> None:
    x = images(network)[: FEW[-1]]
    expected = one_by_one(network, x, algorithm)
    for threads in (1, 2, 3):
        for count in FEW:
            part = [y[:count] for y in expected]
            assert_same_bits(run(network, x[:count], threads, algorithm), part)


def test_the_array_may_lie_anywhere() -> None:
    x, expected = images("lenet"), alone("lenet")
    for offset in range(1, 16):  # float32 arrays need not begin on a vector's boundary
        memory = np.empty(x.size + offset, np.float32)
        moved = memory[offset:].reshape(x.shape)
        moved[...] = x
        assert_same_bits(run("lenet", moved, 1), expected)
