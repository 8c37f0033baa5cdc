"""Matrix products, attention and what moves elements in ``fastconv.functional``, beside PyTorch."""

from __future__ import annotations

import inspect
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from checks import TOLERANCE, assert_close, refused
from hypothesis import given
from hypothesis import strategies as st

from fastconv import functional
from fastconv.machine.cpu import kernels

torch = pytest.importorskip("torch")

FLOATS = [np.float32, np.float64]
ATTENTION = "scaled_dot_product_attention"


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype)


def _tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [_tensors(item) for item in value]
    return torch.tensor(np.array(value)) if isinstance(value, np.ndarray) else value


def torch_of(op: str, *arguments: Any, **attrs: Any) -> np.ndarray:
    function = getattr(torch.nn.functional, op, None) or getattr(torch, op)
    result = function(*map(_tensors, arguments), **{name: _tensors(value) for name, value in attrs.items()})
    return np.asarray(result.numpy())


def check(op: str, *arguments: Any, **attrs: Any) -> None:
    expected, actual = torch_of(op, *arguments, **attrs), getattr(functional, op)(*arguments, **attrs)
    assert actual.dtype == expected.dtype
    assert actual.flags.writeable
    assert not any(np.shares_memory(actual, x) for x in arguments if isinstance(x, np.ndarray))
    assert_close(actual, expected, TOLERANCE[expected.dtype])


def both_refuse(op: str, *arguments: Any, match: str, **attrs: Any) -> None:
    with refused(match):
        getattr(functional, op)(*arguments, **attrs)
    with pytest.raises((RuntimeError, TypeError, IndexError, ValueError)):
        torch_of(op, *arguments, **attrs)


# --- products -------------------------------------------------------------------------------------

RANKS = [
    ((5,), (5,)),
    ((5,), (5, 3)),
    ((5,), (2, 5, 3)),
    ((4, 5), (5,)),
    ((2, 4, 5), (5,)),
    ((2, 4, 5), (5, 3)),
    ((4, 5), (2, 5, 3)),
    ((2, 1, 4, 5), (3, 5, 2)),
    ((1, 3, 4, 5), (2, 1, 5, 1)),
    ((0, 5), (5, 3)),
    ((4, 0), (0, 3)),
    ((4, 5), (5, 0)),
    ((0, 4, 5), (0, 5, 3)),
    ((2, 4, 0), (0,)),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shapes", RANKS, ids=str)
def test_every_rank_of_matmul(shapes: tuple[tuple[int, ...], ...], dtype: Any) -> None:
    first, second = (random(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes))
    check("matmul", first, second)
    if first.ndim > 1:
        check("matmul", np.asfortranarray(first), second)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65, 300])
def test_sizes_of_a_product(n: int, dtype: Any) -> None:
    for m, k, o in ((n, 6, 11), (6, n, 11), (6, 11, n), (1, n, 33), (4, 9, n), (n, 3000, 21), (5, n, 70)):
        check("matmul", random(m, k, dtype=dtype), random(k, o, dtype=dtype, seed=1))
        check("bmm", random(3, m, k, dtype=dtype), random(3, k, o, dtype=dtype, seed=1))


@pytest.mark.parametrize("k", [1024, 3072])
def test_rows_a_multiple_of_a_page_apart(k: int) -> None:
    x, z = random(61, k), random(k, 150, seed=1)
    check("matmul", x, z)
    whole = functional.matmul(x, z)
    for first, last in ((0, 1), (7, 10), (40, 61)):  # few rows, which no panels are made for, and other tiles
        np.testing.assert_array_equal(functional.matmul(x[first:last], z), whole[first:last])


@given(st.data())
def test_leading_axes_broadcast(data: st.DataObject) -> None:
    sizes = st.integers(1, 6)
    lead = data.draw(st.lists(st.integers(0, 3), max_size=3))
    m, k, o = (data.draw(sizes) for _ in range(3))
    shapes = []
    for matrix in ((m, k), (k, o)):
        own = [1 if data.draw(st.booleans()) else size for size in lead][data.draw(st.integers(0, len(lead))) :]
        shapes.append((*own, *matrix))
    dtype = data.draw(st.sampled_from(FLOATS))
    check("matmul", *(random(*shape, dtype=dtype) for shape in shapes))


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    for m in (1, 3, 20):
        x, z = random(m, 40), random(40, 37)
        x[m // 2, 5], z[7, 30] = np.nan, np.inf
        actual, expected = functional.matmul(x, z), torch_of("matmul", x, z)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))


def test_bits_of_a_product_depend_on_its_rows_and_columns_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.functional import one_op

    x, z = random(3, 130, 600), random(600, 500, seed=1)
    results = []
    for threads in (1, 2, 3):
        one_op.cache.clear()
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        results.append(functional.matmul(x, z))
    one_op.cache.clear()
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    for rows in (1, 2, 5, 67):
        np.testing.assert_array_equal(functional.matmul(x[1, :rows].copy(), z), results[0][1, :rows])


def test_refused_products() -> None:
    both_refuse("matmul", random(3, 4), random(5, 6), match=r"matmul: input \(3, 4\) has 4 columns and other \(5, 6\)")
    both_refuse("matmul", random(3), random(), match=r"matmul: input and other need at least one axis, got \(3,\)")
    both_refuse("matmul", random(2, 3, 4), random(3, 4, 5), match=r"matmul: the leading axes, input \(2,\) and other")
    both_refuse("bmm", random(3, 4), random(4, 5), match=r"bmm: needs input \(B, M, K\)")
    both_refuse("bmm", random(2, 3, 4), random(1, 4, 5), match=r"bmm: needs input \(B, M, K\)")
    with refused("matmul: other is int64"):
        functional.matmul(random(3, 4), np.ones((4, 2), np.int64))


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("rows", "keys", "features", "columns", "lead"),
    [
        (5, 6, 8, 7, (2,)),
        (50, 49, 32, 32, (2, 3)),
        (1, 1, 1, 1, ()),
        (100, 17, 9, 33, (1, 2)),
        (3, 130, 64, 64, (1,)),
        (49, 16, 3, 1, (1, 1, 2)),
        (97, 8, 16, 17, (2, 1)),
    ],
)
def test_attention(rows: int, keys: int, features: int, columns: int, lead: tuple[int, ...], dtype: Any) -> None:
    shapes = ((rows, features), (keys, features), (keys, columns))
    q, k, v = (random(*lead, *shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes))
    check(ATTENTION, q, k, v)
    check(ATTENTION, q, k, v, is_causal=True, scale=0.3)
    for shape in (
        (rows, keys),
        (1, keys),
        (rows, 1),
        *[(keys,)] * (len(lead) == 1),
        (*lead, rows, keys),
        (*[1] * len(lead), 1, keys),
    ):
        mask = random(*shape, dtype=dtype)
        check(ATTENTION, q, k, v, attn_mask=mask)
        check(ATTENTION, q, k, v, attn_mask=mask > 1)  # some queries see no key
        check(ATTENTION, q, k, v, attn_mask=np.where(mask > 0, mask, dtype(-np.inf)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_attention_of_grouped_heads_and_of_what_broadcasts(dtype: Any) -> None:
    for q, k in (((2, 6, 5, 8), (2, 2, 7, 8)), ((6, 5, 8), (3, 7, 8)), ((2, 4, 5, 8), (2, 4, 7, 8))):
        check(ATTENTION, *(random(*s, dtype=dtype) for s in (q, k, (*k[:-1], 9))), enable_gqa=True)
    for q, k in (((2, 3, 5, 8), (1, 1, 7, 8)), ((2, 3, 5, 8), (7, 8)), ((1, 3, 5, 8), (2, 1, 7, 8))):
        check(ATTENTION, *(random(*s, dtype=dtype) for s in (q, k, k)))


def test_attention_of_nothing() -> None:
    for shapes in (
        ((0, 5, 8), (0, 6, 8), (0, 6, 7)),
        ((2, 0, 8), (2, 6, 8), (2, 6, 7)),
        ((2, 5, 8), (2, 6, 8), (2, 6, 0)),
    ):
        check(ATTENTION, *(random(*shape) for shape in shapes))
    assert functional.scaled_dot_product_attention(random(2, 5, 8), random(2, 0, 8), random(2, 0, 7)).shape == (2, 5, 7)


def test_nan_in_attention_stays_with_its_query() -> None:
    q, k, v = random(2, 60, 16), random(2, 33, 16), random(2, 33, 20)
    q[1, 50, 3] = np.nan
    y = functional.scaled_dot_product_attention(q, k, v)
    assert np.isnan(y[1, 50]).all()
    assert np.isnan(y).sum() == 20


def test_threads_do_not_change_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.functional import one_op

    q, k, v = random(1, 333, 64), random(1, 301, 64), random(1, 301, 64)
    results = []
    for threads in (1, 2):
        one_op.cache.clear()
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        results.append(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
    one_op.cache.clear()
    np.testing.assert_array_equal(*results)
    alone = functional.scaled_dot_product_attention(np.stack([v[0, :, :], v[0]])[:, :301], k, v)
    np.testing.assert_array_equal(alone[0], alone[1])


def test_refused_attention() -> None:
    q, k = random(2, 5, 8), random(2, 6, 8)
    for arguments, attrs, match in (
        ((q, random(2, 6, 7), k), {}, r"needs query \(\.\.\., L, E\)"),
        ((q, k, random(2, 5, 8)), {}, r"needs query \(\.\.\., L, E\)"),
        ((q[0, 0], k, k), {}, r"query needs at least two axes, got \(8,\)"),
        ((q, random(3, 6, 8), random(3, 6, 8)), {}, r"the leading axes, query \(2,\) and key \(3,\) and value \(3,\)"),
        ((q, k, k, random(4, 6)), {}, r"attn_mask \(4, 6\) does not broadcast to the scores, \(2, 5, 6\)"),
        ((q, k, k, random(3, 5, 6)), {}, r"attn_mask \(3, 5, 6\) does not broadcast"),
        ((q, k, k, np.ones((5, 6), np.int64)), {}, "attn_mask is int64"),
        ((q, k, k), {"scale": "a"}, "scale must be a number, got 'a'"),
    ):
        both_refuse(ATTENTION, *arguments, **attrs, match=f"{ATTENTION}: {match}")
    for attrs, match in (
        ({"dropout_p": 0.1}, "dropout_p must be 0, dropout is for training, got 0.1"),
        ({"is_causal": True, "attn_mask": random(5, 6)}, "attn_mask and is_causal cannot both be given"),
        ({"is_causal": 1}, "is_causal must be True or False, got 1"),
        ({"enable_gqa": True}, r"with enable_gqa, query has a multiple of the heads"),
    ):
        with refused(f"{ATTENTION}: {match}"):
            functional.scaled_dot_product_attention(q, random(3, 6, 8), random(3, 6, 8), **attrs)


# --- what moves elements --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_permutation_and_flip(dtype: Any) -> None:
    for shape in ((3, 4, 5, 6), (2, 17, 9), (33, 40), (16, 3, 16), (1, 1, 7), (0, 3, 2)):
        x = random(*shape, dtype=dtype)
        for view in (x, np.asfortranarray(x), x[..., ::-1]):
            for dims in permutations(range(x.ndim)):
                check("permute", view, dims)
            for count in range(x.ndim + 1):
                for dims in combinations(range(-1, x.ndim - 1), count):
                    check("flip", view, dims)
            for first in range(-x.ndim, x.ndim):
                check("transpose", view, first, 0)
    for op, arguments in (("permute", ((),)), ("flip", ((),)), ("flip", ((0,),)), ("transpose", (0, -1))):
        check(op, random(dtype=dtype), *arguments)


@pytest.mark.parametrize("n", [7, 8, 9, 16, 17, 1023, 1025])
def test_long_axes_backwards(n: int) -> None:
    for shape, dims in (((n,), (0,)), ((3, n), (1,)), ((n, 3), (0,)), ((2, n), (0, 1)), ((n, 5), (1,))):
        np.testing.assert_array_equal(functional.flip(random(*shape), dims), np.flip(random(*shape), dims))


def test_rolls() -> None:
    x = random(3, 4, 5)
    for arguments in (
        (1,),
        (-2, 1),
        ((1, 2), (0, -1)),
        ((3, 3), (1, 1)),
        (7, 2),
        (0, 0),
        ((1,), (1,)),
        (100,),
        (-1, ()),
    ):
        check("roll", x, *arguments)
    check("roll", random(), 3)
    check("roll", random(0, 3), (2, 1), (0, 1))
    both_refuse("roll", x, (1, 2), 0, match="roll: shifts must be as many as dims")
    both_refuse("roll", x, (1, 2), match="roll: shifts must be as many as dims")
    both_refuse("roll", x, 1, 3, match=r"roll: dims=3 is not an axis of the input \(3, 4, 5\), -3\.\.2")
    both_refuse("roll", random(), 1, 0, match="roll: dims must be left out for a scalar")
    both_refuse("roll", x, 1.5, 0, match=r"roll: shifts must be an int, got 1\.5")


def test_selected_indices() -> None:
    x = random(3, 4, 5)
    for dim in range(-3, 3):
        for index in ([2, 0, 2, 1], [], [0]):
            for dtype in (np.int32, np.int64):
                check("index_select", x, dim, np.array(index, dtype))
    check("index_select", x, 1, np.array(2))
    check("index_select", random(), 0, np.array([0]))
    one = np.array([0])
    both_refuse(
        "index_select", x, 1, np.array([0, 4]), match=r"index_select: index 4 is none of the axis 1 of \(3, 4, 5\)"
    )
    both_refuse("index_select", x, 1, np.array([-1]), match="index_select: index -1 is none of the axis 1")
    both_refuse("index_select", x, 3, one, match="index_select: dim=3 is not an axis of the input")
    both_refuse(
        "index_select", x, 0, one.astype(np.int16), match="index_select: index is int16, it must be int32 or int64"
    )
    both_refuse("index_select", x, 0, one[None], match=r"index_select: index must have one axis, got shape \(1, 1\)")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_copies_for_any_number_of_threads(threads: int, dtype: Any) -> None:
    x = random(3, 5, 257, 130, dtype=dtype)
    flipped = kernels().broadcast(kernels().ARITHMETIC["copy"], 0, False, x[:, ::-1, :, ::-1], None, None, threads)
    np.testing.assert_array_equal(flipped, np.flip(x, (1, 3)), strict=True)
    strided = kernels().broadcast(kernels().ARITHMETIC["copy"], 0, False, x[:, ::2, 1:, ::3], None, None, threads)
    np.testing.assert_array_equal(strided, x[:, ::2, 1:, ::3], strict=True)


def test_large_arrays_are_joined() -> None:
    x, z = random(3, 70, 129), random(3, 33, 129, seed=1)
    check("cat", [x, z, x], 1)
    check("stack", [x, x[..., ::-1]], -1)
    many = np.ones((1,) * 32, np.float32)
    if int(np.__version__.split(".")[0]) > 1:
        assert functional.stack([many, many], 7).shape == (*(1,) * 7, 2, *(1,) * 25)
        many = many.reshape((1,) * 64)
        assert functional.cat([many, many], 60).shape[60] == 2
    with pytest.raises(ValueError, match="axes"):
        functional.stack([many, many])


def test_joined_arrays() -> None:
    x, z = random(3, 4, 5), random(3, 4, 5, seed=1)
    for dim in range(-3, 3):
        check("cat", [x, z, x], dim)
        wide = np.repeat(z, 2, dim)
        check("cat", [x, wide[::-1]], dim)
    for dim in range(-4, 4):
        check("stack", [x, z, x], dim)
    check("cat", [x[:, :0], z], 1)
    check("cat", [np.zeros(0, np.float32), x])
    check("cat", [np.zeros(0, np.float32)] * 2)
    check("stack", [random(), random()])
    check("cat", [x] * 200)
    both_refuse("cat", [], match="cat: tensors must be a list of arrays, at least one")
    both_refuse(
        "cat", [x, z[:2]], 1, match=r"cat: tensors must agree on every axis but dim=1, got \(3, 4, 5\) and \(2, 4, 5\)"
    )
    both_refuse("cat", [x, random(3, 4)], 0, match="cat: tensors must agree on every axis but dim=0")
    both_refuse("cat", [x], 3, match=r"cat: dim=3 is not an axis of the input \(3, 4, 5\), -3\.\.2")
    both_refuse("cat", [random(), random()], match="cat: tensors must have an axis, one is a scalar")
    both_refuse("stack", [x, z[:2]], match=r"stack: tensors must have one shape, got \(3, 4, 5\) and \(2, 4, 5\)")
    both_refuse("stack", [x], 4, match=r"stack: dim=4 is not an axis of the input \(3, 4, 5\), -4\.\.3")
    with refused("cat: tensors are float32 and float64; convert some"):
        functional.cat([x, z.astype(np.float64)])
    with refused("stack: tensors is int64"):
        functional.stack([np.ones(3, np.int64)])
    with refused("cat: tensors must be a list of arrays"):
        functional.cat(x)


def test_other_shapes() -> None:
    x = random(3, 4, 5)
    for shape in ((12, 5), (-1,), (5, -1, 2), [60, 1], (3, 4, 5)):
        check("reshape", x, shape)
    for arguments in ((), (1,), (0, 1), (-2, -1), (1, 1)):
        check("flatten", x, *arguments)
    check("flatten", random())
    check("broadcast_to", random(3, 1), (2, 3, 4))
    check("broadcast_to", random(3, 1), (2, -1, 4))
    check("broadcast_to", random(), (2, 3))
    check("broadcast_to", random(1, 3), (0, 3))
    both_refuse("reshape", x, (7, -1), match=r"reshape: cannot give \(3, 4, 5\) \(60 elements\) the shape \(7, -1\)")
    both_refuse("reshape", x, (-1, -1), match="reshape: cannot give")
    both_refuse("flatten", x, 2, 1, match="flatten: start_dim=2 must not lie behind end_dim=1")
    both_refuse("broadcast_to", x, (4, 5), match=r"broadcast_to: \(3, 4, 5\) does not broadcast to \(4, 5\)")
    both_refuse("broadcast_to", x, (2, 4, 5), match="broadcast_to: ")
    both_refuse(
        "permute", x, (0, 1), match=r"permute: dims must hold all 3 axes of the input \(3, 4, 5\), got \(0, 1\)"
    )
    both_refuse("permute", x, (0, 1, 1), match="permute: dims must name every axis once")
    both_refuse("flip", x, (0, -3), match="flip: dims must name every axis once")
    both_refuse("flip", x, 0, match="flip: dims must be a tuple of ints")
    both_refuse("transpose", x, 0, 3, match="transpose: dim1=3 is not an axis of the input")


REQUIRED = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, Any]] = {
    "matmul": {"input": REQUIRED, "other": REQUIRED},
    "bmm": {"input": REQUIRED, "mat2": REQUIRED},
    ATTENTION: {
        **dict.fromkeys(("query", "key", "value"), REQUIRED),
        "attn_mask": None,
        "dropout_p": 0.0,
        "is_causal": False,
        "scale": None,
        "enable_gqa": False,
    },
    "permute": {"input": REQUIRED, "dims": REQUIRED},
    "transpose": {"input": REQUIRED, "dim0": REQUIRED, "dim1": REQUIRED},
    "flip": {"input": REQUIRED, "dims": REQUIRED},
    "roll": {"input": REQUIRED, "shifts": REQUIRED, "dims": None},
    "index_select": {"input": REQUIRED, "dim": REQUIRED, "index": REQUIRED},
    "cat": {"tensors": REQUIRED, "dim": 0},
    "stack": {"tensors": REQUIRED, "dim": 0},
    "reshape": {"input": REQUIRED, "shape": REQUIRED},
    "flatten": {"input": REQUIRED, "start_dim": 0, "end_dim": -1},
}


@pytest.mark.parametrize("op", SIGNATURES)
def test_names_of_arguments(op: str) -> None:
    found = {name: p.default for name, p in inspect.signature(getattr(functional, op)).parameters.items()}
    assert list(found.items()) == list(SIGNATURES[op].items())
