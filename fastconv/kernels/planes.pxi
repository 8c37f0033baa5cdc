"""Functions on the caller's images in PyTorch's order, a plane or a row of pixels at a time."""

cdef enum:
    MEAN_LANES = 64                 # partial sums of a mean: chains enough for any width of vector
    FINITE_CHAINS = 8               # of FMAs, to hide their latency


cdef void plane_mean(const real* x, Py_ssize_t size, real* y) noexcept nogil:
    """y[0] := the mean of x. x: (size,)"""
    cdef real sums[MEAN_LANES]
    cdef Py_ssize_t i, j, width
    for j in range(MEAN_LANES):
        sums[j] = 0
    i = 0
    while i + MEAN_LANES <= size:
        for j in range(MEAN_LANES):
            sums[j] += x[i + j]
        i += MEAN_LANES
    for j in range(size - i):
        sums[j] += x[i + j]
    width = MEAN_LANES // 2
    while width:
        for j in range(width):
            sums[j] += sums[j + width]
        width //= 2
    y[0] = sums[0] / size


cdef void plane_means_of(const real* x, real* y, Py_ssize_t planes, Py_ssize_t size, int threads) noexcept nogil:
    """x: (planes, size); y: (planes,)"""
    cdef Py_ssize_t p, t
    cdef uint64_t state
    for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
        state = fc_flush_denormals()
        for p in range(planes * t // threads, planes * (t + 1) // threads):
            plane_mean(x + p * size, size, y + p)
        fc_restore_denormals(state)


def plane_means(cnp.ndarray x, int threads):
    """The mean of each plane. x: (..., h, w), C-contiguous, h and w at least 1 -> (..., 1, 1)"""
    cdef int ndim = cnp.PyArray_NDIM(x), axis
    cdef Py_ssize_t size = cnp.PyArray_DIMS(x)[ndim - 2] * cnp.PyArray_DIMS(x)[ndim - 1]
    cdef Py_ssize_t planes = cnp.PyArray_SIZE(x) // size
    cdef cnp.npy_intp dims[4]
    cdef cnp.ndarray out
    for axis in range(ndim):
        dims[axis] = cnp.PyArray_DIMS(x)[axis] if axis < ndim - 2 else 1
    out = cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(x), 0)
    threads = useful_threads(planes * size, SHARE_COPYING, threads)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            plane_means_of(<const float*>cnp.PyArray_DATA(x), <float*>cnp.PyArray_DATA(out), planes, size, threads)
        else:
            plane_means_of(<const double*>cnp.PyArray_DATA(x), <double*>cnp.PyArray_DATA(out), planes, size, threads)
    return out


cdef bint finite_vectors(const vreal* x, Py_ssize_t n) noexcept nogil:
    """Whether none of n elements is a NaN or an infinity: times 0, these are NaN, and so is any sum they enter."""
    cdef vreal sums[FINITE_CHAINS]
    cdef vreal zero = v_all(x, 0)
    cdef Py_ssize_t k = 0
    cdef int i, lanes = v_lanes(x)
    for i in range(FINITE_CHAINS):
        sums[i] = zero
    while k + FINITE_CHAINS * lanes <= n:
        for i in range(FINITE_CHAINS):
            sums[i] = v_fma(v_get(x, k + i * lanes), zero, sums[i])
        k += FINITE_CHAINS * lanes
    while k + lanes <= n:
        sums[0] = v_fma(v_get(x, k), zero, sums[0])
        k += lanes
    if k < n:
        sums[0] = v_fma(v_get_else(x, k, <int>(n - k), zero), zero, sums[0])
    for i in range(1, FINITE_CHAINS):
        sums[0] = sums[0] + sums[i]
    return v_sum(sums[0]) == 0


cdef void mark_not_finite(const real* x, Py_ssize_t size, Py_ssize_t begin, Py_ssize_t end, uint8_t* marks
                          ) noexcept nogil:
    """Set the marks of images with elements in [begin, end) that are not finite. x: (images, size)"""
    cdef Py_ssize_t i, stop
    cdef bint finite
    while begin < end:
        i = begin // size
        stop = min(end, (i + 1) * size)
        if real is float:
            finite = finite_vectors(<const vf*>(x + begin), stop - begin)
        else:
            finite = finite_vectors(<const vd*>(x + begin), stop - begin)
        if not finite:
            marks[i] = 1
        begin = stop


def not_finite(cnp.ndarray x, int threads):
    """Which images hold a NaN or an infinity. x: (n, ...), C-contiguous -> (n,) bool, or None where none does"""
    cdef cnp.npy_intp n = cnp.PyArray_DIMS(x)[0]
    cdef Py_ssize_t elements = cnp.PyArray_SIZE(x), t
    cdef cnp.ndarray marks = cnp.PyArray_ZEROS(1, &n, cnp.NPY_BOOL, 0)
    cdef uint8_t* mark = <uint8_t*>cnp.PyArray_DATA(marks)
    threads = useful_threads(elements, SHARE_COPYING, threads)
    with nogil:
        for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
                mark_not_finite(<const float*>cnp.PyArray_DATA(x), elements // n if n else 1, elements * t // threads,
                                elements * (t + 1) // threads, mark)
            else:
                mark_not_finite(<const double*>cnp.PyArray_DATA(x), elements // n if n else 1, elements * t // threads,
                                elements * (t + 1) // threads, mark)
    for t in range(n):
        if mark[t]:
            return marks
    return None


cdef void take_row(const real* x, const Py_ssize_t* positions, Py_ssize_t n, Py_ssize_t start, Py_ssize_t stop,
                   real value, real* y) noexcept nogil:
    """y[i] := x[positions[i]], or value at -1; positions[start:stop] follow each other. x: a row; y: (n,)"""
    cdef Py_ssize_t i
    cdef const real* run = x + (positions[start] if start < stop else 0)
    for i in range(start):
        y[i] = x[positions[i]] if positions[i] >= 0 else value
    for i in range(stop - start):
        y[start + i] = run[i]
    for i in range(stop, n):
        y[i] = x[positions[i]] if positions[i] >= 0 else value


cdef void take_plane(const real* x, Py_ssize_t w, const Py_ssize_t* rows, Py_ssize_t oh, const Py_ssize_t* cols,
                     Py_ssize_t ow, Py_ssize_t start, Py_ssize_t stop, real value, real* y) noexcept nogil:
    """y[i, j] := x[rows[i], cols[j]], or value where either is -1, or x is NULL. x: (h, w); y: (oh, ow)"""
    cdef Py_ssize_t i, j
    for i in range(oh):
        if x == NULL or rows[i] < 0:
            for j in range(ow):
                y[i * ow + j] = value
        else:
            take_row(x + rows[i] * w, cols, ow, start, stop, value, y + i * ow)


cdef struct Taken:
    int axes                                # the last of them are those of a plane
    Py_ssize_t sizes[MAX_AXES]              # of x
    Py_ssize_t counts[MAX_AXES]             # of y
    const Py_ssize_t* positions[MAX_AXES]   # of x, by position of y; -1 is the value. NULL: the same
    Py_ssize_t start                        # positions of the last axis that follow each other
    Py_ssize_t stop


cdef void take_planes(const Taken* s, const real* x, real* y, real value, Py_ssize_t first, Py_ssize_t last
                      ) noexcept nogil:
    """Planes [first, last) of y."""
    cdef int rows_axis = s.axes - 2
    cdef Py_ssize_t oh = s.counts[rows_axis], ow = s.counts[rows_axis + 1]
    cdef Py_ssize_t plane = s.sizes[rows_axis] * s.sizes[rows_axis + 1]
    cdef Py_ssize_t p, rest, place, source, stride
    cdef int axis
    cdef bint inside
    for p in range(first, last):
        rest, source, stride, inside = p, 0, plane, True
        for axis in range(rows_axis - 1, -1, -1):
            place = rest % s.counts[axis]
            rest = rest // s.counts[axis]
            if s.positions[axis] != NULL:
                place = s.positions[axis][place]
            inside = inside and place >= 0
            source += place * stride
            stride *= s.sizes[axis]
        take_plane(x + source if inside else NULL, s.sizes[rows_axis + 1], s.positions[rows_axis], oh,
                   s.positions[rows_axis + 1], ow, s.start, s.stop, value, y + p * oh * ow)


def take(cnp.ndarray x, tuple sizes, tuple positions, tuple shape, double value, int threads):
    """y[i, j, ...] := x[positions[0][i], positions[1][j], ...], or value where any position is -1.

    x: C-contiguous, viewed as `sizes`, at least two; positions: an intp array for each of these axes, None where they
    are 0, 1, 2 and on, which the last two cannot be; shape: of the result.
    """
    cdef Taken s
    cdef Py_ssize_t planes = 1, t, n, i
    cdef cnp.npy_intp dims[MAX_AXES]
    cdef cnp.ndarray out
    cdef int axis, parts
    s.axes = <int>len(sizes)
    for axis in range(s.axes):
        s.sizes[axis] = sizes[axis]
        where = positions[axis]
        s.counts[axis] = s.sizes[axis] if where is None else len(where)
        s.positions[axis] = NULL
        if where is not None:
            s.positions[axis] = <const Py_ssize_t*>cnp.PyArray_DATA(where)
        if axis < s.axes - 2:
            planes *= s.counts[axis]
    n = s.counts[s.axes - 1]
    i = 0
    while i < n and s.positions[s.axes - 1][i] != 0:
        i += 1
    s.start = s.stop = i
    while s.stop < n and s.positions[s.axes - 1][s.stop] == s.stop - i:
        s.stop += 1
    for axis, t in enumerate(shape):
        dims[axis] = t
    out = cnp.PyArray_EMPTY(<int>len(shape), dims, cnp.PyArray_TYPE(x), 0)
    parts = useful_threads(cnp.PyArray_SIZE(out), SHARE_COPYING, threads)
    with nogil:
        for t in prange(parts, num_threads=parts, schedule="static", chunksize=1):
            if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
                take_planes(&s, <const float*>cnp.PyArray_DATA(x), <float*>cnp.PyArray_DATA(out), <float>value,
                            planes * t // parts, planes * (t + 1) // parts)
            else:
                take_planes(&s, <const double*>cnp.PyArray_DATA(x), <double*>cnp.PyArray_DATA(out), value,
                            planes * t // parts, planes * (t + 1) // parts)
    return out
