"""Reductions of ``fastconv.functional`` beside the oracle and PyTorch: axes, sizes, what is not finite, accuracy."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import reference
from checks import TOLERANCE, assert_close, refused

from fastconv import functional
from fastconv.compile import compile_graph
from fastconv.graph import Graph, Node

torch = pytest.importorskip("torch")

SUMS = ("mean", "sum", "prod", "amax", "amin", "logsumexp", "vector_norm", "var", "std")
INDICES = ("argmax", "argmin")
FLOATS = [np.float32, np.float64]
SHAPES = [(7,), (3, 65), (2, 5, 33), (2, 3, 5, 7), (1, 2, 1, 3, 4)]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def moderate(op: str, x: np.ndarray) -> np.ndarray:
    """Elements whose product stays within float32."""
    return np.exp(x / 10) * np.sign(x) if op == "prod" else x


def attributes(op: str) -> list[dict[str, Any]]:
    """The attributes of an operator besides the axes."""
    if op == "vector_norm":
        return [{"ord": order} for order in (1, 2, np.inf)]
    return [{"correction": n} for n in (0, 1, 2.5)] if op in ("var", "std") else [{}]


def torch_of(op: str, x: np.ndarray, **attrs: Any) -> Any:
    function = torch.linalg.vector_norm if op == "vector_norm" else getattr(torch, op)
    return function(torch.from_numpy(x), **attrs).numpy()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", SUMS)
def test_every_choice_of_axes(op: str, dtype: Any) -> None:
    for shape in SHAPES:
        x = moderate(op, random(*shape)).astype(dtype)
        for count in range(1, len(shape) + 1):
            for dim in combinations(range(len(shape)), count):
                for keepdim in (False, True):
                    for more in attributes(op):
                        actual = getattr(functional, op)(x, dim=dim, keepdim=keepdim, **more)
                        assert actual.dtype == dtype
                        expected = getattr(reference, op)(x, dim, keepdim, **more)
                        assert_close(actual, expected, TOLERANCE[np.dtype(dtype)])
                        if op != "prod":
                            peer = torch_of(op, x.astype(np.float64), dim=dim, keepdim=keepdim, **more)
                            assert_close(expected, peer, 1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", INDICES)
def test_every_index(op: str, dtype: Any) -> None:
    for shape in SHAPES:
        for x in (random(*shape).astype(dtype), random(*shape).round().astype(dtype)):  # with equal elements
            for dim in (None, *range(-len(shape), len(shape))):
                for keepdim in (False, True):
                    actual = getattr(functional, op)(x, dim, keepdim)
                    assert actual.dtype == np.int64
                    np.testing.assert_array_equal(actual, getattr(np, op)(x, dim, keepdims=keepdim))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", [*SUMS, *INDICES])
@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 127, 128, 129, 1023, 1024, 1025])
def test_sizes_around_the_vector_width(op: str, size: int, dtype: Any) -> None:
    for x, dim in ((random(3, size), 1), (random(5, size), 0), (random(2, 3, size), 1), (random(2, size, 3), 1)):
        x = moderate(op, x).astype(dtype)
        assert_close(getattr(functional, op)(x, dim=dim), getattr(reference, op)(x, dim), TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("op", [*SUMS, *INDICES])
def test_what_is_not_finite_travels(op: str) -> None:
    """As in PyTorch, wherever it stands, and in none but its own row."""
    for size in (1, 2, 7, 33, 100):
        for special in (np.nan, np.inf, -np.inf):
            for at in {0, size // 2, size - 1}:
                x = random(5, size)
                x[2, at] = special
                x[3, :] = special
                x[4, 0], x[4, -1] = np.inf, -np.inf
                for turned, dim in ((x, 1), (x.T.copy(), 0)):
                    expected = torch_of(op, turned, dim=dim)
                    np.testing.assert_allclose(getattr(functional, op)(turned, dim=dim), expected, rtol=1e-12)


@pytest.mark.parametrize("op", INDICES)
def test_the_first_nan_is_the_index(op: str) -> None:
    for size in (2, 5, 8, 9, 40, 100):
        for first in range(0, size, 3):
            x = random(size)
            x[[first, size - 1]] = np.nan
            assert getattr(functional, op)(x) == first
            assert (getattr(functional, op)(np.stack([x] * 70, 1), 0) == first).all()


@pytest.mark.parametrize("op", ["sum", "mean", "vector_norm", "var", "logsumexp"])
def test_long_sums_are_as_close_as_torch_s(op: str) -> None:
    for shape, dim in (((2, 1 << 20), 1), ((1 << 18, 9), 0)):
        x = np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
        expected = getattr(reference, op)(x, dim)
        error = np.abs(getattr(functional, op)(x, dim=dim) - expected).max()
        assert error <= max(2 * np.abs(torch_of(op, x, dim=dim) - expected).max(), 2e-7 * np.abs(expected).max())


def test_a_variance_far_from_zero_keeps_its_digits() -> None:
    x = (random(4, 999) + 1e3).astype(np.float32)
    for y, dim in ((x, 1), (x.T.copy(), 0)):
        assert_close(functional.var(y, dim), reference.var(y, dim), 1e-5)


@pytest.mark.parametrize("op", [*SUMS, *INDICES])
def test_all_axes_and_scalars(op: str) -> None:
    arguments = {"dim": ()} if op == "logsumexp" else {}
    for x in (random(3, 4, 5), random()):
        expected = getattr(reference, op)(x.reshape(-1), 0)
        actual = getattr(functional, op)(x, **arguments)
        assert actual.shape == ()
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
        assert getattr(functional, op)(x, **arguments, keepdim=True).shape == (1,) * x.ndim


@pytest.mark.parametrize("op", SUMS)
def test_empty_axes(op: str) -> None:
    x = np.zeros((3, 0, 2))
    assert getattr(functional, op)(x, dim=0).shape == (0, 2)
    if op in ("amax", "amin"):
        with refused(rf"{op}: there is no value over the empty axes"):
            getattr(functional, op)(x, dim=1)
    else:
        np.testing.assert_array_equal(getattr(functional, op)(x, dim=1), torch_of(op, x, dim=1))


def test_refusals() -> None:
    x = random(3, 4)
    for call, match in {
        "mean(x, 2)": r"mean: dim=2 is not an axis of the input \(3, 4\), -2\.\.1",
        "sum(x, (0, -2))": r"sum: dim must name every axis once, got \(1, 1\)",
        "sum(x, 0.5)": r"sum: dim must be an int, got 0\.5",
        "amax(x, 0, 1)": r"amax: keepdim must be True or False, got 1",
        "vector_norm(x, 3)": r"vector_norm: ord must be 1, 2 or inf, got 3\.0",
        "argmax(np.zeros((3, 0)), 1)": r"argmax: there is no index in the empty axis 2",
        "argmin(np.zeros((2**24 + 1,), np.float32))": r"argmin: axis 1 of \(16777217,\) has more than 16777216 indices",
        "topk(np.zeros((2**24 + 1,)), 1)": r"topk: axis 1 of \(16777217,\) .* in float32 and in float64 alike",
        "var(x, correction='1')": r"var: correction must be a number, got '1'",
    }.items():
        with refused(match):
            eval(f"functional.{call}", {"functional": functional, "x": x, "np": np})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("largest", [False, True])
def test_topk(largest: bool, dtype: type) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for shape, dim, ks in (
        ((9,), 0, (0, 1, 9)),
        ((2, 33, 5), 1, (1, 7, 33)),
        ((3, 200), -1, (70, 200)),
        ((0, 4), 1, (2,)),
    ):
        x = rng.permutation(max(1, int(np.prod(shape))))[: int(np.prod(shape))].reshape(shape).astype(dtype)
        x[x == 3] = np.nan
        for k in ks:
            values, indices = functional.topk(x, k, dim, largest)
            expected = torch.topk(torch.tensor(x), k, dim, largest)
            assert values.dtype == dtype
            assert indices.dtype == np.int64
            np.testing.assert_array_equal(values, expected.values.numpy())
            np.testing.assert_array_equal(indices, expected.indices.numpy())


def test_topk_of_few_takes_no_memory_for_all() -> None:
    for k, needs in ((1, 4), (64, 256), (65, 2 * 4 * 2**20)):
        node = Node("topk", "topk", ("input",), {"k": k, "dim": 1})
        program = compile_graph(Graph((2**20,), (node,), ("topk",)), threads=1)
        assert needs <= program.workspace_bytes < needs + 4096
        x = np.random.default_rng(k).permutation(2**20).astype(np.float32)[None]
        np.testing.assert_array_equal(program.run(x)[0], np.arange(2**20 - 1, 2**20 - 1 - k, -1))


def test_order_refuses() -> None:
    x = np.zeros((2, 3), np.float32)
    with refused(r"topk: k=4 must lie in 0\.\.3"):
        functional.topk(x, 4)
    with refused(r"cumsum: dim=2 is not an axis of the input \(2, 3\), -2\.\.1"):
        functional.cumsum(x, 2)
    with refused("topk: input is int64"):
        functional.topk(np.arange(3), 1)


def test_order_of_a_number() -> None:
    x = np.array(3.0, np.float32)
    assert functional.cumsum(x, 0).shape == ()
    assert functional.cumsum(x, -1) == 3
    values, indices = functional.topk(x, 1)
    assert values.shape == indices.shape == ()
    assert (values, indices) == (3, 0)
