"""What a benchmark measures that no network runs: the machine's FMA peak, and a product by BLAS alone."""

cdef enum:
    PEAK_CHAINS = 14                # independent sums: more than latency x units of any core, fewer than registers
    PEAK_TRIP = 100000              # FMAs of each chain between two looks at the clock: half a millisecond


cdef inline void fma_chains(vf* acc, vf x, vf y) noexcept nogil:
    """acc[i] = acc[i] * x + y, PEAK_TRIP times: nothing but FMAs, from registers to registers."""
    cdef vf local[PEAK_CHAINS]
    cdef Py_ssize_t k
    cdef int i
    for i in range(PEAK_CHAINS):
        local[i] = acc[i]
    for k in range(PEAK_TRIP):
        for i in range(PEAK_CHAINS):
            local[i] = v_fma(local[i], x, y)
    for i in range(PEAK_CHAINS):
        acc[i] = local[i]


def fma_peak(double seconds=0.02):
    """Return GFLOP/s of this level's FMAs (v2: of a multiplication and an addition) on this thread: the best run.

    Parameters
    ----------
    seconds
        How long to measure; at least three runs of about half a millisecond are made.
    """
    cdef vf acc[PEAK_CHAINS]
    cdef float lanes[FC_W]
    cdef double began, started, took, best = INFINITY
    cdef int i, j, runs = 0
    # from i towards 1: never denormal, where the arithmetic would be slower
    for i in range(PEAK_CHAINS):
        acc[i] = v_set1(<float>i)
    with nogil:
        began = now()
        while runs < 3 or now() - began < seconds:
            started = now()
            fma_chains(acc, v_set1(<float>0.5), v_set1(<float>0.5))
            took = now() - started
            best = min(best, took)
            runs += 1
    for i in range(PEAK_CHAINS):        # looking at the sums also keeps the compiler from dropping them
        v_store(lanes, acc[i])
        for j in range(FC_W):
            if lanes[j] != 1:
                raise ArithmeticError(f"fma_peak: sum {i} is {lanes[j]}, not 1")
    return 2e-9 * FC_W * PEAK_CHAINS * PEAK_TRIP / best


def blas_product(cnp.ndarray a, cnp.ndarray b, cnp.ndarray y):
    """y = a . b by the BLAS that was given to `bind_blas`; a plain loop without one. (M, K), (K, N) -> (M, N)"""
    cdef Py_ssize_t m, k, n
    for array in (a, b, y):
        if (cnp.PyArray_NDIM(<cnp.ndarray>array) != 2 or cnp.PyArray_TYPE(<cnp.ndarray>array) != cnp.NPY_FLOAT
                or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array)):
            raise ValueError("needs C-contiguous matrices of float32")
    m, k, n = cnp.PyArray_DIMS(a)[0], cnp.PyArray_DIMS(a)[1], cnp.PyArray_DIMS(b)[1]
    if (m == 0 or cnp.PyArray_DIMS(b)[0] != k or cnp.PyArray_DIMS(y)[0] != m or cnp.PyArray_DIMS(y)[1] != n
            or not cnp.PyArray_ISWRITEABLE(y)):
        raise ValueError("needs a (M, K), b (K, N), y (M, N)")
    with nogil:
        gemm[float](m, n, k, <const float*>cnp.PyArray_DATA(a), <const float*>cnp.PyArray_DATA(b), n,
                    <float*>cnp.PyArray_DATA(y))
