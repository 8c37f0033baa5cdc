"""How the engine is called, what it is compared with, and how closely."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

Peer = Callable[..., Any]

# The contract: error relative to the largest output, by the type that the engine computes in.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}


def oracle(op: str, *arrays: NDArray[Any], **attrs: Any) -> Any:
    """Call the operator of ``reference.py``, in float64, with those attributes that it knows."""
    function = getattr(reference, op)
    known = inspect.signature(function).parameters
    with np.errstate(all="ignore"):  # NaN and infinity are results like any other
        return function(*arrays, **{name: value for name, value in attrs.items() if name in known})


@functools.cache
def _torch() -> Any:
    import torch  # a peer in the tests, never needed by the engine

    # Waking a second thread for a few hundred numbers takes longer than computing them.
    torch.set_num_threads(1)
    return torch


def torch_float64(op: str, *arrays: NDArray[Any], **attrs: Any) -> Any:
    """Call the operator of ``torch.nn.functional``, in float64, on NumPy arrays."""
    return torch_call(op, *(np.asarray(array, np.float64) for array in arrays), **attrs)


def torch_call(op: str, *arrays: NDArray[Any], **attrs: Any) -> Any:
    """Call the operator of ``torch.nn.functional`` on NumPy arrays of any type and layout."""
    torch = _torch()
    tensors = [torch.tensor(np.array(a)) for a in arrays]  # copies: torch has no negative strides
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the speed of even kernels with padding='same'
        function = getattr(torch.nn.functional, op, None) or getattr(torch, op)
        result = function(*tensors, **attrs)
    return tuple(r.numpy() for r in result) if isinstance(result, tuple) else result.numpy()


def engine(op: str, *arrays: Any, **attrs: Any) -> Any:
    """Call the operator of ``fastconv.functional``."""
    import fastconv.functional  # here, so that the oracle can be tested where nothing is built

    return getattr(fastconv.functional, op)(*arrays, **attrs)


def refused(match: str | None = None) -> AbstractContextManager[pytest.ExceptionInfo[Exception]]:
    """Expect an error that fastconv raises on purpose, as ``pytest.raises`` does."""
    import fastconv

    return pytest.raises(fastconv.FastconvError, match=match)


def assert_close(actual: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    """Require the same shape, NaN and infinities, and a small error relative to the largest output.

    The largest absolute error is divided by the largest finite ``|expected|``.
    """
    assert isinstance(actual, np.ndarray | np.generic), type(actual)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    assert np.isfinite(actual[finite]).all(), "NaN or infinity where a number is expected"
    scale = np.abs(expected[finite]).max(initial=0.0)
    error = np.abs(actual[finite].astype(np.float64) - expected[finite]).max(initial=0.0)
    assert error <= tolerance * scale, f"error {error:.3g} against {scale:.3g} at most"


def assert_agree(actual: Any, expected: Any, dtype: np.dtype[Any]) -> None:
    """Compare a result with the expected float64 one, or (values, indices) with (values, indices).

    The result must have the input's type, its indices int64. Where a window of max pooling has no
    pixel of the image, the value is -inf and the index means nothing.
    """
    if isinstance(expected, tuple):
        assert isinstance(actual, tuple)
        (actual, indices), (expected, expected_indices) = actual, expected
        assert indices.dtype == np.int64
        assert indices.shape == expected_indices.shape
        real = expected != -np.inf
        np.testing.assert_array_equal(indices[real], expected_indices[real])
    assert actual.dtype == dtype
    assert_close(actual, expected, TOLERANCE[dtype])
