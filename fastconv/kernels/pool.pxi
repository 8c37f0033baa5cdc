"""Pooling: one kernel for max, average and adaptive pooling, whose windows are tables."""

cdef enum:
    POOL_VECTORS = 4                # of channels at once: enough sums to hide the latency of an addition


cdef cnp.ndarray window_table(Py_ssize_t out):
    """An empty one, (out, 3)."""
    cdef cnp.npy_intp dims[2]
    dims[0], dims[1] = out, 3
    return cnp.PyArray_EMPTY(2, dims, cnp.NPY_INTP, 0)


def pool_windows(Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding, Py_ssize_t dilation,
                 Py_ssize_t out, bint count_include_pad):
    """(out, 3) of each window along one axis: first index, one past the last, and its share of the divisor.

    The divisor follows PyTorch's avg_pool2d: a window that overhangs (ceil_mode) counts the padding but not
    what lies beyond it.
    """
    cdef Py_ssize_t o, start, stop, counted
    cdef cnp.ndarray table = window_table(out)
    cdef Py_ssize_t* row = <Py_ssize_t*>cnp.PyArray_DATA(table)
    for o in range(out):
        start = o * stride - padding
        stop = min(start + dilation * (kernel - 1) + 1, size + padding)
        counted = stop - start
        if start < 0:
            start += (-start + dilation - 1) // dilation * dilation
        stop = min(stop, size)
        row[0], row[1], row[2] = start, stop, counted if count_include_pad else max(stop - start, <Py_ssize_t>1)
        row += 3
    return table


def adaptive_windows(Py_ssize_t size, Py_ssize_t out):
    """(out, 3) like `pool_windows`, for adaptive pooling: from floor(o * size / out) to ceil((o + 1) * size / out)."""
    cdef Py_ssize_t o
    cdef cnp.ndarray table = window_table(out)
    cdef Py_ssize_t* row = <Py_ssize_t*>cnp.PyArray_DATA(table)
    for o in range(out):
        row[0], row[1] = o * size // out, ((o + 1) * size + out - 1) // out
        row[2] = row[1] - row[0]
        row += 3
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


cdef inline Py_ssize_t first_place(const Py_ssize_t* rows, const Py_ssize_t* cols, Py_ssize_t w) noexcept nogil:
    """Where the first pixel of a window stands, y * w + x; -1 if it sees only padding."""
    return rows[0] * w + cols[0] if rows[0] < rows[1] and cols[0] < cols[1] else -1


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
            place = first_place(rows + 3 * oy, cols + 3 * ox, w)
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


cdef void phase_row(const real* x, Py_ssize_t w, Py_ssize_t left, Py_ssize_t phases, Py_ssize_t wide,
                    Py_ssize_t stride, real value, real* y) noexcept nogil:
    """y[phase, j] := x[j * stride + phase - left], or value outside: columns a stride apart come together. x: (w,)"""
    cdef Py_ssize_t phase, j, before, inside
    for phase in range(phases):
        before = min(max((left - phase + stride - 1) // stride, 0), wide)
        inside = min(max((w + left - phase + stride - 1) // stride, before), wide)
        for j in range(before):
            y[j] = value
        for j in range(before, inside):
            y[j] = x[j * stride + phase - left]
        for j in range(inside, wide):
            y[j] = value
        y += wide


# How the windows of max pooling lie, where each is as far from the next.
cdef struct Regular:
    Py_ssize_t kw
    Py_ssize_t stride
    Py_ssize_t left                         # padding
    Py_ssize_t phases                       # columns a stride apart stand together in a row of so many parts ...
    Py_ssize_t wide                         # of this length
    const Py_ssize_t* taps                  # (kw,) of each tap in such a row
    const Py_ssize_t* behind                # (kh * kw,) of each behind its window's first, in the plane


cdef void regular_row(const Regular* p, const vreal* x, Py_ssize_t step, Py_ssize_t high, Py_ssize_t ow, vreal* out,
                      vreal* found) noexcept nogil:
    """Maxima of a row of windows, and the number of the tap that each is, -1 for -inf. Windows lie in the lanes.

    x: `high` rows of phases, a step apart, with room for a vector behind them; out, found: (ow,)
    """
    cdef Py_ssize_t ox = 0, y, k, at
    cdef int lanes = v_lanes(x), part
    cdef vreal v, best, tap, number
    while ox < ow:
        best = v_all(x, -INFINITY)
        tap = v_all(x, -1)
        for y in range(high):
            for k in range(p.kw):
                v = v_get(x, y * step + p.taps[k] + ox)
                number = v_all(x, <double>(y * p.kw + k))
                tap = v_where_lt(best, v, number, v_where_nan(v, number, tap))
                best = v_where_lt(best, v, v, v_where_nan(v, v, best))
        part = <int>min(<Py_ssize_t>lanes, ow - ox)
        put_part(out, ox, best, part)
        put_part(found, ox, tap, part)
        ox += lanes


cdef void regular_plane(const Regular* p, const real* x, Py_ssize_t h, Py_ssize_t w, const Py_ssize_t* rows,
                        Py_ssize_t oh, const Py_ssize_t* cols, Py_ssize_t ow, Py_ssize_t dh, real* out,
                        int64_t* indices, real* scratch) noexcept nogil:
    """`max_pool_plane` of windows in regular steps. scratch: the rows of phases, room for a vector, and (ow,)"""
    cdef Py_ssize_t oy, ox, r, step = p.phases * p.wide, high, first
    cdef real* found = scratch + h * step + LINE
    for r in range(h):
        phase_row(x + r * w, w, p.left, p.phases, p.wide, p.stride, <real>(-INFINITY), scratch + r * step)
    for oy in range(oh):
        high = max((rows[3 * oy + 1] - rows[3 * oy] + dh - 1) // dh, 0)
        if real is float:
            regular_row(p, <const vf*>(scratch + rows[3 * oy] * step), dh * step, high, ow, <vf*>out, <vf*>found)
        else:
            regular_row(p, <const vd*>(scratch + rows[3 * oy] * step), dh * step, high, ow, <vd*>out, <vd*>found)
        first = rows[3 * oy] * w - p.left
        for ox in range(ow):
            if found[ox] >= 0:
                indices[ox] = first + ox * p.stride + p.behind[<Py_ssize_t>found[ox]]
            else:
                indices[ox] = first_place(rows + 3 * oy, cols + 3 * ox, w)
        out += ow
        indices += ow


def max_pool_indices(cnp.ndarray x, cnp.ndarray rows, cnp.ndarray cols, Py_ssize_t dh, Py_ssize_t dw, int threads,
                     cnp.ndarray regular=None):
    """Maxima of windows, and int64 indices into (h, w). x: (n, c, h, w) or (c, h, w), C-contiguous, float32 or float64

    rows: (oh, 3) and cols: (ow, 3), as `pool_windows` or `adaptive_windows` give them; dh, dw: the dilation.
    regular: intp, where all windows are alike: what `Regular` has, its tables last
    """
    cdef int ndim = cnp.PyArray_NDIM(x), axis
    cdef Py_ssize_t h = cnp.PyArray_DIMS(x)[ndim - 2], w = cnp.PyArray_DIMS(x)[ndim - 1]
    cdef Py_ssize_t oh = cnp.PyArray_DIMS(rows)[0], ow = cnp.PyArray_DIMS(cols)[0], planes = 1
    cdef const Py_ssize_t* windows = <const Py_ssize_t*>cnp.PyArray_DATA(rows)
    cdef const Py_ssize_t* across = <const Py_ssize_t*>cnp.PyArray_DATA(cols)
    cdef cnp.npy_intp dims[4]
    cdef cnp.ndarray out, indices
    cdef Regular p
    cdef const Py_ssize_t* numbers
    cdef Py_ssize_t size = 0, part
    cdef double* scratch = NULL
    for axis in range(ndim - 2):
        dims[axis] = cnp.PyArray_DIMS(x)[axis]
        planes *= dims[axis]
    dims[ndim - 2], dims[ndim - 1] = oh, ow
    out = cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(x), 0)
    indices = cnp.PyArray_EMPTY(ndim, dims, cnp.NPY_INT64, 0)
    threads = useful_threads(planes * h * w, SHARE_COPYING, threads)
    p.stride = 0
    if regular is not None:
        numbers = <const Py_ssize_t*>cnp.PyArray_DATA(regular)
        p.kw, p.stride, p.left, p.phases, p.wide = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
        p.taps = numbers + 5
        p.behind = p.taps + p.kw
        size = h * p.phases * p.wide + LINE + ow
        scratch = <double*>malloc(threads * size * sizeof(double))
        if scratch == NULL:
            raise MemoryError
    with nogil:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
                max_pool_planes(&p, <const float*>cnp.PyArray_DATA(x), h, w, windows, oh, across, ow, dh, dw,
                                <float*>cnp.PyArray_DATA(out), <int64_t*>cnp.PyArray_DATA(indices),
                                <float*>(scratch + part * size), planes * part // threads,
                                planes * (part + 1) // threads)
            else:
                max_pool_planes(&p, <const double*>cnp.PyArray_DATA(x), h, w, windows, oh, across, ow, dh, dw,
                                <double*>cnp.PyArray_DATA(out), <int64_t*>cnp.PyArray_DATA(indices),
                                scratch + part * size, planes * part // threads, planes * (part + 1) // threads)
    free(scratch)
    return out, indices


cdef void max_pool_planes(const Regular* p, const real* x, Py_ssize_t h, Py_ssize_t w, const Py_ssize_t* rows,
                          Py_ssize_t oh, const Py_ssize_t* cols, Py_ssize_t ow, Py_ssize_t dh, Py_ssize_t dw, real* out,
                          int64_t* indices, real* scratch, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Channels [begin, end) of `max_pool_indices`."""
    cdef Py_ssize_t k
    for k in range(begin, end):
        if p.stride:
            regular_plane(p, x + k * h * w, h, w, rows, oh, cols, ow, dh, out + k * oh * ow, indices + k * oh * ow,
                          scratch)
        else:
            max_pool_plane(x + k * h * w, w, rows, oh, cols, ow, dh, dw, out + k * oh * ow, indices + k * oh * ow)
