"""Norms: the shapes that PyTorch takes for ``batch_norm``, among them arrays without elements; the others' weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from checks import assert_agree, engine, refused, torch_call

from fastconv import functional
from fastconv.errors import ShapeError

Shape = tuple[int, ...]

# (input, running_mean, running_var, weight, bias)
ACCEPTED: list[tuple[Shape, ...]] = [
    # Without elements PyTorch looks at nothing but the first weight and bias.
    ((0,), (0,), (0,)),
    ((0,), (4,), (4,)),
    ((0,), (4,), (3,)),
    ((0,), (), ()),
    ((0,), (2, 2), (2, 2)),
    ((0,), (4,), (4,), (4,), (4,)),
    ((0,), (4,), (4,), (5,)),
    ((0, 4), (3,), (3,)),
    ((0, 4), (4,), (4,), (4,)),
    ((2, 0), (0,), (0,)),
    ((2, 0, 3), (3,), (3,)),
    ((0, 0), (0,), (0,)),
    ((2, 4, 0), (5,), (5,)),
    ((0, 4, 3), (5,), (5,), (1,), (2,)),
    # Of weight and bias only the number of elements counts.
    ((2, 4, 3), (4,), (4,), (4, 1)),
    ((2, 4, 3), (4,), (4,), (2, 2)),
    ((2, 4, 3), (4,), (4,), (4,), (1, 4)),
    ((2, 1, 3), (1,), (1,), ()),
    ((2, 4), (4,), (4,)),
    ((2, 4, 3, 1, 1, 1, 1), (4,), (4,)),
]
REFUSED: list[tuple[Shape, ...]] = [
    ((4,), (4,), (4,)),
    ((1,), (1,), (1,)),
    ((), (), ()),
    ((2, 4), (2, 2), (2, 2)),
    ((2, 4), (4, 1), (4,)),
    ((2, 1), (), ()),
    ((2, 4), (3,), (4,)),
    ((2, 4), (4,), (4,), (5,)),
    ((2, 4), (4,), (4,), (4,), (3,)),
    ((0,), (0,), (0,), (0,), (0,)),
    ((0, 4), (4,), (4,), (2, 2)),
]


def arrays(shapes: tuple[Shape, ...], dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0.5, 2, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", ACCEPTED, ids=str)
def test_accepted_like_torch(shapes: tuple[Shape, ...], dtype: Any) -> None:
    pytest.importorskip("torch")
    given = arrays(shapes, dtype)
    expected = torch_call("batch_norm", *(array.astype(np.float64) for array in given))
    assert_agree(engine("batch_norm", *given), expected, np.dtype(dtype))


@pytest.mark.parametrize("shapes", REFUSED, ids=str)
def test_refused_like_torch(shapes: tuple[Shape, ...]) -> None:
    pytest.importorskip("torch")
    with refused(match="batch_norm"):
        engine("batch_norm", *arrays(shapes))
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        torch_call("batch_norm", *arrays(shapes))


def test_types_are_looked_at_where_there_are_no_elements() -> None:
    with refused(match="float64"):
        engine("batch_norm", np.empty(0, np.float32), np.zeros(4), np.ones(4))


OWN = {
    "layer_norm": ((4, 3, 35), (3, 35), {"normalized_shape": (3, 35)}, ("weight", "bias")),
    "rms_norm": ((4, 3, 35), (35,), {"normalized_shape": (35,), "eps": 1e-3}, ("weight",)),
    "group_norm": ((4, 6, 5, 7), (6,), {"num_groups": 3}, ("weight", "bias")),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", OWN)
def test_weights_of_norms_by_their_own_statistics(op: str, dtype: type) -> None:
    shape, size, attrs, roles = OWN[op]
    rng = np.random.default_rng(5)
    x = rng.normal(3, 2, shape).astype(dtype)
    for given in ((), roles[:1], roles, roles[1:]):
        weights = {role: rng.normal(size=size).astype(dtype) for role in given}
        for _ in range(2):  # the second one from the cache, with other weights
            y = getattr(functional, op)(x, **attrs, **weights)
            assert_agree(y, getattr(reference, op)(x, **attrs, **weights), np.dtype(dtype))
            weights = {role: array[..., ::-1].copy() for role, array in weights.items()}
    assert getattr(functional, op)(x[:0], **attrs).shape == (0, *shape[1:])


def test_norms_refuse_what_does_not_fit() -> None:
    x = np.ones((2, 3, 4), np.float32)
    with pytest.raises(ShapeError, match=r"normalized_shape must be the last axes of"):
        functional.layer_norm(x, (3,))
    with pytest.raises(ShapeError, match=r"has more axes than input"):
        functional.rms_norm(x, (1, 2, 3, 4))
    with pytest.raises(ShapeError, match=r"3 channels do not divide into num_groups=2"):
        functional.group_norm(x, 2)
    with pytest.raises(ShapeError, match=r"weight must have normalized_shape \(4,\), got \(3,\)"):
        functional.layer_norm(x, (4,), np.ones(3, np.float32))
