"""The BLAS that NumPy has loaded: found, bound by address, and computing what NumPy computes."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv.machine import blas

ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112

# Prints what a fresh process binds, and the product [[1, 2], [3, 4]] x [[5, 6], [7, 8]] through it.
PROBE = """
import json, ctypes, numpy as np
from fastconv.machine import blas
found = blas.address()
product = None
if found is not None:
    sgemm, _, bits = found
    i, f, p = {32: ctypes.c_int32, 64: ctypes.c_int64}[bits], ctypes.c_float, ctypes.c_void_p
    c_int = ctypes.c_int
    call = ctypes.CFUNCTYPE(None, c_int, c_int, c_int, i, i, i, f, p, i, p, i, f, p, i)(sgemm)
    a = np.array([[1, 2], [3, 4]], np.float32)
    b = np.array([[5, 6], [7, 8]], np.float32)
    c = np.zeros((2, 2), np.float32)
    call(101, 111, 111, 2, 2, 2, 1.0, a.ctypes.data, 2, b.ctypes.data, 2, 0.0, c.ctypes.data, 2)
    product = c.tolist()
print(json.dumps({"info": blas.info(), "product": product}))
"""

# A BLAS of a few lines: row-major, nothing transposed, alpha 1, beta 0, and a count of its calls.
# INT, PREFIX and SUFFIX are defined on the compiler's command line, as the distributions do.
SMALL_BLAS = """
#include <stdint.h>
#define JOIN2(prefix, name, suffix) prefix##name##suffix
#define JOIN(prefix, name, suffix) JOIN2(prefix, name, suffix)
int calls = 0;
#define GEMM(name, real)                                                                    \\
    void JOIN(PREFIX, name, SUFFIX)(int order, int ta, int tb, INT m, INT n, INT k,         \\
        real alpha, const real *a, INT lda, const real *b, INT ldb, real beta, real *c, INT ldc) \\
    {                                                                                       \\
        ++calls;                                                                            \\
        for (INT i = 0; i < m; ++i)                                                         \\
            for (INT j = 0; j < n; ++j) {                                                   \\
                real sum = 0;                                                               \\
                for (INT p = 0; p < k; ++p) sum += a[i * lda + p] * b[p * ldb + j];         \\
                c[i * ldc + j] = sum;                                                       \\
            }                                                                               \\
    }
GEMM(cblas_sgemm, float)
GEMM(cblas_dgemm, double)
float JOIN(PREFIX, cblas_sdot, SUFFIX)(INT n, const float *x, INT incx, const float *y, INT incy)
{
    float sum = 0;
    for (INT i = 0; i < n; ++i) sum += x[i * incx] * y[i * incy];
    return sum;
}
"""

needs_blas = pytest.mark.skipif(blas.address() is None, reason="this NumPy has loaded no BLAS")


def run_probe(blas: str | None, code: str = PROBE) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, with FASTCONV_BLAS set or unset."""
    env = {key: value for key, value in os.environ.items() if key != "FASTCONV_BLAS"}
    if blas is not None:
        env["FASTCONV_BLAS"] = blas
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def build(folder: Path, prefix: str = "", suffix: str = "", integer: str = "int32_t") -> Path:
    """Compile `SMALL_BLAS` with these names and this integer."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform == "win32":
        pytest.skip("needs a C compiler")
    source, library = folder / "small_blas.c", folder / "small_blas.so"
    source.write_text(SMALL_BLAS)
    names = [f"-DPREFIX={prefix}", f"-DSUFFIX={suffix}", f"-DINT={integer}"]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", *names, str(source), "-o", str(library)], check=True)
    return library


def bound_by(blas: str | None) -> dict:
    done = run_probe(blas)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_blas
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (5, 7, 3), (33, 17, 65)])
def test_bound_gemm_computes_the_equation(dtype, transposed, m, n, k):
    sgemm, dgemm, bits = blas.address()
    real = ctypes.c_float if dtype is np.float32 else ctypes.c_double
    integer = ctypes.c_int64 if bits == 64 else ctypes.c_int32
    flag, pointer = ctypes.c_int, ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(
        None, flag, flag, flag, integer, integer, integer,
        real, pointer, integer, pointer, integer, real, pointer, integer,
    )  # fmt: skip
    gemm = prototype(sgemm if dtype is np.float32 else dgemm)

    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (m, n)))
    expected = 1.5 * a.astype(np.float64) @ b.astype(np.float64) - 0.5 * c
    operand = np.ascontiguousarray(b.T) if transposed else b
    gemm(
        ROW_MAJOR, AS_IT_IS, TRANSPOSED if transposed else AS_IT_IS, m, n, k,
        1.5, a.ctypes.data, k, operand.ctypes.data, operand.shape[1], -0.5, c.ctypes.data, n,
    )  # fmt: skip
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@needs_blas
def test_the_bound_library_is_one_that_is_loaded_and_keeps_its_thread_count():
    import threadpoolctl

    def loaded():
        libraries = [x for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas"]
        return {os.path.realpath(x["filepath"]): x["num_threads"] for x in libraries}

    before = loaded()
    described = blas.info()
    assert described["symbol"].endswith(("cblas_sgemm", "64_", "_64", "ILP64", "NEWLAPACK"))
    assert loaded() == before
    path = os.path.realpath(described["library"])
    assert path in before
    assert described["threads"] == before[path]
    assert described["version"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the wheel's folder")
def test_numpys_own_blas_is_preferred_to_others_that_are_loaded(monkeypatch):
    own = blas._loaded()
    if not any("numpy.libs" in library["filepath"] for library in own):
        pytest.skip("this NumPy does not carry its BLAS")
    other = {"filepath": "/elsewhere/libblas.so", "user_api": "blas"}
    monkeypatch.setattr(blas, "_loaded", lambda: [other, *own])
    assert "numpy.libs" in blas._bind_numpy().path


def test_a_loaded_library_that_cannot_be_bound_is_passed_over(monkeypatch):
    monkeypatch.setattr(blas, "_loaded", lambda: [{"filepath": "/elsewhere/libblas.so"}])
    monkeypatch.setattr(blas.sys, "platform", "linux")
    assert blas._bind_numpy() is None


def test_none_disables_the_blas():
    assert bound_by("none") == {"info": None, "product": None}


def test_nothing_is_loaded_by_the_import():
    code = "import sys, fastconv.machine.blas; sys.exit('threadpoolctl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_path_that_cannot_be_loaded_is_named_with_the_remedy():
    done = run_probe("/no/such/libblas.so")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fastconv.errors.ArgumentError: FASTCONV_BLAS=/no/such/libblas.so")
    assert "'none'" in last


def test_a_library_without_cblas_is_named_with_the_remedy():
    import _ctypes

    done = run_probe(_ctypes.__file__)
    assert done.returncode != 0
    assert "has no cblas_sgemm" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("prefix", "suffix", "integer", "bits"),
    [
        ("", "", "int32_t", 32),
        ("", "", "int64_t", 64),  # MKL and Debian's INTERFACE64 builds: no sign in the name
        ("", "64_", "int64_t", 64),
        ("", "_64", "int64_t", 64),
        ("scipy_", "", "int32_t", 32),
        ("scipy_", "64_", "int64_t", 64),
        ("", "$NEWLAPACK", "int32_t", 32),
        ("", "$NEWLAPACK$ILP64", "int64_t", 64),
    ],
)
def test_every_decoration_and_integer_width_is_recognised(tmp_path, prefix, suffix, integer, bits):
    library = build(tmp_path, prefix, suffix, integer)
    result = bound_by(str(library))
    assert result["info"] == {
        "library": str(library),
        "symbol": f"{prefix}cblas_sgemm{suffix}",
        "int_bits": bits,
    }
    assert result["product"] == [[19, 22], [43, 50]]


# Convolves by im2col in each dtype, checks the result, and prints the calls of SMALL_BLAS so far.
CONVOLVE = """
import ctypes, os, numpy as np, fastconv.functional as F
rng = np.random.default_rng(0)
for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
    x = rng.standard_normal((2, 4, 9, 11)).astype(dtype)
    w = rng.standard_normal((6, 4, 3, 3)).astype(dtype)
    expected = np.zeros((2, 6, 7, 9))
    for i in range(3):
        for j in range(3):
            window = x[:, :, i:i + 7, j:j + 9].astype(float)
            expected += np.einsum('nchw,oc->nohw', window, w[:, :, i, j])
    found = F.conv2d(x, w, algorithm='im2col')
    assert abs(found - expected).max() <= tolerance * abs(expected).max()
    library = os.environ.get('FASTCONV_BLAS', '')
    if library.endswith('.so'):
        print(ctypes.c_int.in_dll(ctypes.CDLL(library), 'calls').value)
"""


def convolve(blas: str | None) -> list[str]:
    done = run_probe(blas, CONVOLVE)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("blas", [None, "none"])
def test_im2col_is_computed_with_and_without_a_blas(blas):
    assert convolve(blas) == []


@pytest.mark.parametrize("integer", ["int32_t", "int64_t"])
def test_im2col_runs_on_the_blas_that_is_bound(tmp_path, integer):
    float_calls, all_calls = map(int, convolve(str(build(tmp_path, integer=integer))))
    assert 0 < float_calls < all_calls
