"""The oracle against PyTorch in float64: everything else is compared with the oracle."""

from __future__ import annotations

import cases
import numpy as np
import pytest
import reference
from checks import assert_agree, oracle, torch_float64

from fastconv.graph.ops import FAMILIES
from fastconv.graph.ops.activation import ACTIVATIONS

torch = pytest.importorskip("torch")
F64 = np.dtype(np.float64)
WITH_INDICES = ("max_pool2d", "adaptive_max_pool2d")


@pytest.mark.parametrize("case", cases.ALL, ids=str)
def test_oracle_matches_torch(case: cases.Case) -> None:
    arrays = case.arrays(np.float64)
    attrs = case.attrs | ({"return_indices": True} if case.op in WITH_INDICES else {})
    expected = torch_float64(case.op, *arrays, **attrs)
    assert_agree(oracle(case.op, *arrays, **attrs), expected, F64)


@pytest.mark.parametrize("case", cases.MAX_POOL + cases.ADAPTIVE, ids=str)
def test_oracle_breaks_ties_like_torch(case: cases.Case) -> None:
    # Few distinct values, with NaN and -inf among them, so that most windows have several maxima.
    (shape,) = case.shapes
    x = np.random.default_rng(0).choice([0.0, 1.0, 2.0, -np.inf, np.nan], size=shape)
    attrs = case.attrs | ({"return_indices": True} if case.op in WITH_INDICES else {})
    assert_agree(oracle(case.op, x, **attrs), torch_float64(case.op, x, **attrs), F64)


@pytest.mark.parametrize("case", cases.COVERED_MAX_POOL, ids=str)
def test_oracle_of_nothing_but_minus_infinity(case: cases.Case) -> None:
    # Padding never wins, not even against an equal -inf.
    x = np.full(case.shapes[0], -np.inf)
    _, indices = oracle(case.op, x, return_indices=True, **case.attrs)
    _, expected = torch_float64(case.op, x, return_indices=True, **case.attrs)
    np.testing.assert_array_equal(indices, expected)


SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e300, -1e300, 700.0, -800.0, 3.5])


@pytest.mark.parametrize(
    "op", [*(op for op in ACTIVATIONS if op not in cases.TRUTHS), "relu6", "softsign", "tanhshrink"]
)
def test_oracle_of_special_values(op: str) -> None:
    attrs = cases.GIVEN.get(op, {})
    assert_agree(oracle(op, SPECIAL, **attrs), torch_float64(op, SPECIAL, **attrs), F64)


@pytest.mark.parametrize("op", cases.TRUTHS)
def test_oracle_of_truths(op: str) -> None:
    np.testing.assert_array_equal(oracle(op, SPECIAL), torch_float64(op, SPECIAL))


ARITHMETIC = [op for op in FAMILIES["arithmetic"] if op not in ("where", "prelu")]


@pytest.mark.parametrize("op", ARITHMETIC)
def test_oracle_of_arithmetic_of_special_values(op: str) -> None:
    x, y = np.meshgrid(SPECIAL, [*SPECIAL, 2.0, -3.0, 0.5, 7.0, 1.0, -1.0])
    np.testing.assert_allclose(oracle(op, x, y), torch_float64(op, x, y), rtol=1e-15)


def test_oracle_of_where() -> None:
    x, y = np.meshgrid(SPECIAL, SPECIAL)
    expected = torch.where(torch.tensor(x) != 0, torch.tensor(y), torch.tensor(3.0)).numpy()
    np.testing.assert_array_equal(reference.where(x, y, other=np.array([3.0])), expected)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("drop", range(len(SPECIAL)))
def test_oracle_of_softmax_of_special_values(op: str, drop: int) -> None:
    x = np.stack([np.delete(SPECIAL, drop), np.linspace(-900, 900, len(SPECIAL) - 1)])
    assert_agree(oracle(op, x, dim=1), torch_float64(op, x, dim=1), F64)


@pytest.mark.parametrize("slope", [0.0, -1.0, np.inf, np.nan])
def test_oracle_of_leaky_relu_slopes(slope: float) -> None:
    actual = oracle("leaky_relu", SPECIAL, negative_slope=slope)
    assert_agree(actual, torch_float64("leaky_relu", SPECIAL, negative_slope=slope), F64)


@pytest.mark.parametrize("limits", [(-1.0, 1.0), (0.0, 6.0), (-0.5, -0.5)])
def test_oracle_of_hardtanh_limits(limits: tuple[float, float]) -> None:
    x = np.linspace(-8, 8, 33)
    expected = torch_float64("hardtanh", x, min_val=limits[0], max_val=limits[1])
    assert_agree(reference.hardtanh(x, *limits), expected, F64)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0,), ())])
@pytest.mark.parametrize("alpha", [1.0, -0.5])
def test_oracle_of_add(shapes: tuple[tuple[int, ...], tuple[int, ...]], alpha: float) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.asarray(rng.standard_normal(shape)) for shape in shapes)
    expected = torch.add(torch.from_numpy(a), torch.from_numpy(b), alpha=alpha).numpy()
    assert_agree(reference.add(a, b, alpha=alpha), expected, F64)


def test_oracle_leaves_its_input_alone() -> None:
    for case in cases.ALL:
        arrays = case.arrays(np.float64)
        for array in arrays:
            array.flags.writeable = False
        oracle(case.op, *arrays, **case.attrs)
