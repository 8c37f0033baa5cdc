"""Linear layers on the caller's memory. Weights come with the call: packing them would cost as much as using them.

    y[r, o] = sum over k of x[r, k] * w[o, k], + b[o]          x: (R, K), w: (O, K), b: (O,), y: (R, O)

Rows of x and of w both run along K, so a tile of them multiplies vectors of K, each pair of rows with a vector of
partial sums of its own. Its lanes are added up at the end in one fixed order. Nothing about a sum depends on which tile
computes it: the bits of a row of y are the same whatever R, O, the place of the row and the number of threads. A
vector of partial sums also rounds less than one chain would.

Where a row has a multiple of 4096 bytes, the lines that a tile reads together, of x and of w, share one set of L1. So
the tile's rows of x are copied, an odd number of lines apart: 256 x 1024 x 1024 went from 65 to 77 GFLOP/s with AVX2.
"""

cdef extern from "sums.h" nogil:
    # y[k + i] = the sum of the i-th vector's lanes, + bias[j + i]; Cython sees numbers where C sees vectors
    void fc_sums(double a, double b, double c, double d, const void* bias, Py_ssize_t j, void* y, Py_ssize_t k,
                 int n) noexcept

cdef extern from *:
    """
    #if FC_W == 16
    #define LINEAR_ROWS 6               /* 24 sums, 4 vectors of w, one of x: 29 of 32 registers */
    #else
    #define LINEAR_ROWS 3               /* 12 sums, 3 vectors of x, one of w: 16 registers */
    #endif
    """
    enum:
        LINEAR_ROWS

cdef enum:
    LINEAR_MOST = 6                 # LINEAR_ROWS at any level
    LINEAR_OUTPUTS = 4              # rows of w in a tile
    LINEAR_WIDE = 8                 # of one row of x: as many chains as hide the latency of an FMA
    LINEAR_BLOCK = 256 * 1024       # bytes of w that stay in the L2 cache while rows of x pass
    LINEAR_PASS = 4 * 1024 * 1024   # bytes of these rows, which stay in the last cache: 1024 x 4096 x 1000 has 16 MB

# Below this many multiply-adds the GIL is kept: giving it up and taking it back costs more than others could do
# meanwhile.
cdef Py_ssize_t LINEAR_QUICK = 50000


cdef inline void linear_vectors(int m, int n, const vreal* x, Py_ssize_t step, const vreal* w, const void* b,
                                Py_ssize_t K, vreal* y, Py_ssize_t O) noexcept nogil:
    """m rows of x, a step apart, times n <= 8 rows of w. x: (m, K); w: (n, K); b: (n,) or NULL; y: (m, n), O apart"""
    cdef vreal acc[LINEAR_MOST][LINEAR_WIDE]
    cdef vreal v[LINEAR_MOST]
    cdef vreal u, zero = v_all(x, 0)
    cdef Py_ssize_t k = 0
    cdef int i, j, lanes = v_lanes(x), tail = <int>(K % lanes)
    for i in range(m):
        for j in range(LINEAR_WIDE):
            acc[i][j] = zero
    while k + lanes <= K:
        for i in range(m):
            v[i] = v_get(x, i * step + k)
        for j in range(n):
            u = v_get(w, j * K + k)
            for i in range(m):
                acc[i][j] = v_fma(v[i], u, acc[i][j])
        k += lanes
    if tail:
        for i in range(m):
            v[i] = v_get_else(x, i * step + k, tail, zero)
        for j in range(n):
            u = v_get_else(w, j * K + k, tail, zero)
            for i in range(m):
                acc[i][j] = v_fma(v[i], u, acc[i][j])
    for i in range(m):
        fc_sums(acc[i][0], acc[i][1], acc[i][2], acc[i][3], b, 0, y, i * O, n if n < 4 else 4)
        if n > 4:
            fc_sums(acc[i][4], acc[i][5], acc[i][6], acc[i][7], b, 4, y, i * O + 4, 4)


cdef inline void linear_tile(int m, int n, const real* x, Py_ssize_t step, const real* w, const real* b, Py_ssize_t K,
                             real* y, Py_ssize_t O) noexcept nogil:
    """`linear_vectors` in the vectors of `real`"""
    if real is float:
        linear_vectors(m, n, <const vf*>x, step, <const vf*>w, b, K, <vf*>y, O)
    else:
        linear_vectors(m, n, <const vd*>x, step, <const vd*>w, b, K, <vd*>y, O)


cdef inline void linear_rows_by(int m, int n, const real* x, Py_ssize_t step, const real* w, const real* b,
                                Py_ssize_t K, real* y, Py_ssize_t O) noexcept nogil:
    """`linear_tile` with m made a constant."""
    if m == LINEAR_ROWS:
        linear_tile(LINEAR_ROWS, n, x, step, w, b, K, y, O)
    elif m == 1:
        linear_tile(1, n, x, step, w, b, K, y, O)
    elif m == 2:
        linear_tile(2, n, x, step, w, b, K, y, O)
    elif m == 3:
        linear_tile(3, n, x, step, w, b, K, y, O)
    elif m == 4 and LINEAR_ROWS > 4:
        linear_tile(4, n, x, step, w, b, K, y, O)
    elif m == 5 and LINEAR_ROWS > 5:
        linear_tile(5, n, x, step, w, b, K, y, O)


cdef void linear_panel(int m, const real* x, Py_ssize_t step, const real* w, const real* b, Py_ssize_t K,
                       Py_ssize_t outputs, real* y, Py_ssize_t O) noexcept nogil:
    """m <= LINEAR_ROWS rows of x, a step apart, times `outputs` rows of w. y: (m, outputs), row stride O"""
    cdef Py_ssize_t o = 0
    while m == 1 and o + LINEAR_WIDE <= outputs:
        linear_tile(1, LINEAR_WIDE, x, step, w + o * K, b + o if b != NULL else NULL, K, y + o, O)
        o += LINEAR_WIDE
    while o + LINEAR_OUTPUTS <= outputs:
        linear_rows_by(m, LINEAR_OUTPUTS, x, step, w + o * K, b + o if b != NULL else NULL, K, y + o, O)
        o += LINEAR_OUTPUTS
    while o < outputs:
        linear_rows_by(m, 1, x, step, w + o * K, b + o if b != NULL else NULL, K, y + o, O)
        o += 1


cdef void linear_block(const real* x, const real* w, const real* b, real* y, Py_ssize_t R, Py_ssize_t K, Py_ssize_t O,
                       Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Outputs [first, last) of all rows, a block of w at a time. x: (R, K); w: (O, K); y: (R, O)"""
    cdef Py_ssize_t row = K * <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t block = max(LINEAR_BLOCK // row, LINEAR_WIDE) // LINEAR_OUTPUTS * LINEAR_OUTPUTS
    cdef Py_ssize_t rows = max(LINEAR_PASS // row // LINEAR_ROWS, 1) * LINEAR_ROWS
    cdef Py_ssize_t o, r, i, m, start = 0, stop, outputs, step = K
    cdef const real* few
    cdef real* copied = NULL            # where there is no memory for it, rows are read as they lie
    if R > 1 and row % (SET * <Py_ssize_t>sizeof(float)) == 0:
        copied = <real*>malloc(LINEAR_ROWS * (row + LINE * sizeof(float)))
    if copied != NULL:
        step += LINE * <Py_ssize_t>sizeof(float) // <Py_ssize_t>sizeof(real)
    while start < R:
        stop = min(start + rows, R)
        o = first
        while o < last:
            outputs = min(block, last - o)
            r = start
            while r < stop:
                m = min(LINEAR_ROWS, stop - r)
                few = x + r * K
                if copied != NULL:
                    for i in range(m):
                        memcpy(copied + i * step, few + i * K, row)
                    few = copied
                linear_panel(<int>m, few, step, w + o * K, b + o if b != NULL else NULL, K, outputs, y + r * O + o, O)
                r += LINEAR_ROWS
            o += outputs
        start = stop
    free(copied)


cdef void linear_share(const real* x, const real* w, const real* b, real* y, Py_ssize_t R, Py_ssize_t K, Py_ssize_t O,
                       Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """One thread's part: of the rows where there are enough, else of the outputs."""
    cdef Py_ssize_t panels = (R + LINEAR_ROWS - 1) // LINEAR_ROWS
    cdef Py_ssize_t groups = (O + LINEAR_WIDE - 1) // LINEAR_WIDE
    cdef Py_ssize_t first, last
    cdef uint64_t state = fc_flush_denormals()
    if panels >= 4 * parts or panels % parts == 0:
        first = min(panels * part // parts * LINEAR_ROWS, R)
        last = min(panels * (part + 1) // parts * LINEAR_ROWS, R)
        linear_block(x + first * K, w, b, y + first * O, last - first, K, O, 0, O)
    else:
        linear_block(x, w, b, y, R, K, O, min(groups * part // parts * LINEAR_WIDE, O),
                     min(groups * (part + 1) // parts * LINEAR_WIDE, O))
    fc_restore_denormals(state)


cdef void linear_flat(const real* x, const real* w, const real* b, real* y, Py_ssize_t R, Py_ssize_t K, Py_ssize_t O,
                      Py_ssize_t parts) noexcept nogil:
    cdef Py_ssize_t part
    if parts == 1:
        linear_share(x, w, b, y, R, K, O, 0, 1)
    else:
        for part in prange(parts, num_threads=parts, schedule="static", chunksize=1):
            linear_share(x, w, b, y, R, K, O, part, parts)


def linear_rows(x, weight, bias, Py_ssize_t threads):
    """x: (..., K); weight: (O, K); bias: (O,) or None -> (..., O).

    NotImplemented for arrays that are not such, C-contiguous, and all of one type, float32 or float64.
    """
    cdef cnp.ndarray a, w, out
    cdef cnp.npy_intp dims[MAX_AXES]
    cdef int ndim, dtype
    cdef Py_ssize_t R = 1, K, O, i, parts
    cdef void* source
    cdef void* rows
    cdef void* more
    cdef void* target
    if not (contiguous(x) and contiguous(weight)):
        return NotImplemented
    a, w = <cnp.ndarray>x, <cnp.ndarray>weight
    ndim, dtype = cnp.PyArray_NDIM(a), cnp.PyArray_TYPE(a)
    if not 1 <= ndim <= MAX_AXES or cnp.PyArray_TYPE(w) != dtype or cnp.PyArray_NDIM(w) != 2:
        return NotImplemented
    O, K = cnp.PyArray_DIMS(w)[0], cnp.PyArray_DIMS(w)[1]
    if cnp.PyArray_DIMS(a)[ndim - 1] != K or not (bias is None or per_channel(bias, dtype, O)):
        return NotImplemented
    for i in range(ndim - 1):
        dims[i] = cnp.PyArray_DIMS(a)[i]
        R *= dims[i]
    dims[ndim - 1] = O
    out = cnp.PyArray_EMPTY(ndim, dims, dtype, 0)
    if R == 0 or O == 0:
        return out
    if K == 0:
        out[...] = 0 if bias is None else bias
        return out
    source, rows, more, target = cnp.PyArray_DATA(a), cnp.PyArray_DATA(w), data_or_null(bias), cnp.PyArray_DATA(out)
    parts = min(threads, 1 + R * K * O // WORK_PER_THREAD)
    if dtype == cnp.NPY_DOUBLE:
        with nogil:
            linear_flat(<const double*>source, <const double*>rows, <const double*>more, <double*>target, R, K, O,
                        parts)
    elif R * K * O < LINEAR_QUICK:
        linear_share(<const float*>source, <const float*>rows, <const float*>more, <float*>target, R, K, O, 0, 1)
    else:
        with nogil:
            linear_flat(<const float*>source, <const float*>rows, <const float*>more, <float*>target, R, K, O, parts)
    return out
