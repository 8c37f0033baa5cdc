"""Gradients of norms and softmax, and batch norm in training."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from cases import Case
from checks import assert_close, refused
from gradients import FLOATS, TOLERANCE, assert_differences, assert_like_torch, call, seed_of
from numpy.typing import DTypeLike, NDArray

import fastconv.functional as F
from fastconv.grad import vjp

SHAPES = [(4, 3, 5, 6), (5, 7), (3, 4, 9), (2, 17, 8, 8), (40, 5, 12, 12), (2, 3, 2, 3, 4)]
# Two numbers are normalised to -1 and 1 whatever they are: what is left of their gradient is rounding.
PAIRS = [Case("group_norm", ((3, 4),), {"num_groups": 2})]
PARAMETERS = [(True, True), (False, False), (True, False), (False, True)]


def _arguments(shape: tuple[int, ...], given: tuple[bool, bool], dtype: DTypeLike) -> list[Any]:
    rng = np.random.default_rng(100 + len(shape))
    x = rng.standard_normal(shape) * 3 + 2
    parameters = [rng.standard_normal(shape[1]).astype(dtype) if there else None for there in given]
    return [x.astype(dtype), *parameters]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("given", PARAMETERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training: bool, shape: tuple[int, ...], given: tuple[bool, bool], dtype: DTypeLike) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias = _arguments(shape, given, dtype)
    rng = np.random.default_rng(1)
    mean, var = rng.standard_normal(shape[1]).astype(dtype), rng.random(shape[1]).astype(dtype) + dtype(0.5)
    tensors = [None if a is None else torch.tensor(a.astype(np.float64), requires_grad=True) for a in (x, weight, bias)]
    running = [torch.tensor(a.astype(np.float64)) for a in (mean, var)]
    attrs = {"training": training, "momentum": 0.3, "eps": 1e-3}
    expected = torch.nn.functional.batch_norm(tensors[0], *running, *tensors[1:], **attrs)
    g = seed_of(shape, dtype)
    leaves = [tensor for tensor in tensors if tensor is not None]
    wanted = iter(torch.autograd.grad(expected, leaves, torch.tensor(g.astype(np.float64))))

    y, pullback = vjp(F.batch_norm, x, mean, var, weight, bias, **attrs)
    assert_close(y, expected.detach().numpy(), TOLERANCE[np.dtype(dtype)])
    for statistics, moved in zip((mean, var), running, strict=True):  # changed in training, and only then
        assert_close(statistics, moved.numpy(), TOLERANCE[np.dtype(dtype)])
    of_x, of_mean, of_var, *rest = pullback(g)
    assert of_mean is None
    assert of_var is None
    for gradient, tensor in zip((of_x, *rest), tensors, strict=True):
        if tensor is None:
            assert gradient is None
        else:
            assert gradient.dtype == dtype
            assert_close(gradient, next(wanted).numpy(), TOLERANCE[np.dtype(dtype)])


def test_batch_norm_in_training_needs_no_statistics() -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 5)).astype(np.float32)
    y = F.batch_norm(x, None, None, training=True)
    np.testing.assert_allclose(y.mean((0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((0, 2)), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"input": np.ones((1, 3), np.float32)}, "a channel needs more than one value"),
        ({"input": np.ones((0, 3), np.float32)}, "with elements"),
        ({"running_mean": [0.0, 0.0, 0.0]}, "running_mean"),
        ({"running_var": np.broadcast_to(np.float32(1), 3)}, "running_var must be a writable array"),
        ({"weight": np.ones(4, np.float32)}, r"weight must be \(3,\)"),
    ],
)
def test_batch_norm_in_training_refuses(change: dict[str, Any], match: str) -> None:
    ones = np.ones(3, np.float32)
    arguments = {"input": np.ones((2, 3), np.float32), "running_mean": ones, "running_var": ones.copy()} | change
    with refused(match=match):
        F.batch_norm(**arguments, training=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_batch_norm_far_from_zero(dtype: DTypeLike) -> None:
    """Distances from the mean are found before they are multiplied."""
    rng = np.random.default_rng(0)
    x = (rng.integers(-8, 9, (8, 2, 6, 6)) + 4096).astype(dtype)
    _, (of_x, *_) = call("batch_norm", [x, None, None], {"training": True})
    centred = (x - 4096).astype(np.float64)
    g = seed_of(x.shape, dtype).astype(np.float64)
    _, (expected, *_) = call("batch_norm", [centred, None, None], {"training": True}, g)
    assert_close(of_x, expected, TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", [case for case in cases.NORM if case not in PAIRS] + cases.SOFTMAX, ids=str)
def test_like_torch(case: Case, dtype: DTypeLike) -> None:
    assert_like_torch(case.op, case.arrays(dtype), case.attrs)


def _normed(op: str, shape: tuple[int, ...], axes: int) -> tuple[list[Any], list[tuple[bool, ...]]]:
    count = 1 if op == "rms_norm" else 2
    return [shape[-axes:]], [(True,) * count, (False,) * count, (True, False)[:count]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 4), 1), ((2, 7, 33), 1), ((2, 3, 5, 7), 3), ((64, 40), 1), ((0, 4), 1)]
)
@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
def test_layer_norms(op: str, shape: tuple[int, ...], axes: int, dtype: DTypeLike) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    (normalized,), choices = _normed(op, shape, axes)
    for given in choices:
        x = rng.standard_normal(shape).astype(dtype) + dtype(1)
        parameters = [rng.standard_normal(normalized).astype(dtype) if there else None for there in given]
        names = ("weight", "bias")[: len(given)]
        _assert_keywords(op, x, {"normalized_shape": normalized}, dict(zip(names, parameters, strict=True)), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "groups"), [((2, 6, 5, 7), 3), ((2, 6, 33), 6), ((3, 10), 2), ((0, 4, 3), 2)])
@pytest.mark.parametrize("given", PARAMETERS[:3])  # PyTorch's gradient fails for a bias alone
def test_group_norm(shape: tuple[int, ...], groups: int, given: tuple[bool, bool], dtype: DTypeLike) -> None:
    x, weight, bias = _arguments(shape, given, dtype)
    _assert_keywords("group_norm", x, {"num_groups": groups}, {"weight": weight, "bias": bias}, dtype)


def test_group_norm_with_a_bias_alone() -> None:
    x, _, bias = _arguments((2, 6, 5), (False, True), np.float64)
    ones = np.ones(6)
    _, (of_x, of_weight, of_bias) = call("group_norm", [x], {"num_groups": 3, "bias": bias})
    _, (with_weight, _, with_bias) = call("group_norm", [x], {"num_groups": 3, "weight": ones, "bias": bias})
    assert of_weight is None
    np.testing.assert_array_equal(of_x, with_weight)
    np.testing.assert_array_equal(of_bias, with_bias)


def _assert_keywords(
    op: str, x: NDArray[Any], attrs: dict[str, Any], parameters: dict[str, Any], dtype: DTypeLike
) -> None:
    """Compare the gradients by the input and by parameters, which are given by name."""
    torch = pytest.importorskip("torch")
    given = {name: array for name, array in parameters.items() if array is not None}
    tensors = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, *given.values())]
    function = getattr(torch.nn.functional, op)
    expected = function(tensors[0], **attrs, **dict(zip(given, tensors[1:], strict=True)))
    g = seed_of(x.shape, dtype)
    wanted = torch.autograd.grad(expected, tensors, torch.tensor(g.astype(np.float64)))
    _, found = call(op, [x], {**attrs, **parameters}, g)
    assert [gradient is not None for gradient in found[1:]] == [array is not None for array in parameters.values()]
    for gradient, want in zip([gradient for gradient in found if gradient is not None], wanted, strict=True):
        assert gradient.dtype == dtype
        assert_close(gradient, want.numpy(), TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [
        ("batch_norm", ((4, 3, 5), (3,), (3,)), {"training": True, "weight": np.array([0.5, 2, -1])}),
        ("layer_norm", ((4, 6),), {"normalized_shape": (6,), "weight": np.linspace(-1, 1, 6)}),
        ("rms_norm", ((4, 6),), {"normalized_shape": (6,), "weight": np.linspace(-1, 1, 6)}),
        ("group_norm", ((2, 6, 5),), {"num_groups": 3, "weight": np.linspace(-1, 1, 6)}),
        ("local_response_norm", ((2, 7, 5),), {"size": 3, "alpha": 0.5}),
        ("softmax", ((3, 5),), {"dim": 1}),
        ("log_softmax", ((3, 5),), {"dim": 0}),
    ],
)
def test_differences(op: str, shapes: tuple[tuple[int, ...], ...], attrs: dict[str, Any]) -> None:
    x, *statistics = (np.random.default_rng(0).standard_normal(shape) for shape in shapes)
    assert_differences(op, [x], attrs | dict.fromkeys(("running_mean", "running_var")[: len(statistics)]))


def test_softmax_of_converted_integers_has_none() -> None:
    _, pullback = vjp(F.softmax, np.array([1, 2, 3]), 0, dtype=np.float32)
    assert pullback(np.ones(3, np.float32)) is None
    _, pullback = vjp(F.softmax, np.array([1.0, 2, 3], np.float32), 0, dtype=np.float64)
    assert pullback(np.array([1.0, 0, 0])).dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        {"running_var": np.broadcast_to(np.float32(1), 3)},
        {"running_var": [1.0, 1.0, 1.0]},
        {"running_var": np.ones(4, np.float32)},
        {"eps": -1.0},
        {"eps": "a"},
        {"momentum": None},
        {"input": np.ones((1, 3), np.float32)},
    ],
)
def test_what_is_refused_has_changed_nothing(change: dict[str, Any]) -> None:
    mean = np.zeros(3, np.float32)
    arguments = {"input": np.ones((2, 3), np.float32), "running_mean": mean, "running_var": None} | change
    for function in (F.batch_norm, lambda **given: vjp(F.batch_norm, **given)):
        with refused():
            function(**arguments, training=True)
        np.testing.assert_array_equal(mean, 0)


def test_running_statistics_move_whatever_their_layout() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32) + np.float32(5)
    plain = np.zeros(2, np.float32)
    F.batch_norm(x, plain, None, training=True)
    assert plain.all()
    for function in (F.batch_norm, lambda *given, **attributes: vjp(F.batch_norm, *given, **attributes)):
        wide = np.zeros((1, 4), np.float32)
        function(x, wide[:, ::2], None, training=True)
        np.testing.assert_array_equal(wide, [[plain[0], 0, plain[1], 0]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.parametrize("value", [1e8, np.inf, np.nan])
def test_local_response_beside_large_values(value: float, size: int, dtype: DTypeLike) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 8, 3, 3)).astype(dtype)
    x[0, 1, 0, 0] = value
    attrs = {"size": size, "alpha": 1.0}
    tensor = torch.tensor(x.astype(np.float64), requires_grad=True)
    g = seed_of(x.shape, dtype)
    y = torch.nn.functional.local_response_norm(tensor, **attrs)
    (wanted,) = torch.autograd.grad(y, tensor, torch.tensor(g.astype(np.float64)))
    _, (found,) = call("local_response_norm", [x], attrs, g)
    far = np.abs(np.arange(8) - 1) > size
    assert np.isfinite(found[0, far]).all()
    for channel in range(8):  # each by its own scale
        assert_close(found[:, channel], wanted.numpy()[:, channel], TOLERANCE[np.dtype(dtype)])
