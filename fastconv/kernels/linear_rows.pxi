"""Linear layers on the caller's memory, where weights come with the call: packing them would cost as much as using them.

    y[r, o] = sum over k of x[r, k] * w[o, k], + b[o]          x: (R, K), w: (O, K), b: (O,), y: (R, O)

Rows of x and of w both run along K, so a tile of them multiplies vectors of K, each pair of rows with a vector of
partial sums of its own. Its lanes are added up at the end in one fixed order. Nothing about a sum depends on which tile
computes it: the bits of a row of y are the same whatever R, O, the place of the row and the number of threads. A
vector of partial sums also rounds less than one chain would.
"""

cdef extern from *:
    """
    #if FC_W == 16
    #define LINEAR_ROWS 6               /* 24 sums, 4 vectors of w, one of x: 29 of 32 registers */
    #else
    #define LINEAR_ROWS 3               /* 12 sums, 3 vectors of x, one of w: 16 registers */
    #endif
    typedef float fc_quad __attribute__((vector_size(16)));
    typedef float fc_quad_u __attribute__((vector_size(16), aligned(4), may_alias));
    /* In each run of four lanes: pairs(a, b) = a0+a2 b0+b2 a1+a3 b1+b3; of two such, the sums of their halves. Then
       the runs are added up: fold. */
    #if FC_W == 16
    FC_INLINE vf fc_pairs(vf a, vf b)
    {
        return (vf)_mm512_unpacklo_ps((__m512)a, (__m512)b) + (vf)_mm512_unpackhi_ps((__m512)a, (__m512)b);
    }
    FC_INLINE vf fc_halves(vf u, vf v)
    {
        return (vf)_mm512_shuffle_ps((__m512)u, (__m512)v, 0x44) + (vf)_mm512_shuffle_ps((__m512)u, (__m512)v, 0xee);
    }
    FC_INLINE fc_quad fc_fold(vf v)
    {
        __m512 x = (__m512)v;
        __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
        return (fc_quad)_mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    }
    #elif FC_W == 8
    FC_INLINE vf fc_pairs(vf a, vf b)
    {
        return (vf)_mm256_unpacklo_ps((__m256)a, (__m256)b) + (vf)_mm256_unpackhi_ps((__m256)a, (__m256)b);
    }
    FC_INLINE vf fc_halves(vf u, vf v)
    {
        return (vf)_mm256_shuffle_ps((__m256)u, (__m256)v, 0x44) + (vf)_mm256_shuffle_ps((__m256)u, (__m256)v, 0xee);
    }
    FC_INLINE fc_quad fc_fold(vf v)
    {
        return (fc_quad)_mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    }
    #else
    FC_INLINE vf fc_pairs(vf a, vf b)
    {
        return (vf){a[0], b[0], a[1], b[1]} + (vf){a[2], b[2], a[3], b[3]};
    }
    FC_INLINE vf fc_halves(vf u, vf v)
    {
        return (vf){u[0], u[1], v[0], v[1]} + (vf){u[2], u[3], v[2], v[3]};
    }
    FC_INLINE fc_quad fc_fold(vf v) { return v; }
    #endif
    /* out[i] = the sum of the lanes of the i-th vector, of each in the same order, + b[i]; the first n of four */
    FC_INLINE void v_sums(vf a, vf b, vf c, vf d, const float *bias, float *out, int n)
    {
        fc_quad sums = fc_fold(fc_halves(fc_pairs(a, b), fc_pairs(c, d)));
        fc_quad add = {0};
        if (bias) memcpy(&add, bias, n * sizeof(float));
        sums += add;
        memcpy(out, &sums, n * sizeof(float));
    }
    """
    enum:
        LINEAR_ROWS
    void v_sums(vf a, vf b, vf c, vf d, const float* bias, float* out, int n) noexcept nogil

cdef enum:
    LINEAR_OUTPUTS = 4              # rows of w in a tile
    LINEAR_BLOCK = 256 * 1024       # bytes of w that stay in the L2 cache while rows of x pass
    LINEAR_PASS = 4 * 1024 * 1024   # bytes of these rows, which stay in the last cache: 1024 x 4096 x 1000 has 16 MB

# A second thread is woken for this many multiply-adds each, as in program.pxi.
cdef Py_ssize_t LINEAR_WORK = 1000000
# Below this many the GIL is kept: giving it up and taking it back costs more than others could do meanwhile.
cdef Py_ssize_t LINEAR_QUICK = 50000


cdef inline void linear_tile(int m, int n, const float* x, const float* w, const float* b, Py_ssize_t K, float* y,
                             Py_ssize_t O) noexcept nogil:
    """m rows of x times n rows of w. x: (m, K); w: (n, K); b: (n,) or NULL; y: (m, n), row stride O; n <= 8"""
    cdef vf acc[LINEAR_ROWS][8]
    cdef vf v[LINEAR_ROWS]
    cdef vf u
    cdef Py_ssize_t k
    cdef int i, j
    cdef int tail = <int>(K % FC_W)
    for i in range(m):
        for j in range(8):
            acc[i][j] = v_set1(0)
    k = 0
    while k + FC_W <= K:
        for i in range(m):
            v[i] = v_load(x + i * K + k)
        for j in range(n):
            u = v_load(w + j * K + k)
            for i in range(m):
                acc[i][j] = v_fma(v[i], u, acc[i][j])
        k += FC_W
    if tail:
        for i in range(m):
            v[i] = v_load_n(x + i * K + k, tail)
        for j in range(n):
            u = v_load_n(w + j * K + k, tail)
            for i in range(m):
                acc[i][j] = v_fma(v[i], u, acc[i][j])
    for i in range(m):
        v_sums(acc[i][0], acc[i][1], acc[i][2], acc[i][3], b, y + i * O, n if n < 4 else 4)
        if n > 4:
            v_sums(acc[i][4], acc[i][5], acc[i][6], acc[i][7], b + 4 if b != NULL else NULL, y + i * O + 4, 4)


cdef void linear_panel(int m, const float* x, const float* w, const float* b, Py_ssize_t K, Py_ssize_t outputs,
                       float* y, Py_ssize_t O) noexcept nogil:
    """m <= LINEAR_ROWS rows of x times `outputs` rows of w. y: (m, outputs), row stride O"""
    cdef Py_ssize_t o = 0
    if m == 1:
        while o + 8 <= outputs:         # as many chains as hide the latency of an FMA
            linear_tile(1, 8, x, w + o * K, b + o if b != NULL else NULL, K, y + o, O)
            o += 8
    while o < outputs:
        if outputs - o >= LINEAR_OUTPUTS:
            linear_rows_by(m, LINEAR_OUTPUTS, x, w + o * K, b + o if b != NULL else NULL, K, y + o, O)
            o += LINEAR_OUTPUTS
        else:
            linear_rows_by(m, 1, x, w + o * K, b + o if b != NULL else NULL, K, y + o, O)
            o += 1


cdef inline void linear_rows_by(int m, int n, const float* x, const float* w, const float* b, Py_ssize_t K, float* y,
                                Py_ssize_t O) noexcept nogil:
    """`linear_tile` with m made a constant."""
    if m == LINEAR_ROWS:
        linear_tile(LINEAR_ROWS, n, x, w, b, K, y, O)
    elif m == 1:
        linear_tile(1, n, x, w, b, K, y, O)
    elif m == 2:
        linear_tile(2, n, x, w, b, K, y, O)
    elif m == 3:
        linear_tile(3, n, x, w, b, K, y, O)
    elif m == 4 and LINEAR_ROWS > 4:
        linear_tile(4, n, x, w, b, K, y, O)
    elif m == 5 and LINEAR_ROWS > 5:
        linear_tile(5, n, x, w, b, K, y, O)


cdef void linear_block(const float* x, const float* w, const float* b, float* y, Py_ssize_t R, Py_ssize_t K,
                       Py_ssize_t O, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Outputs [first, last) of all rows, a block of w at a time. x: (R, K); w: (O, K); y: (R, O)"""
    cdef Py_ssize_t row = K * <Py_ssize_t>sizeof(float)
    cdef Py_ssize_t block = max(LINEAR_BLOCK // row, 8) // LINEAR_OUTPUTS * LINEAR_OUTPUTS
    cdef Py_ssize_t rows = max(LINEAR_PASS // row // LINEAR_ROWS, 1) * LINEAR_ROWS
    cdef Py_ssize_t o, r, start, stop, outputs
    start = 0
    while start < R:
        stop = min(start + rows, R)
        o = first
        while o < last:
            outputs = min(block, last - o)
            r = start
            while r < stop:
                linear_panel(<int>min(LINEAR_ROWS, stop - r), x + r * K, w + o * K, b + o if b != NULL else NULL, K,
                             outputs, y + r * O + o, O)
                r += LINEAR_ROWS
            o += outputs
        start = stop


cdef void linear_share(const float* x, const float* w, const float* b, float* y, Py_ssize_t R, Py_ssize_t K,
                       Py_ssize_t O, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """One thread's part: of the rows where there are enough, else of the outputs."""
    cdef Py_ssize_t panels = (R + LINEAR_ROWS - 1) // LINEAR_ROWS
    cdef Py_ssize_t groups = (O + 7) // 8
    cdef Py_ssize_t first, last
    cdef uint64_t state = fc_flush_denormals()
    if panels >= 4 * parts or panels % parts == 0:
        first = min(panels * part // parts * LINEAR_ROWS, R)
        last = min(panels * (part + 1) // parts * LINEAR_ROWS, R)
        linear_block(x + first * K, w, b, y + first * O, last - first, K, O, 0, O)
    else:
        linear_block(x, w, b, y, R, K, O, min(groups * part // parts * 8, O), min(groups * (part + 1) // parts * 8, O))
    fc_restore_denormals(state)


def linear_rows(x, weight, bias, Py_ssize_t threads):
    """x: (..., K); weight: (O, K); bias: (O,) or None -> (..., O). NotImplemented for arrays that are not such,
    plain, C-contiguous, and of one type, float32 or float64."""
    cdef cnp.ndarray a, w, b, out
    cdef cnp.npy_intp dims[cnp.NPY_MAXDIMS]
    cdef int ndim, dtype
    cdef Py_ssize_t R = 1, K, O, i, t, parts
    cdef const float* bias_data = NULL
    if not (cnp.PyArray_CheckExact(x) and cnp.PyArray_CheckExact(weight)):
        return NotImplemented
    a, w = <cnp.ndarray>x, <cnp.ndarray>weight
    ndim, dtype = cnp.PyArray_NDIM(a), cnp.PyArray_TYPE(a)
    if (dtype != cnp.NPY_FLOAT or cnp.PyArray_TYPE(w) != dtype or ndim < 1 or cnp.PyArray_NDIM(w) != 2
            or not cnp.PyArray_ISCARRAY_RO(a) or not cnp.PyArray_ISCARRAY_RO(w)):
        return NotImplemented
    O, K = cnp.PyArray_DIMS(w)[0], cnp.PyArray_DIMS(w)[1]
    if cnp.PyArray_DIMS(a)[ndim - 1] != K:
        return NotImplemented
    if bias is not None:
        if not cnp.PyArray_CheckExact(bias):
            return NotImplemented
        b = <cnp.ndarray>bias
        if (cnp.PyArray_TYPE(b) != dtype or cnp.PyArray_NDIM(b) != 1 or cnp.PyArray_DIMS(b)[0] != O
                or not cnp.PyArray_ISCARRAY_RO(b)):
            return NotImplemented
        bias_data = <const float*>cnp.PyArray_DATA(b)
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
    parts = min(threads, 1 + R * K * O // LINEAR_WORK)
    if parts == 1 and R * K * O < LINEAR_QUICK:
        linear_share(<const float*>cnp.PyArray_DATA(a), <const float*>cnp.PyArray_DATA(w), bias_data,
                     <float*>cnp.PyArray_DATA(out), R, K, O, 0, 1)
        return out
    with nogil:
        if parts == 1:
            linear_share(<const float*>cnp.PyArray_DATA(a), <const float*>cnp.PyArray_DATA(w), bias_data,
                         <float*>cnp.PyArray_DATA(out), R, K, O, 0, 1)
        else:
            for t in prange(parts, num_threads=parts, schedule="static", chunksize=1):
                linear_share(<const float*>cnp.PyArray_DATA(a), <const float*>cnp.PyArray_DATA(w), bias_data,
                             <float*>cnp.PyArray_DATA(out), R, K, O, t, parts)
    return out
