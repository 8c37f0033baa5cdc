"""Losses, and their gradients."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from checks import assert_close, refused
from gradients import FLOATS, TOLERANCE, assert_like_torch, seed_of
from numpy.typing import DTypeLike, NDArray

import fastconv.functional as F
from fastconv.grad import vjp

SHAPES = [((5, 7), (5,)), ((7,), ()), ((2, 7, 3, 4), (2, 3, 4)), ((0, 7), (0,))]
REDUCTIONS = ["mean", "sum", "none"]


def _assert_loss(
    op: str, scores: NDArray[Any], target: NDArray[Any], weight: NDArray[Any] | None, attrs: dict[str, Any]
) -> None:
    """Compare a loss and its gradients with PyTorch's."""
    torch = pytest.importorskip("torch")
    tolerance = TOLERANCE[scores.dtype]
    tensors = [torch.tensor(scores.astype(np.float64), requires_grad=True)]
    probabilities = target.dtype.kind == "f"
    goal = torch.tensor(target.astype(np.float64) if probabilities else target, requires_grad=probabilities)
    weights = None if weight is None else torch.tensor(weight.astype(np.float64))
    expected = getattr(torch.nn.functional, op)(tensors[0], goal, weights, **attrs)
    g = seed_of(tuple(expected.shape), scores.dtype)
    leaves = [*tensors, goal] if probabilities else tensors
    wanted = torch.autograd.grad(expected, leaves, torch.tensor(g.astype(np.float64)))

    y, pullback = vjp(getattr(F, op), scores, target, weight, **attrs)
    assert y.dtype == scores.dtype
    assert_close(y, expected.detach().numpy(), tolerance)
    of_scores, of_target, of_weight = pullback(g)
    assert of_weight is None
    assert (of_target is not None) == probabilities
    for found, want in zip((of_scores, of_target), wanted, strict=False):
        assert found.dtype == scores.dtype
        assert_close(found, want.numpy(), tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("shape", "targets"), SHAPES)
def test_classes(shape: tuple[int, ...], targets: tuple[int, ...], reduction: str, dtype: DTypeLike) -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(shape).astype(dtype)
    target = np.asarray(rng.integers(0, 7, targets))
    for weight, ignored, smoothing in itertools.product((None, rng.random(7).astype(dtype)), (-100, 3), (0.0, 0.1)):
        attrs = {"reduction": reduction, "ignore_index": ignored}
        _assert_loss("cross_entropy", scores, target, weight, {**attrs, "label_smoothing": smoothing})
        if not smoothing:
            _assert_loss("nll_loss", scores, target, weight, attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [shape for shape, _ in SHAPES])
def test_probabilities(shape: tuple[int, ...], reduction: str, dtype: DTypeLike) -> None:
    rng = np.random.default_rng(0)
    scores, target = rng.standard_normal(shape).astype(dtype), rng.random(shape).astype(dtype)
    for weight, smoothing in itertools.product((None, rng.random(7).astype(dtype)), (0.0, 0.25)):
        _assert_loss("cross_entropy", scores, target, weight, {"reduction": reduction, "label_smoothing": smoothing})


def test_all_ignored_is_nan_as_in_torch() -> None:
    scores, target = np.ones((2, 3), np.float32), np.array([-100, -100])
    _assert_loss("cross_entropy", scores, target, None, {})
    _assert_loss("cross_entropy", scores, target, None, {"reduction": "sum"})


def test_large_scores_do_not_overflow() -> None:
    scores = np.array([[1000.0, -1000, 0], [-1e4, 1e4, 3]], np.float32)
    _assert_loss("cross_entropy", scores, np.array([1, 1]), None, {})


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((), ()), ((0, 2), (0, 2))])
def test_mse(shapes: tuple[tuple[int, ...], ...], reduction: str, dtype: DTypeLike) -> None:
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    assert_like_torch("mse_loss", arrays, {"reduction": reduction})


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weighted_mse(reduction: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.random((3, 4))]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = torch.nn.functional.mse_loss(tensors[0], tensors[1], weight=tensors[2], reduction=reduction)
    g = seed_of(tuple(expected.shape), np.float64)
    y, pullback = vjp(F.mse_loss, arrays[0], arrays[1], weight=arrays[2], reduction=reduction)
    assert_close(y, expected.detach().numpy(), 1e-12)
    for found, want in zip(pullback(g), torch.autograd.grad(expected, tensors, torch.tensor(g)), strict=True):
        assert_close(found, want.numpy(), 1e-10)


@pytest.mark.parametrize(
    ("op", "arguments", "match"),
    [
        ("cross_entropy", (np.ones((2, 3)), np.array([0, 3])), "target holds 3, classes are 0..2"),
        ("cross_entropy", (np.ones((2, 3)), np.array([0, -1])), "target holds -1, classes are 0..2"),
        ("cross_entropy", (np.ones((2, 3)), np.array([0, 1, 2])), r"target must have shape \(2,\)"),
        ("cross_entropy", (np.ones((2, 3)), np.ones(2)), "it must hold indices of classes.* or probabilities"),
        ("nll_loss", (np.ones((2, 3)), np.ones((2, 3))), "it must hold indices of classes"),
        ("cross_entropy", (np.ones((2, 3)), np.array([0, 1]), np.ones(2)), r"weight must be \(3,\)"),
        ("cross_entropy", (np.ones(()), np.array(0)), "got a scalar"),
        ("cross_entropy", (np.ones((2, 3)), np.array([0, 1]), None, True), "size_average is deprecated"),
        ("cross_entropy", (np.ones((2, 3)), np.ones((2, 3), np.float32)), "float32"),
        ("mse_loss", (np.ones((2, 3)), np.ones(2)), "do not broadcast"),
    ],
)
def test_what_losses_refuse(op: str, arguments: tuple[Any, ...], match: str) -> None:
    with refused(match=match):
        getattr(F, op)(*arguments)


def test_names_and_numbers_that_losses_refuse() -> None:
    scores, target = np.ones((2, 3)), np.array([0, 1])
    with refused(match="reduction must be 'mean', 'sum' or 'none', got 'avg'"):
        F.cross_entropy(scores, target, reduction="avg")  # type: ignore[arg-type]
    with refused(match="label_smoothing must be 0..1, got 1.5"):
        F.cross_entropy(scores, target, label_smoothing=1.5)
    with refused(match=r"weight must have the input's shape \(2, 3\), got \(3,\)"):
        F.mse_loss(scores, scores, weight=np.ones(3))


def test_no_classes() -> None:
    scores = np.zeros((2, 0))
    for smoothing in (0.0, 0.1):
        assert np.isnan(F.cross_entropy(scores, scores, label_smoothing=smoothing))
        for function in (F.cross_entropy, F.nll_loss):
            with refused(match=r"input must have at least one class, got shape \(2, 0\)"):
                function(scores, np.array([0, 0]))


@pytest.mark.parametrize("target", [2**64 - 100, 2**63, 2**64 - 1])
def test_targets_beyond_int64_are_no_ignored_ones(target: int) -> None:
    """As int64 the first is -100."""
    for function in (F.cross_entropy, F.nll_loss):
        with refused(match=f"target holds {target}, classes are 0..2"):
            function(np.ones((2, 3)), np.array([0, target], np.uint64))
    for dtype in (np.uint8, np.uint64, ">u8"):
        targets = np.array([0, 2]).astype(dtype)
        assert F.cross_entropy(np.eye(2, 3), targets) == F.cross_entropy(np.eye(2, 3), np.array([0, 2]))
