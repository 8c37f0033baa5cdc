"""``fastconv.functional``: the signatures, and every operator but convolution on its cases.

Convolution, with its several algorithms, is in ``test_functional_conv.py``.
"""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from typing import Any

import cases
import numpy as np
import pytest
from checks import Peer, assert_agree, engine, oracle
from numpy.typing import DTypeLike

from fastconv.graph.ops.activation import ACTIVATIONS

REQUIRED = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, Any]] = {
    "conv2d": {
        "input": REQUIRED,
        "weight": REQUIRED,
        "bias": None,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
    },
    "conv_transpose2d": {
        "input": REQUIRED,
        "weight": REQUIRED,
        "bias": None,
        "stride": 1,
        "padding": 0,
        "output_padding": 0,
        "groups": 1,
        "dilation": 1,
    },
    "max_pool2d": {
        "input": REQUIRED,
        "kernel_size": REQUIRED,
        "stride": None,
        "padding": 0,
        "dilation": 1,
        "ceil_mode": False,
        "return_indices": False,
    },
    "avg_pool2d": {
        "input": REQUIRED,
        "kernel_size": REQUIRED,
        "stride": None,
        "padding": 0,
        "ceil_mode": False,
        "count_include_pad": True,
        "divisor_override": None,
    },
    "adaptive_avg_pool2d": {"input": REQUIRED, "output_size": REQUIRED},
    "adaptive_max_pool2d": {"input": REQUIRED, "output_size": REQUIRED, "return_indices": False},
    "unfold": {
        "input": REQUIRED,
        "kernel_size": REQUIRED,
        "dilation": 1,
        "padding": 0,
        "stride": 1,
    },
    "fold": {
        "input": REQUIRED,
        "output_size": REQUIRED,
        "kernel_size": REQUIRED,
        "dilation": 1,
        "padding": 0,
        "stride": 1,
    },
    "linear": {"input": REQUIRED, "weight": REQUIRED, "bias": None},
    "relu": {"input": REQUIRED},
    "relu6": {"input": REQUIRED},
    "hardtanh": {"input": REQUIRED, "min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"input": REQUIRED, "negative_slope": 0.01},
    "sigmoid": {"input": REQUIRED},
    "tanh": {"input": REQUIRED},
    "softplus": {"input": REQUIRED, "beta": 1.0, "threshold": 20.0},
    "softmax": {"input": REQUIRED, "dim": REQUIRED},
    "log_softmax": {"input": REQUIRED, "dim": REQUIRED},
    "batch_norm": {
        "input": REQUIRED,
        "running_mean": REQUIRED,
        "running_var": REQUIRED,
        "weight": None,
        "bias": None,
        "training": False,
        "momentum": 0.1,
        "eps": 1e-5,
    },
    "layer_norm": {"input": REQUIRED, "normalized_shape": REQUIRED, "weight": None, "bias": None, "eps": 1e-5},
    "rms_norm": {"input": REQUIRED, "normalized_shape": REQUIRED, "weight": None, "eps": None},
    "group_norm": {"input": REQUIRED, "num_groups": REQUIRED, "weight": None, "bias": None, "eps": 1e-5},
    "pad": {"input": REQUIRED, "pad": REQUIRED, "mode": "constant", "value": None},
}
# Those of signals are those of images, but for the mean's divisor.
SIGNATURES |= {
    op.replace("2d", "1d"): {name: default for name, default in SIGNATURES[op].items() if name != "divisor_override"}
    for op in (
        *("conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"),
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
    )
}
# The functions of C++ that tell no signature.
SIGNATURES |= {
    op: {"input": REQUIRED}
    for op in (
        "gelu", "logsigmoid", "erf", "exp", "log", "sqrt", "rsqrt", "reciprocal", "abs", "floor", "ceil", "round",
        "trunc", "sign", "sin", "cos", "isnan", "logical_not",
    )
}  # fmt: skip
SIGNATURES |= {
    "pow": {"input": REQUIRED, "exponent": REQUIRED},
    "hardshrink": {"input": REQUIRED, "lambd": 0.5},
    "softshrink": {"input": REQUIRED, "lambd": 0.5},
    "prelu": {"input": REQUIRED, "weight": REQUIRED},
    "local_response_norm": {"input": REQUIRED, "size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
    "grid_sample": {
        "input": REQUIRED,
        "grid": REQUIRED,
        "mode": "bilinear",
        "padding_mode": "zeros",
        "align_corners": None,
    },
    "cumsum": {"input": REQUIRED, "dim": REQUIRED},
    "topk": {"input": REQUIRED, "k": REQUIRED, "dim": -1, "largest": True, "sorted": True},
    "glu": {"input": REQUIRED, "dim": -1},
}
FLOATS = [np.float32, np.float64]
POOLING_CASES = cases.MAX_POOL + cases.AVG_POOL + cases.ADAPTIVE
OTHER_CASES = cases.CONV_TRANSPOSE + cases.UNFOLD + cases.FOLD + cases.PAD + cases.POINTWISE


def torch_signature(op: str) -> dict[str, Any]:
    """Return the arguments of PyTorch's own function, but for what changes an array in place."""
    function = getattr(pytest.importorskip("torch.nn.functional"), op)
    return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.name != "inplace"}


@pytest.mark.parametrize("op", [*SIGNATURES, *(name for name in ACTIVATIONS if name not in SIGNATURES)])
def test_arguments_are_named_and_ordered_like_torch(op: str) -> None:
    import fastconv.functional

    parameters = inspect.signature(getattr(fastconv.functional, op)).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    expected = SIGNATURES.get(op) or torch_signature(op)
    assert list(positional.items()) == list(expected.items())
    assert all(p.default is not REQUIRED for p in parameters if p.kind is p.KEYWORD_ONLY)


def test_every_family_has_the_functions_that_the_table_says() -> None:
    import fastconv.functional

    for family, names in fastconv.functional._FAMILIES.items():
        assert sorted(import_module(f"fastconv.functional.{family}").__all__) == sorted(names)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", POOLING_CASES + OTHER_CASES, ids=str)
def test_case(case: cases.Case, dtype: DTypeLike, peer: Peer) -> None:
    arrays = case.arrays(dtype)
    expected = peer(case.op, *arrays, **case.attrs)
    assert_agree(engine(case.op, *arrays, **case.attrs), expected, np.dtype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", [c for c in POOLING_CASES if "max" in c.op], ids=str)
def test_indices_of_ties(case: cases.Case, dtype: DTypeLike, peer: Peer) -> None:
    # Few distinct values, so that most windows have several maxima: the first one counts.
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, size=case.shapes[0]).astype(dtype)
    expected = peer(case.op, x, return_indices=True, **case.attrs)
    assert_agree(engine(case.op, x, return_indices=True, **case.attrs), expected, np.dtype(dtype))


@pytest.mark.parametrize("case", [c for c in POOLING_CASES if "max" in c.op], ids=str)
def test_indices_find_the_values(case: cases.Case) -> None:
    (x,) = case.arrays(np.float32)
    values, indices = engine(case.op, x, return_indices=True, **case.attrs)
    np.testing.assert_array_equal(values, engine(case.op, x, **case.attrs))
    real = values != -np.inf  # a dilated window may hold no pixel at all
    flat = x.reshape(*x.shape[:-2], math.prod(x.shape[-2:]))
    positions = np.where(real, indices, 0).reshape(*x.shape[:-2], math.prod(values.shape[-2:]))
    found = np.take_along_axis(flat, positions, -1).reshape(values.shape)
    np.testing.assert_array_equal(values[real], found[real])


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_every_stride_and_padding_of_a_window(op: str, size: int, kernel: int) -> None:
    x = np.random.default_rng(size).standard_normal((1, 2, size, 12 - size)).astype(np.float32)
    for stride in range(1, 5):
        for padding in range(kernel // 2 + 1):
            for ceil_mode in (False, True):
                # The oracle has no error to raise where PyTorch finds no window.
                if min(x.shape[-2:]) + 2 * padding < kernel:
                    continue
                attrs = {
                    "kernel_size": kernel,
                    "stride": stride,
                    "padding": padding,
                    "ceil_mode": ceil_mode,
                }
                expected = oracle(op, x, **attrs)
                assert_agree(engine(op, x, **attrs), expected, np.dtype(np.float32))


def test_numpy_integers_are_integers() -> None:
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
    w = np.ones((4, 2, 2, 2), np.float32)
    two, one = np.int64(2), np.int32(1)
    np.testing.assert_array_equal(
        engine("conv2d", x, w, stride=(two, one), padding=one, groups=two),
        engine("conv2d", x, w, stride=(2, 1), padding=1, groups=2),
    )
    np.testing.assert_array_equal(engine("max_pool2d", x, two), engine("max_pool2d", x, 2))
    np.testing.assert_array_equal(engine("adaptive_avg_pool2d", x, (two, two)), engine("adaptive_avg_pool2d", x, 2))
    np.testing.assert_array_equal(engine("softmax", x, one), engine("softmax", x, 1))
