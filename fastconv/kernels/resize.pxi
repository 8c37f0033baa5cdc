"""Interpolation of images: each output is a sum of a few rows' and columns' pixels."""


cdef void resample_pixel(const vreal* x, const Py_ssize_t* rows, const Py_ssize_t* columns, const vreal* row_weights,
                         const vreal* column_weights, Py_ssize_t high, Py_ssize_t wide, vreal* y,
                         Py_ssize_t c) noexcept nogil:
    """All channels of one pixel. rows: (high,), columns: (wide,) offsets in elements; as many weights of each"""
    cdef Py_ssize_t k = 0, a, b
    cdef int part, lanes = v_lanes(x)
    cdef vreal total, line, zero = v_all(x, 0)
    while k < c:
        part = <int>min(<Py_ssize_t>lanes, c - k)
        total = zero
        for a in range(high):
            line = zero
            for b in range(wide):
                line = v_fma(v_get(x, rows[a] + columns[b] + k) if part == lanes
                             else v_get_else(x, rows[a] + columns[b] + k, part, zero),
                             v_weight(column_weights, b), line)
            total = v_fma(line, v_weight(row_weights, a), total)
        put_part(y, k, total, part)
        k += lanes


cdef inline vreal v_weight(const vreal* w, Py_ssize_t k) noexcept nogil:
    """Element k in all lanes."""
    if vreal is vf:
        return v_all(w, (<const float*>w)[k])
    else:
        return v_all(w, (<const double*>w)[k])


cdef void resample(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                   real* scratch) noexcept nogil:
    """x: (n, h, w, c) -> y: (n, oh, ow, c). record: ResampleRecord. A unit is `block` output rows."""
    cdef const ResampleRecord* p = <const ResampleRecord*>s.record
    cdef const Py_ssize_t* places = <const Py_ssize_t*>start(base, &p.places)
    cdef const real* weights = <const real*>start(base, &p.weights)
    cdef Py_ssize_t r, i, oy, ox, t, high = p.high, wide = p.wide
    cdef const real* across_weights = weights + s.y.h * high
    cdef const Py_ssize_t* columns
    cdef Py_ssize_t rows[MAX_TAPS]
    cdef Py_ssize_t across[MAX_TAPS]
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        x = <const real*>start(base, &s.x.place) + i * s.x.image
        for t in range(high):
            rows[t] = places[oy * high + t] * s.x.row
        columns = places + s.y.h * high
        for ox in range(s.y.w):
            y = <real*>start(base, &s.y.place) + element(&s.y, i, oy, ox)
            for t in range(wide):
                across[t] = columns[ox * wide + t] * s.x.pixel
            if high == 1 and wide == 1:
                memcpy(y, x + rows[0] + across[0], s.y.c * sizeof(real))
            elif real is float:
                resample_pixel(<const vf*>x, rows, across, <const vf*>(weights + oy * high),
                               <const vf*>(across_weights + ox * wide), high, wide, <vf*>y, s.y.c)
            else:
                resample_pixel(<const vd*>x, rows, across, <const vd*>(weights + oy * high),
                               <const vd*>(across_weights + ox * wide), high, wide, <vd*>y, s.y.c)


cdef enum:
    FEW_SAMPLED = 4                 # channels; fewer are taken one at a time


cdef inline double padded(double at, Py_ssize_t size, const GridRecord* p) noexcept nogil:
    """A position along an axis brought into 0..size-1 as the padding has it; NaN becomes 0."""
    cdef double low = 0 if p.align_corners else -0.5
    cdef double span = <double>(size - 1 if p.align_corners else size)
    if p.padding == ZEROS:
        return at
    if p.padding == REFLECTION:
        at = fabs(at - low)
        at -= 2 * span * trunc(at / (2 * span))     # NaN where the span is 0: a single pixel
        at = min(at, 2 * span - at) + low
    return min(at, <double>(size - 1)) if at > 0 else 0


cdef inline Py_ssize_t grid_taps(double coordinate, Py_ssize_t size, Py_ssize_t step, const GridRecord* p,
                                 Py_ssize_t* offsets, real* weights) noexcept nogil:
    """The pixels along an axis, `step` elements apart, that a coordinate is made of, those inside alone; -1: of none.

    -1..1 is the image from edge to edge or, with align_corners, from the middle of one pixel to that of another.
    offsets, weights: (MAX_TAPS,)
    """
    cdef double at = (coordinate + 1) * (0.5 * (size - 1)) if p.align_corners else (coordinate + 1) * (0.5 * size) - 0.5
    cdef double[MAX_TAPS] w
    cdef double near, t
    cdef Py_ssize_t j, count = 0
    if p.mode != BICUBIC:
        at = padded(at, size, p)
    if p.mode == NEAREST:
        near = rint(at)                             # an even one of two that are equally near, as in PyTorch
        w[0] = 1
    else:
        near = floor(at)
        t = at - near
        if t != t:
            return -1
        if p.mode == BILINEAR:
            w[0] = 1 - t
            w[1] = t
        else:                                       # Keys's kernel
            w[0] = ((p.cubic * (t + 1) - 5 * p.cubic) * (t + 1) + 8 * p.cubic) * (t + 1) - 4 * p.cubic
            w[1] = ((p.cubic + 2) * t - (p.cubic + 3)) * t * t + 1
            w[2] = ((p.cubic + 2) * (1 - t) - (p.cubic + 3)) * (1 - t) * (1 - t) + 1
            w[3] = ((p.cubic * (2 - t) - 5 * p.cubic) * (2 - t) + 8 * p.cubic) * (2 - t) - 4 * p.cubic
            near -= 1
    for j in range(p.taps):
        at = padded(near + j, size, p) if p.mode == BICUBIC else near + j
        if 0 <= at < size:                          # compared as it is: it may be larger than any integer
            offsets[count] = <Py_ssize_t>at * step
            weights[count] = <real>w[j]
            count += 1
    return count


cdef inline void sample_few(const real* x, const Py_ssize_t* rows, const Py_ssize_t* columns, const real* row_weights,
                            const real* column_weights, Py_ssize_t high, Py_ssize_t wide, real* y,
                            Py_ssize_t c) noexcept nogil:
    """As `resample_pixel`, one channel after the other: for few."""
    cdef Py_ssize_t k, a, b
    cdef real total, line
    for k in range(c):
        total = 0
        for a in range(high):
            line = 0
            for b in range(wide):
                line += x[rows[a] + columns[b] + k] * column_weights[b]
            total += line * row_weights[a]
        y[k] = total


cdef void sample_grid(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      real* scratch) noexcept nogil:
    """x: (n, h, w, c), z: (n, oh, ow, 2) in one run -> y: (n, oh, ow, c). record: GridRecord. A unit is a row."""
    cdef const GridRecord* p = <const GridRecord*>s.record
    cdef Py_ssize_t r, i, oy, ox, k, high, wide
    cdef Py_ssize_t[MAX_TAPS] rows
    cdef Py_ssize_t[MAX_TAPS] columns
    cdef real[MAX_TAPS] row_weights
    cdef real[MAX_TAPS] column_weights
    cdef const real* x
    cdef const real* grid
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        x = <const real*>start(base, &s.x.place) + i * s.x.image
        grid = <const real*>start(base, &s.z.place) + i * s.z.image + 2 * oy * s.y.w
        for ox in range(s.y.w):
            y = <real*>start(base, &s.y.place) + element(&s.y, i, oy, ox)
            wide = grid_taps(grid[2 * ox], s.x.w, s.x.pixel, p, columns, column_weights)
            high = grid_taps(grid[2 * ox + 1], s.x.h, s.x.row, p, rows, row_weights)
            if wide < 0 or high < 0:
                for k in range(s.y.c):
                    y[k] = NAN
            elif wide == 0 or high == 0:
                memset(y, 0, s.y.c * sizeof(real))
            elif p.mode == NEAREST and s.y.c < FEW_SAMPLED:
                for k in range(s.y.c):
                    y[k] = x[rows[0] + columns[0] + k]
            elif p.mode == NEAREST:
                memcpy(y, x + rows[0] + columns[0], s.y.c * sizeof(real))
            elif s.y.c < FEW_SAMPLED:
                sample_few(x, rows, columns, row_weights, column_weights, high, wide, y, s.y.c)
            elif real is float:
                resample_pixel(<const vf*>x, rows, columns, <const vf*>row_weights, <const vf*>column_weights, high,
                               wide, <vf*>y, s.y.c)
            else:
                resample_pixel(<const vd*>x, rows, columns, <const vd*>row_weights, <const vd*>column_weights, high,
                               wide, <vd*>y, s.y.c)
