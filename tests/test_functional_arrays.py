"""What holds for every operator: layouts and types of arrays, and what happens to the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case
from checks import assert_agree, engine, oracle, refused
from numpy.typing import NDArray

Array = NDArray[Any]
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

CONV_SAMPLES = [
    Case("conv2d", ((3, 4, 9, 11), (6, 4, 3, 3), (6,)), {"padding": 1, "algorithm": algorithm})
    for algorithm in ("auto", "exact", "im2col", "packed", "direct", "winograd")
]
SAMPLES = [
    *CONV_SAMPLES,
    Case("conv2d", ((3, 4, 9, 11), (8, 2, 3, 3), (8,)), {"groups": 2}),
    Case("conv2d", ((3, 4, 9, 11), (4, 1, 3, 3), (4,)), {"groups": 4}),
    Case("conv2d", ((3, 4, 9, 11), (6, 4, 1, 1), (6,))),
    Case("max_pool2d", ((3, 4, 9, 11),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Case("max_pool2d", ((3, 4, 9, 11),), {"kernel_size": 2, "return_indices": True}),
    Case("max_pool2d", ((3, 4, 9, 11),), {"kernel_size": 1}),
    Case("avg_pool2d", ((3, 4, 9, 11),), {"kernel_size": 3, "padding": 1, "ceil_mode": True}),
    Case("adaptive_avg_pool2d", ((3, 4, 9, 11),), {"output_size": (4, 3)}),
    Case("adaptive_avg_pool2d", ((3, 4, 9, 11),), {"output_size": (None, None)}),
    Case("adaptive_max_pool2d", ((3, 4, 9, 11),), {"output_size": 4, "return_indices": True}),
    Case("unfold", ((3, 4, 9, 11),), {"kernel_size": 3, "padding": 1}),
    Case("unfold", ((3, 4, 9, 11),), {"kernel_size": 1}),
    Case("fold", ((3, 8, 80),), {"output_size": (9, 11), "kernel_size": 2}),
    Case("pad", ((3, 4, 9, 11),), {"pad": (1, 2, 3, 0)}),
    Case("pad", ((3, 4, 9, 11),), {"pad": (1, 2, 3, 0), "mode": "reflect"}),
    Case("pad", ((3, 4, 9, 11),), {"pad": (0, 0, 0, 0)}),
    Case("linear", ((3, 19), (5, 19), (5,))),
    Case("relu", ((3, 4, 9, 11),)),
    Case("leaky_relu", ((3, 4, 9, 11),)),
    Case("hardtanh", ((3, 4, 9, 11),)),
    Case("sigmoid", ((3, 4, 9, 11),)),
    Case("tanh", ((3, 4, 9, 11),)),
    Case("softmax", ((3, 4, 9, 11),), {"dim": 1}),
    Case("log_softmax", ((3, 4, 9, 11),), {"dim": -1}),
    Case("batch_norm", ((3, 4, 9, 11), (4,), (4,), (4,), (4,))),
]


def _outputs(result: Any) -> tuple[Array, ...]:
    return result if isinstance(result, tuple) else (result,)


def _reversed(x: Array) -> Array:
    backwards = (slice(None, None, -1),) * x.ndim
    reversed_view: Array = x[backwards].copy()[backwards]
    return reversed_view


def _every_other(x: Array) -> Array:
    host = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    view: Array = host[(slice(None, None, 2),) * x.ndim]
    view[...] = x
    return view


def _channels_last(x: Array) -> Array:
    return np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1) if x.ndim > 1 else x


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x: Array) -> Array:
    host = np.zeros(x.nbytes + 1, np.uint8)
    view: Array = np.ndarray(x.shape, x.dtype, buffer=host, offset=1)  # not even to its item size
    view[...] = x
    return view


def _byte_swapped(x: Array) -> Array:
    return x.astype(x.dtype.newbyteorder())


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "fortran": np.asfortranarray,
    "channels-last": _channels_last,
    "reversed": _reversed,
    "every-other": _every_other,
    "read-only": _read_only,
    "unaligned": _unaligned,
    "byte-swapped": _byte_swapped,
}


# The choice of an algorithm is for float32.
TYPED_SAMPLES = [(case, dtype) for case in SAMPLES for dtype in (F32, F64) if case not in CONV_SAMPLES or dtype == F32]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("case", "dtype"), TYPED_SAMPLES, ids=str)
def test_any_layout(case: Case, dtype: np.dtype[Any], layout: str) -> None:
    arrays = case.arrays(dtype)
    laid_out = [LAYOUTS[layout](array) for array in arrays]
    actual = engine(case.op, *laid_out, **case.attrs)
    assert_agree(actual, oracle(case.op, *arrays, **case.attrs), dtype)
    for array, original in zip(laid_out, arrays, strict=True):
        np.testing.assert_array_equal(array, original, err_msg="an input was modified")


@pytest.mark.parametrize("case", SAMPLES, ids=str)
def test_broadcast_inputs(case: Case) -> None:
    # One value, one row, one channel, one image, seen many times through strides of 0.
    for axes in [(0, 1, 2, 3), (2,), (1,), (0,), (3,)]:
        arrays = []
        for array in case.arrays(F32):
            first = tuple(slice(1) if i in axes else slice(None) for i in range(array.ndim))
            arrays.append(np.broadcast_to(array[first], array.shape))
        actual = engine(case.op, *arrays, **case.attrs)
        assert_agree(actual, oracle(case.op, *arrays, **case.attrs), F32)


@pytest.mark.parametrize("case", SAMPLES, ids=str)
def test_the_result_is_the_callers_own(case: Case) -> None:
    arrays = case.arrays(F32)
    first, second = (_outputs(engine(case.op, *arrays, **case.attrs)) for _ in range(2))
    for y, other in zip(first, second, strict=True):
        assert y.flags.writeable
        assert not any(np.shares_memory(y, array) for array in arrays)
        assert not np.shares_memory(y, other)


@pytest.mark.parametrize(("case", "dtype"), TYPED_SAMPLES, ids=str)
def test_an_image_does_not_depend_on_its_batch(case: Case, dtype: np.dtype[Any]) -> None:
    arrays = case.arrays(dtype)
    batch = _outputs(engine(case.op, *arrays, **case.attrs))
    for i, image in enumerate(arrays[0]):
        alone = _outputs(engine(case.op, image[None], *arrays[1:], **case.attrs))
        for one, many in zip(alone, batch, strict=True):
            np.testing.assert_array_equal(one[0], many[i])


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "?", "c8", "O", "U1"])
@pytest.mark.parametrize("case", SAMPLES, ids=str)
def test_other_types_are_refused_with_the_remedy(case: Case, dtype: str) -> None:
    arrays = [array.astype(dtype) for array in case.arrays(F32)]
    with refused(match="float32"):
        engine(case.op, *arrays, **case.attrs)


@pytest.mark.parametrize("case", [c for c in SAMPLES if len(c.shapes) > 1], ids=str)
def test_mixed_types_are_refused(case: Case) -> None:
    for position in range(len(case.shapes)):
        arrays = case.arrays(F32)
        arrays[position] = arrays[position].astype(F64)
        with refused(match=r"float32.*float64|float64.*float32"):
            engine(case.op, *arrays, **case.attrs)


@pytest.mark.parametrize("case", SAMPLES, ids=str)
def test_denormals_work_after_a_call(case: Case) -> None:
    # The kernels flush denormals to zero; the caller's arithmetic must not.
    engine(case.op, *case.arrays(F32), **case.attrs)
    smallest = np.array([1e-45, 1e-40], np.float32)
    assert (smallest * np.float32(0.5) + smallest > 0).all()
    assert np.array([1e-310]) * 0.5 > 0
