"""What `functional` remembers between calls: that it is bounded, never mistaken, and of no effect on results."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cases
import numpy as np
import pytest
from checks import assert_agree, engine, oracle, refused

import fastconv.functional as F
from fastconv.functional import one_op

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 9, 10)).astype(np.float32)
REMEMBERED = cases.MAX_POOL + cases.AVG_POOL + cases.ADAPTIVE + cases.UNFOLD + cases.FOLD + cases.PAD


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    one_op.cache.clear()
    yield
    one_op.cache.clear()


@pytest.fixture
def prepared() -> list[tuple[Any, ...]]:
    """Make the list of what `echo` prepares."""
    return []


def echo(calls: list[tuple[Any, ...]], cache: Any = None, nbytes: int = 0, images: bool = False) -> Any:
    """Make an entry which notes what it prepares, and whose result is the attributes it was prepared for."""

    def prepare(arrays: tuple[Any, ...], attributes: tuple[Any, ...], threads: int) -> tuple[Any, int]:
        calls.append(attributes)
        return (lambda *_: attributes), nbytes

    def convert(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(np.require(array, requirements="C") for array in arrays)

    kernels = one_op.kernels()
    cache = kernels.Cache(lambda: 1, 8, 1000) if cache is None else cache
    return kernels.OneOp(cache, prepare, convert, images)


# Each of these means another thing to some function, though Python thinks many of them equal.
DIFFERENT: list[Any] = [
    1, True, 1.0, np.int64(1), np.int32(1), np.float64(1), "1", (1,), [1], (1, 1), [1, 1], ((1,), 1),
    (1, (1,)), ((1, 1),),
    0, False, 0.0, -0.0, None, "", (), [], (None,), (0,), (False,), (0.0,), "N", float("nan"), float("inf"),
    2**31, 2**62, -1, "a", "ab", ("a", "b"), ("ab",), 2**80, b"1", 1j, "\N{GREEK SMALL LETTER ALPHA}",
]  # fmt: skip


def test_attributes_that_are_not_alike_are_never_confused(prepared: list[tuple[Any, ...]]) -> None:
    entry = echo(prepared, one_op.kernels().Cache(lambda: 1, 1000, 1000))
    for _ in range(2):
        for value in DIFFERENT:
            (found,) = entry.run((IMAGE,), (value,))
            assert type(found) is type(value)
            assert repr(found) == repr(value)
    assert len(DIFFERENT) < len(prepared) < 2 * len(DIFFERENT)  # a few have no key and are prepared twice


def test_where_one_attribute_ends_the_next_begins(prepared: list[tuple[Any, ...]]) -> None:
    entry = echo(prepared)
    for attributes in [(1, (2, 3)), ((1, 2), 3), (1, 2, 3), ((1, 2, 3),), ("a", "bc"), ("ab", "c")]:
        assert entry.run((IMAGE,), attributes) == attributes
    assert len(prepared) == 6


def test_a_list_counts_by_what_it_holds(prepared: list[tuple[Any, ...]]) -> None:
    entry = echo(prepared)
    kernel = [2, 3]
    entry.run((IMAGE,), (kernel,))
    entry.run((IMAGE,), ([2, 3],))
    assert len(prepared) == 1
    kernel[0] = 3
    entry.run((IMAGE,), (kernel,))
    assert len(prepared) == 2


@pytest.mark.parametrize(
    "attribute", [2**80, (1,) * 1000, "a" * 1000, ((((1,),),),), object()], ids=lambda v: str(v)[:9]
)
def test_what_has_no_key_is_prepared_each_time(attribute: Any, prepared: list[tuple[Any, ...]]) -> None:
    entry = echo(prepared)
    for n in range(1, 4):
        assert entry.run((IMAGE,), (attribute,)) == (attribute,)
        assert len(prepared) == n


def test_arrays_count_by_type_and_shape(prepared: list[tuple[Any, ...]]) -> None:
    entry = echo(prepared, one_op.kernels().Cache(lambda: 1, 100, 1000))
    for shape in [(2, 3), (3, 2), (6,), (1, 6), (2, 3, 1), (2, 3, 1, 1), (1, 3, 1, 1), ()]:
        for dtype in (np.float32, np.float64):
            before = len(prepared)
            x = np.zeros(shape, dtype)
            entry.run((x,), ())
            entry.run((x,), ())
            assert len(prepared) == before + 1


def test_a_batch_of_images_may_have_any_size(prepared: list[tuple[Any, ...]]) -> None:
    entry = echo(prepared, images=True)
    for batch in (1, 2, 0, 7):
        entry.run((np.zeros((batch, 3, 5, 5), np.float32),), ())
    assert len(prepared) == 1
    entry.run((np.zeros((3, 5, 5), np.float32),), ())
    entry.run((np.zeros((1, 4, 5, 5), np.float32),), ())
    assert len(prepared) == 3


def test_functions_that_share_a_cache_are_told_apart(prepared: list[tuple[Any, ...]]) -> None:
    cache = one_op.kernels().Cache(lambda: 1, 8, 1000)
    first, second = echo(prepared, cache), echo(prepared, cache)
    first.run((IMAGE,), (1,))
    second.run((IMAGE,), (1,))
    assert len(prepared) == 2


def test_the_number_of_threads_counts(prepared: list[tuple[Any, ...]]) -> None:
    threads = [1]
    cache = one_op.kernels().Cache(lambda: threads[0], 8, 1000)
    entry = echo(prepared, cache)
    entry.run((IMAGE,), ())
    threads[0] = 2
    cache.clear()
    assert cache.threads() == 2
    entry.run((IMAGE,), ())
    assert len(prepared) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_change_of_affinity_is_seen_within_a_moment() -> None:
    import time

    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two CPUs")
    try:
        os.sched_setaffinity(0, {min(before)})
        time.sleep(0.11)
        assert one_op.threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_least_recently_used_go_first(prepared: list[tuple[Any, ...]]) -> None:
    cache = one_op.kernels().Cache(lambda: 1, 3, 1000)
    entry = echo(prepared, cache)
    for value in (1, 2, 3, 1, 4):  # 2 was used longest ago when 4 came
        entry.run((IMAGE,), (value,))
    assert len(cache) == 3
    prepared.clear()
    for value in (1, 3, 4):
        entry.run((IMAGE,), (value,))
    assert prepared == []
    entry.run((IMAGE,), (2,))
    assert prepared == [(2,)]


def test_working_memory_is_bounded(prepared: list[tuple[Any, ...]]) -> None:
    cache = one_op.kernels().Cache(lambda: 1, 100, 1000)
    small, large, too_large = (echo(prepared, cache, n) for n in (100, 900, 1001))
    for value in range(5):
        small.run((IMAGE,), (value,))
    assert (len(cache), cache.held()) == (5, 500)
    large.run((IMAGE,), (0,))
    assert (len(cache), cache.held()) == (2, 1000)
    too_large.run((IMAGE,), (0,))
    assert (len(cache), cache.held()) == (2, 1000)


def test_memory_stays_flat() -> None:
    resource = pytest.importorskip("resource")

    def peak_mib() -> float:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024

    def call_with_sizes(sizes: range) -> None:
        for size in sizes:
            x = np.zeros((1, 16, size, 64), np.float32)
            F.max_pool2d(x, 2)
            F.pad(x, (1, 2, 3, 4))

    call_with_sizes(range(2, 400))
    before = peak_mib()
    call_with_sizes(range(400, 2, -1))
    call_with_sizes(range(2, 400))
    assert len(one_op.cache) <= one_op.CACHED
    assert one_op.cache.held() <= one_op.CACHED_BYTES
    assert peak_mib() - before < 32


def test_what_is_refused_is_refused_again() -> None:
    for _ in range(3):
        np.testing.assert_array_equal(F.max_pool2d(IMAGE, 1), IMAGE)
        with refused(match="kernel_size"):
            F.max_pool2d(IMAGE, True)
        with refused(match="kernel_size"):
            F.max_pool2d(IMAGE, 1.0)
        with refused(match="ceil_mode"):
            F.max_pool2d(IMAGE, 1, ceil_mode=0)


@pytest.mark.parametrize("case", REMEMBERED, ids=str)
def test_results_do_not_depend_on_what_is_remembered(case: cases.Case) -> None:
    arrays = case.arrays(np.float32)
    fresh, remembered = (engine(case.op, *arrays, **case.attrs) for _ in range(2))
    np.testing.assert_array_equal(fresh, remembered)
    # The array's own values are no part of what is remembered.
    other = [array + 1 for array in arrays]
    assert_agree(engine(case.op, *other, **case.attrs), oracle(case.op, *other, **case.attrs), np.dtype(np.float32))


def test_many_threads_share_it() -> None:
    rng = np.random.default_rng(0)
    calls = []
    for size in range(6, 26):
        x = rng.standard_normal((2, 5, size, 2 * size)).astype(np.float32)
        calls += [
            (F.max_pool2d, (x, 2)), (F.max_pool2d, (x, (3, 2), [2, 1])), (F.avg_pool2d, (x, 3, 2, 1)),
            (F.adaptive_avg_pool2d, (x, 1)), (F.pad, (x, (1, 0, 2, 1), "reflect")), (F.unfold, (x, 3)),
            (F.linear, (x, x[0, 0, :7])), (F.relu, (x,)), (F.softmax, (x, 1)),
        ]  # fmt: skip
    expected = [function(*arguments) for function, arguments in calls]
    one_op.cache.clear()
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for index in np.random.default_rng(seed).integers(len(calls), size=600):
            function, arguments = calls[index]
            np.testing.assert_array_equal(function(*arguments), expected[index])
            if index % 50 == 0:
                one_op.cache.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(one_op.cache) <= one_op.CACHED


def test_families_load_at_first_use() -> None:
    import subprocess
    import sys

    code = (
        "import sys, fastconv.functional as F\n"
        "assert not any(name.startswith('fastconv.functional.') for name in sys.modules)\n"
        "F.linear\n"
        "assert 'fastconv.functional.pool' not in sys.modules\n"
        "assert set(F.__all__) <= set(dir(F)) and all(callable(getattr(F, name)) for name in F.__all__)\n"
        "assert {f.__module__.rpartition('.')[0] for f in map(F.__dict__.get, F.__all__)} == {'fastconv.functional'}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no_such_function"):
        F.no_such_function  # noqa: B018


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_small_calls_wake_no_second_thread() -> None:
    import subprocess
    import sys

    code = (
        "import os, numpy as np, fastconv.functional as F\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "x, w, c = np.ones((1, 16, 12, 12), 'f'), np.ones((8, 16, 3, 3), 'f'), np.ones(16, 'f')\n"
        "before = count()\n"
        "columns = F.unfold(x, 3)\n"
        "F.fold(columns, 12, 3); F.pad(x, (1, 1)); F.conv2d(x, w); F.linear(x, w[0, 0, 0].repeat(4)); F.relu(x)\n"
        "F.max_pool2d(x, 2); F.max_pool2d(x, 2, return_indices=True); F.avg_pool2d(x, 2); F.adaptive_avg_pool2d(x, 1)\n"
        "F.adaptive_max_pool2d(x, 3); F.sigmoid(x); F.softmax(x, 1); F.batch_norm(x, c, c)\n"
        "print(count() - before)\n"
        "F.relu(np.ones((64, 64, 64, 64), 'f'))\n"
        "print(count() - before)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    small, large = map(int, done.stdout.split())
    assert small == 0
    if len(os.sched_getaffinity(0)) > 1 and one_op.kernels().OPENMP:
        assert large > 0
