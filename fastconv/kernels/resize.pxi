"""Interpolation of images: each output is a sum of a few rows' and columns' pixels."""


cdef void resample_pixel(const vreal* x, const Py_ssize_t* rows, const Py_ssize_t* columns, const vreal* row_weights,
                         const vreal* column_weights, Py_ssize_t taps, vreal* y, Py_ssize_t c) noexcept nogil:
    """All channels of one pixel. rows, columns: (taps,) offsets in elements; weights: (taps,) each"""
    cdef Py_ssize_t k = 0, a, b
    cdef int part, lanes = v_lanes(x)
    cdef vreal total, line, zero = v_all(x, 0)
    while k < c:
        part = <int>min(<Py_ssize_t>lanes, c - k)
        total = zero
        for a in range(taps):
            line = zero
            for b in range(taps):
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
    cdef Py_ssize_t r, i, oy, ox, t, taps = p.taps
    cdef const Py_ssize_t* columns
    cdef Py_ssize_t rows[MAX_TAPS]
    cdef Py_ssize_t across[MAX_TAPS]
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        x = <const real*>start(base, &s.x.place) + i * s.x.image
        for t in range(taps):
            rows[t] = places[oy * taps + t] * s.x.row
        columns = places + s.y.h * taps
        for ox in range(s.y.w):
            y = <real*>start(base, &s.y.place) + element(&s.y, i, oy, ox)
            for t in range(taps):
                across[t] = columns[ox * taps + t] * s.x.pixel
            if taps == 1:
                memcpy(y, x + rows[0] + across[0], s.y.c * sizeof(real))
            elif real is float:
                resample_pixel(<const vf*>x, rows, across, <const vf*>(weights + oy * taps),
                               <const vf*>(weights + (s.y.h + ox) * taps), taps, <vf*>y, s.y.c)
            else:
                resample_pixel(<const vd*>x, rows, across, <const vd*>(weights + oy * taps),
                               <const vd*>(weights + (s.y.h + ox) * taps), taps, <vd*>y, s.y.c)
