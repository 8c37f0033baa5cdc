"""Gradients by PyTorch's autograd and by differences, and the draws of `fastconv.grad`'s tests."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from cases import Case
from checks import assert_close
from numpy.typing import DTypeLike, NDArray

import fastconv.functional as F
from fastconv.grad import vjp

__all__ = ["FLOATS", "TOLERANCE", "assert_differences", "assert_like_torch", "drawn", "torch_gradients"]

FLOATS = [np.float32, np.float64]
# The contract: error relative to the largest element of a gradient.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}
STEP = 1e-6  # of differences


def torch_gradients(op: str, arrays: list[Any], attrs: dict[str, Any], g: NDArray[Any] | None) -> tuple[Any, list[Any]]:
    """Return the output and the gradients, in float64, by PyTorch; None for what has none. g: None for ones"""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    tensors = [None if array is None else torch.tensor(_wide(array)) for array in arrays]
    leaves = [tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()]
    for leaf in leaves:
        leaf.requires_grad_()
    function = next(f for where in _homes(torch) if (f := getattr(where, op, None)) is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about even kernels with padding='same', about broadcasting in mse_loss
        output = function(*tensors, **attrs)
        output = output[0] if isinstance(output, tuple) else output
        seed = torch.ones_like(output) if g is None else torch.tensor(_wide(g))
        found = iter(torch.autograd.grad(output, leaves, seed, allow_unused=True))
    gradients = [next(found) if any(tensor is leaf for leaf in leaves) else None for tensor in tensors]
    return output.detach().numpy(), [None if gradient is None else gradient.numpy() for gradient in gradients]


def _homes(torch: Any) -> tuple[Any, ...]:
    return torch.nn.functional, torch, torch.linalg


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return np.array(array, np.float64) if array.dtype.kind == "f" else np.array(array)


def drawn(case: Case, dtype: DTypeLike) -> list[NDArray[Any]]:
    """Return a case's arrays; none that a rounding takes across a place where there is no derivative."""
    return [np.where(np.abs(array) < 1e-3, array + array.dtype.type(0.1), array) for array in case.arrays(dtype)]


def seed_of(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a gradient of an output."""
    return np.asarray(np.random.default_rng(5).standard_normal(shape)).astype(dtype)


def call(op: str, arrays: list[Any], attrs: dict[str, Any], g: NDArray[Any] | None = None) -> tuple[Any, list[Any]]:
    """Return the output and the gradients by `fastconv.grad.vjp`, a list of them whatever the function."""
    output, pullback = vjp(getattr(F, op), *arrays, **attrs)
    first = output[0] if isinstance(output, tuple) else output
    found = pullback(seed_of(first.shape, first.dtype) if g is None else g)
    return first, list(found) if isinstance(found, tuple) else [found]


def assert_like_torch(op: str, arrays: list[Any], attrs: dict[str, Any]) -> None:
    """Require the gradients of PyTorch, their shapes and types."""
    dtype = next(array.dtype for array in arrays if array is not None and array.dtype.kind == "f")
    output, found = call(op, arrays, attrs)
    expected, wanted = torch_gradients(op, arrays, attrs, seed_of(output.shape, dtype))
    assert output.shape == expected.shape
    for gradient, want in zip(found, wanted, strict=False):
        if want is None:
            assert gradient is None
            continue
        assert gradient is not None
        assert gradient.dtype == dtype
        assert_close(gradient, want, TOLERANCE[dtype])


def assert_differences(op: str, arrays: list[Any], attrs: dict[str, Any], tolerance: float = 1e-7) -> None:
    """Require that gradients, in float64, tell how the output changes along a direction of each array."""
    output, found = call(op, arrays, attrs)
    seed, rng = seed_of(output.shape, output.dtype), np.random.default_rng(9)

    def value(place: int, step: NDArray[Any]) -> float:
        moved = [array + step if index == place else array for index, array in enumerate(arrays)]
        y = getattr(F, op)(*moved, **attrs)
        return float(((y[0] if isinstance(y, tuple) else y) * seed).sum())

    for place, gradient in enumerate(found[: len(arrays)]):
        if gradient is None:
            continue
        direction = rng.standard_normal(np.shape(arrays[place]))
        slope = (value(place, STEP * direction) - value(place, -STEP * direction)) / (2 * STEP)
        scale = np.abs(gradient * direction).sum() + 1
        assert abs(slope - (gradient * direction).sum()) <= tolerance * scale
