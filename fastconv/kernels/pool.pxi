"""Pooling: one kernel for max, average and adaptive pooling, whose windows are tables."""

cdef enum:
    POOL_VECTORS = 4                # of channels at once: enough sums to hide the latency of an addition


def pool_windows(Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding, Py_ssize_t dilation,
                 Py_ssize_t out, bint count_include_pad):
    """(out, 3) of each window along one axis: first index, one past the last, and its share of the divisor.

    The divisor follows PyTorch's avg_pool2d: a window that overhangs (ceil_mode) counts the padding but not
    what lies beyond it.
    """
    table = np.empty((out, 3), np.intp)
    for o in range(out):
        start = o * stride - padding
        stop = min(start + dilation * (kernel - 1) + 1, size + padding)
        counted = stop - start
        if start < 0:
            start += -start // dilation * dilation if -start % dilation == 0 else (-start // dilation + 1) * dilation
        stop = min(stop, size)
        table[o] = start, stop, counted if count_include_pad else max(stop - start, 1)
    return table


def adaptive_windows(Py_ssize_t size, Py_ssize_t out):
    """(out, 3) like `pool_windows`, for adaptive pooling: from floor(o * size / out) to ceil((o + 1) * size / out)."""
    table = np.empty((out, 3), np.intp)
    for o in range(out):
        start, stop = o * size // out, -((-(o + 1) * size) // out)
        table[o] = start, stop, stop - start
    return table


cdef void pool_vectors(bint maximum, const vreal* x, Py_ssize_t row, Py_ssize_t pixel, const Py_ssize_t* wy,
                       const Py_ssize_t* wx, Py_ssize_t dh, Py_ssize_t dw, double divisor, vreal* y,
                       Py_ssize_t c) noexcept nogil:
    """One window of an image (h, w, c) whose rows and pixels are `row` and `pixel` elements apart -> y: (c,).

    wy, wx: its first row and column, and one past the last. Sums and maxima stay in registers over the window,
    POOL_VECTORS of channels at a time.
    """
    cdef Py_ssize_t k = 0
    cdef int lanes = v_lanes(x)
    while k + POOL_VECTORS * lanes <= c:
        pool_channels(maximum, POOL_VECTORS, 0, x, row, pixel, wy, wx, dh, dw, divisor, y, k)
        k += POOL_VECTORS * lanes
    while k + lanes <= c:
        pool_channels(maximum, 1, 0, x, row, pixel, wy, wx, dh, dw, divisor, y, k)
        k += lanes
    if k < c:
        pool_channels(maximum, 1, <int>(c - k), x, row, pixel, wy, wx, dh, dw, divisor, y, k)


cdef inline void pool_channels(bint maximum, int vectors, int part, const vreal* x, Py_ssize_t row, Py_ssize_t pixel,
                               const Py_ssize_t* wy, const Py_ssize_t* wx, Py_ssize_t dh, Py_ssize_t dw,
                               double divisor, vreal* y, Py_ssize_t k) noexcept nogil:
    """`vectors` of channels from k on, or only the first `part` of one where that is not 0. NaN wins a maximum."""
    cdef vreal[POOL_VECTORS] acc
    cdef vreal v
    cdef Py_ssize_t iy = wy[0], ix, place
    cdef int j, lanes = v_lanes(x)
    for j in range(vectors):
        acc[j] = v_all(x, -INFINITY if maximum else 0)
    while iy < wy[1]:                   # Cython's range wants a step whose sign it knows
        ix = wx[0]
        while ix < wx[1]:
            place = iy * row + ix * pixel + k
            for j in range(vectors):
                v = v_get_else(x, place, part, acc[0]) if part else v_get(x, place + j * lanes)
                acc[j] = v_nanmax(v, acc[j]) if maximum else acc[j] + v
            ix += dw
        iy += dh
    for j in range(vectors):
        v = acc[j] if maximum else acc[j] / v_all(x, divisor)
        if part:
            v_put_n(y, k, v, part)
        else:
            v_put(y, k + j * lanes, v)


cdef void pool(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
               real* scratch) noexcept nogil:
    """x: (n, h, w, c) -> y: (n, oh, ow, c). record: PoolRecord. A unit is `block` output rows.

    NaN wins a maximum, as in PyTorch.
    """
    cdef const PoolRecord* p = <const PoolRecord*>s.record
    cdef const Py_ssize_t* windows = <const Py_ssize_t*>start(base, &p.windows)
    cdef Py_ssize_t r, i, oy, ox
    cdef const Py_ssize_t* wy
    cdef const Py_ssize_t* wx
    cdef const real* x
    cdef real* y
    cdef double divisor
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        wy = windows + 3 * oy
        x = <const real*>start(base, &s.x.place) + i * s.x.image
        for ox in range(s.y.w):
            wx = windows + 3 * (s.y.h + ox)
            y = <real*>start(base, &s.y.place) + element(&s.y, i, oy, ox)
            divisor = p.divisor if p.divisor != 0 else <double>(wy[2] * wx[2])
            if real is float:
                pool_vectors(p.kind == MAX_POOL, <const vf*>x, s.x.row, s.x.pixel, wy, wx, p.dh, p.dw, divisor,
                             <vf*>y, s.y.c)
            else:
                pool_vectors(p.kind == MAX_POOL, <const vd*>x, s.x.row, s.x.pixel, wy, wx, p.dh, p.dw, divisor,
                             <vd*>y, s.y.c)


cdef void max_pool_plane(const real* x, Py_ssize_t w, const Py_ssize_t* rows, Py_ssize_t oh, const Py_ssize_t* cols,
                         Py_ssize_t ow, Py_ssize_t dh, Py_ssize_t dw, real* out, int64_t* indices) noexcept nogil:
    """Maxima of one channel and where they stand (y * w + x); the first wins a tie, NaN wins over all.

    rows: (oh, 3) and cols: (ow, 3), windows as `pool_windows` gives them
    """
    cdef Py_ssize_t oy, ox, iy, ix, place
    cdef real best, v
    for oy in range(oh):
        for ox in range(ow):
            best = <real>(-INFINITY)
            place = rows[3 * oy] * w + cols[3 * ox]
            iy = rows[3 * oy]
            while iy < rows[3 * oy + 1]:
                ix = cols[3 * ox]
                while ix < cols[3 * ox + 1]:
                    v = x[iy * w + ix]
                    if v > best or v != v:
                        best = v
                        place = iy * w + ix
                    ix += dw
                iy += dh
            out[oy * ow + ox] = best
            indices[oy * ow + ox] = place


def max_pool_indices(cnp.ndarray x, cnp.ndarray rows, cnp.ndarray cols, Py_ssize_t dh, Py_ssize_t dw, int threads):
    """Maxima of windows, and int64 indices into (h, w). x: (n, c, h, w) or (c, h, w), C-contiguous, float32 or float64

    rows: (oh, 3) and cols: (ow, 3), as `pool_windows` or `adaptive_windows` give them; dh, dw: the dilation.
    """
    cdef int ndim = cnp.PyArray_NDIM(x), axis
    cdef Py_ssize_t h = cnp.PyArray_DIMS(x)[ndim - 2], w = cnp.PyArray_DIMS(x)[ndim - 1]
    cdef Py_ssize_t oh = cnp.PyArray_DIMS(rows)[0], ow = cnp.PyArray_DIMS(cols)[0], planes = 1, p
    cdef const Py_ssize_t* windows = <const Py_ssize_t*>cnp.PyArray_DATA(rows)
    cdef const Py_ssize_t* across = <const Py_ssize_t*>cnp.PyArray_DATA(cols)
    cdef cnp.npy_intp dims[4]
    cdef cnp.ndarray out, indices
    for axis in range(ndim - 2):
        dims[axis] = cnp.PyArray_DIMS(x)[axis]
        planes *= dims[axis]
    dims[ndim - 2], dims[ndim - 1] = oh, ow
    out = cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(x), 0)
    indices = cnp.PyArray_EMPTY(ndim, dims, cnp.NPY_INT64, 0)
    threads = useful_threads(planes * h * w, SHARE_COPYING, threads)
    with nogil:
        for p in prange(planes, num_threads=threads, schedule="static"):
            if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
                max_pool_plane(<const float*>cnp.PyArray_DATA(x) + p * h * w, w, windows, oh, across, ow, dh, dw,
                               <float*>cnp.PyArray_DATA(out) + p * oh * ow,
                               <int64_t*>cnp.PyArray_DATA(indices) + p * oh * ow)
            else:
                max_pool_plane(<const double*>cnp.PyArray_DATA(x) + p * h * w, w, windows, oh, across, ow, dh, dw,
                               <double*>cnp.PyArray_DATA(out) + p * oh * ow,
                               <int64_t*>cnp.PyArray_DATA(indices) + p * oh * ow)
    return out, indices
