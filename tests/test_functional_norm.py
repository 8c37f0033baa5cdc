"""``batch_norm``: the shapes PyTorch takes, among them arrays without elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import assert_agree, engine, refused, torch_call

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
