"""How a tensor of another format lies on a Graph's value: transposed and reshaped at random, beside NumPy."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from fastconv.formats.axes import MixedError, arranged, constant, identity, order, padded, reshape, sizes

BATCH = 13


def tensor(value: np.ndarray, axes: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """What lies so on a value."""
    flat = [part for parts in axes for part in parts]
    if 0 not in flat:
        flat.insert(0, 0)
    return value.transpose(flat).reshape(sizes(axes, value.shape[1:], len(value)))


def random_target(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Another shape of as many elements: axes are divided, joined with the next, and some of size 1 come in."""
    parts: list[int] = []
    for size in shape:
        while size > 1 and rng.random() < 0.6:
            part = int(rng.choice([n for n in range(2, size + 1) if size % n == 0]))
            parts.append(part)
            size //= part
        parts.append(size)
    result: list[int] = []
    for part in parts:
        if result and rng.random() < 0.4:
            result[-1] *= part
        else:
            result.append(part)
    if rng.random() < 0.3:
        result.insert(int(rng.integers(len(result) + 1)), 1)
    return tuple(result)


def settled(value: np.ndarray, axes: tuple, target: tuple[int, ...]) -> tuple[np.ndarray, tuple]:
    """The value and the axes after a reshape, and a permute before it where that is needed."""
    batch = len(value)
    found = reshape(axes, value.shape[1:], batch, target)
    if found is None:
        value, axes = value.transpose(order(axes)), arranged(axes)
        found = reshape(axes, value.shape[1:], batch, target)
    assert found is not None, "arranged axes need no permute"
    return value.reshape(batch, *found[0]), found[1]


@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("seed", range(20))
def test_a_tensor_is_followed(seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    followed = 0
    for _ in range(100):
        shape = tuple(rng.choice([1, 1, 2, 3, 4, 6], rng.integers(5)).tolist())
        value = np.arange(batch * prod(shape)).reshape(batch, *shape)
        axes, expected = identity(value.ndim), value
        for _ in range(4):
            if rng.random() < 0.5:
                dims = rng.permutation(len(axes)).tolist()
                axes, expected = tuple(axes[dim] for dim in dims), expected.transpose(dims)
            else:
                target = random_target(rng, expected.shape)
                try:
                    value, axes = settled(value, axes, target)
                except MixedError:
                    assert batch != 1
                    break  # 13 images came into an axis in parts
                expected = expected.reshape(target)
                followed += 1
            parts = sorted(part for parts in axes for part in parts)
            assert parts == list(range(value.ndim)) or (batch == 1 and [0, *parts] == list(range(value.ndim)))
            np.testing.assert_array_equal(tensor(value, axes), expected)
    assert followed > 100


def test_what_keeps_the_order_moves_nothing() -> None:
    rows = ((1,), (0,), (2,))  # (L, N, C)
    assert reshape(rows, (10, 24), BATCH, (10, BATCH * 4, 6)) == ((10, 4, 6), ((1,), (0, 2), (3,)))
    assert reshape(((1,), (0, 2), (3,)), (10, 4, 6), BATCH, (10, BATCH, 24)) == ((10, 24), rows)
    assert reshape(rows, (10, 24), BATCH, (10 * BATCH, 24)) == ((10, 24), ((1, 0), (2,)))
    assert reshape(rows, (10, 24), BATCH, (1, 10, BATCH, 1, 24)) is not None


def test_images_that_are_mixed() -> None:
    for axes, shape, target in (
        (identity(2), (6,), (6, BATCH)),
        (identity(3), (4, 6), (2, BATCH * 2, 6)),
        (identity(2), (0,), (0, BATCH)),
    ):
        with pytest.raises(MixedError):
            reshape(axes, shape, BATCH, target)


def test_constants() -> None:
    axes = ((1,), (0, 2), (3,))  # (L, N * heads, C)
    shape = (5, 2, 3)
    rng = np.random.default_rng(0)
    for size in ((5, 1, 3), (1, BATCH * 2, 1), (3,), (), (5, BATCH * 2, 3)):
        array = rng.standard_normal(size)
        if BATCH * 2 in size:
            array = array.reshape(*size[:1], BATCH, 2, *size[2:])
            array = np.broadcast_to(array[:, :1], array.shape).reshape(size)
        value = constant(axes, shape, BATCH, array)
        whole = np.broadcast_to(value, (BATCH, *shape))
        np.testing.assert_array_equal(tensor(whole, axes), np.broadcast_to(array, (5, BATCH * 2, 3)))
    for array in (np.arange(BATCH * 2.0).reshape(1, -1, 1), np.zeros((1, 1, 1, 1))):
        with pytest.raises(MixedError):
            constant(axes, shape, BATCH, array)


def test_padded() -> None:
    assert padded(((0, 1), (2,)), 4) == ((1,), (2,), (0, 3), (4,))
