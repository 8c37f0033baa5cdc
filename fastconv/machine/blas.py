"""The matrix product of the BLAS that NumPy has loaded, bound by address at first use.

    C := alpha * op(A).op(B) + beta * C          (cblas_sgemm and cblas_dgemm)

NumPy's wheels carry an OpenBLAS under decorated names (``scipy_cblas_sgemm64_``), other builds
load a system BLAS, MKL or Accelerate. `address` finds the one in this process and returns plain
integers, which the kernels cast to function pointers. So nothing here has to be compiled, no
second BLAS is carried along, and a process without one still works (it returns None).

The library keeps its own threads and settings: nothing here changes them.

The environment variable ``FASTCONV_BLAS`` names another library by its path; ``none`` binds none.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = ["address", "info"]

# How builds of BLAS decorate `cblas_sgemm`: (prefix, suffix). SciPy's OpenBLAS (NumPy's wheels),
# 64-bit-integer builds of the distributions, Accelerate since macOS 13.3, and the plain name last:
# Accelerate's plain name is its old interface.
_DECORATIONS = tuple(
    (prefix, suffix) for suffix in ("64_", "_64", "$NEWLAPACK$ILP64", "$NEWLAPACK", "") for prefix in ("scipy_", "")
)
_ACCELERATE = "/System/Library/Frameworks/Accelerate.framework/Accelerate"


@dataclass(frozen=True, slots=True)
class _Binding:
    """One library's matrix products. `library` keeps it loaded as long as the addresses live."""

    library: ctypes.CDLL
    path: str
    symbol: str
    sgemm: int
    dgemm: int
    int_bits: int


def address() -> tuple[int, int, int] | None:
    """Return ``(sgemm, dgemm, int_bits)``: two addresses and the width of that BLAS's integers.

    Either address is of a C function, where ``blas_int`` has ``int_bits`` (32 or 64) bits and
    ``real`` is float or double::

        void cblas_gemm(int order, int trans_a, int trans_b,
                        blas_int m, blas_int n, blas_int k,
                        real alpha, const real *a, blas_int lda, const real *b, blas_int ldb,
                        real beta, real *c, blas_int ldc)

    With ``order`` 101 (row-major) and ``trans`` 111 (as it is) or 112 (transposed).

    Returns None where no BLAS was found or ``FASTCONV_BLAS=none``.

    Raises
    ------
    fastconv.errors.ArgumentError
        ``FASTCONV_BLAS`` names a library that cannot be loaded or has no ``cblas_sgemm``.
    """
    binding = _binding()
    return None if binding is None else (binding.sgemm, binding.dgemm, binding.int_bits)


def info() -> dict[str, Any] | None:
    """Describe the bound BLAS for `fastconv.show_config`, or return None where there is none.

    Keys: ``library`` (its path), ``symbol`` (the name that sgemm goes by), ``int_bits``, and
    where threadpoolctl knows the library also ``name``, ``version``, ``threading_layer`` and
    ``threads`` (the count that BLAS has set for itself).
    """
    binding = _binding()
    if binding is None:
        return None
    result = {
        "library": binding.path,
        "symbol": binding.symbol,
        "int_bits": binding.int_bits,
    }
    for known in _loaded():
        if os.path.realpath(known["filepath"]) == os.path.realpath(binding.path):
            result["name"] = known["internal_api"]
            result["version"] = known["version"]
            result["threading_layer"] = known.get("threading_layer")
            result["threads"] = known["num_threads"]
            break
    return result


@cache
def _binding() -> _Binding | None:
    choice = os.environ.get("FASTCONV_BLAS", "")
    if choice.lower() == "none":
        return None
    return _bind_named(choice) if choice else _bind_numpy()


def _bind_named(path: str) -> _Binding:
    remedy = "give the path of a BLAS with the CBLAS interface, or 'none' for fastconv's own kernel"
    try:
        binding = _bind(path)
    except OSError as error:
        raise ArgumentError(f"FASTCONV_BLAS={path}: cannot be loaded ({error}); {remedy}") from None
    if binding is None:
        raise ArgumentError(f"FASTCONV_BLAS={path}: has no cblas_sgemm and cblas_dgemm; {remedy}")
    return binding


def _bind_numpy() -> _Binding | None:
    """Bind NumPy's own BLAS: the one shipped beside NumPy, else the first that was loaded."""
    numpy_folder = os.path.dirname(os.path.realpath(np.__file__))
    beside_numpy = (f"{numpy_folder}.libs{os.sep}", f"{numpy_folder}{os.sep}")
    paths = [library["filepath"] for library in _loaded()]
    paths.sort(key=lambda path: not os.path.realpath(path).startswith(beside_numpy))
    if sys.platform == "darwin":
        paths.append(_ACCELERATE)  # part of the system; threadpoolctl does not list it
    for path in paths:
        try:
            binding = _bind(path)
        except OSError:  # listed, but not to be opened again by this path: try the next
            continue
        if binding is not None:
            return binding
    return None


def _loaded() -> list[dict[str, Any]]:
    """List the BLAS libraries in this process, in the order they were loaded."""
    import threadpoolctl  # here: it costs milliseconds, and most models never need a BLAS

    return [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]


def _bind(path: str) -> _Binding | None:
    library = ctypes.CDLL(path)
    for prefix, suffix in _DECORATIONS:
        sgemm, dgemm, sdot = (
            getattr(library, f"{prefix}cblas_{name}{suffix}", None) for name in ("sgemm", "dgemm", "sdot")
        )
        if sgemm is not None and dgemm is not None and sdot is not None:
            symbol = f"{prefix}cblas_sgemm{suffix}"
            return _Binding(library, path, symbol, _at(sgemm), _at(dgemm), _int_bits(sdot))
    return None


def _at(function: Any) -> int:
    value = ctypes.cast(function, ctypes.c_void_p).value
    assert value is not None
    return value


def _int_bits(sdot: Any) -> int:
    """Tell 32-bit from 64-bit integers by asking the library: no name is a sure sign (MKL, Debian).

    The length passed is 1 in its low 32 bits and negative as 64 bits, for which BLAS defines the
    dot product as 0. Each argument has a 64-bit register or slot of its own, so both can be read.
    """
    if ctypes.sizeof(ctypes.c_void_p) < 8:
        return 32
    one = ctypes.c_float(1.0)
    sdot.restype = ctypes.c_float
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    sdot.argtypes = (integer, pointer, integer, pointer, integer)
    at = ctypes.addressof(one)
    return 32 if sdot(1 - 2**32, at, 1, at, 1) == 1.0 else 64
