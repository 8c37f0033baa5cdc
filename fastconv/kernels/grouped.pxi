"""Grouped convolution with few channels to a group: several groups share a vector.

A group has as many channels out as in, `size`: 2 or 4. The output in a lane sums products with channel j of its own
group, j = 0..size-1, which is spread over the lanes of the group.
"""

cdef enum:
    FC_GM = 8                   # pixels of the tile: with AVX2's 16 registers 8 sums, the weights and the inputs


cdef inline vf spread_products(int size, const float* x, vf w0, vf w1, vf w2, vf w3, vf acc) noexcept nogil:
    """acc + w0 x[0] + ... + w3 x[3] in every group, or the first two where it has no more"""
    cdef vf v = v_load(x)
    acc = v_fma(v_spread(v, size, 0), w0, acc)
    acc = v_fma(v_spread(v, size, 1), w1, acc)
    if size == 4:
        acc = v_fma(v_spread(v, size, 2), w2, acc)
        acc = v_fma(v_spread(v, size, 3), w3, acc)
    return acc


cdef inline void grouped_tile(int size, const Step* s, const GroupedRecord* p, const float** x, const float* w,
                              const Epilogue* e, const float** z, float** y, Py_ssize_t k) noexcept nogil:
    """y = act(w . x + bias (+ z)) for FC_GM pixels and one vector of channels, from k on. size: a constant

    x: pointers to the windows; w: (taps, size, padded); z: pointers, or NULL where there is no residual; y: pointers
    """
    cdef vf acc[FC_GM]
    cdef vf w0, w1, w2, w3
    cdef Py_ssize_t ky, kx, offset, padded = p.padded
    cdef int i
    for i in range(FC_GM):
        acc[i] = v_set1(0)
    w2 = w3 = v_set1(0)
    for ky in range(p.kh):
        for kx in range(p.kw):
            offset = ky * p.dh * s.x.row + kx * p.dw * s.x.pixel + k
            w0 = v_load(w)
            w1 = v_load(w + padded)
            w += 2 * padded
            if size == 4:
                w2 = v_load(w)
                w3 = v_load(w + padded)
                w += 2 * padded
            for i in range(FC_GM):
                acc[i] = spread_products(size, x[i] + offset, w0, w1, w2, w3, acc[i])
    w0 = v_load(e.bias)
    for i in range(FC_GM):
        acc[i] = acc[i] + w0
    if z != NULL:
        for i in range(FC_GM):
            acc[i] = acc[i] + v_load(z[i] + k)
    for i in range(FC_GM):
        v_store(y[i] + k, activate_inline(acc[i], e))


cdef void grouped_pixels(const Step* s, const GroupedRecord* p, char** base, const float** x, const float** z,
                         float** y, Py_ssize_t count) noexcept nogil:
    """All channels of `count` pixels, at most FC_GM; where there are fewer, the last is done several times."""
    cdef Epilogue e = epilogue(NULL, &p.activation)
    cdef const float* bias = <const float*>start(base, &p.bias)
    cdef const float* w = <const float*>start(base, &p.weight)
    cdef Py_ssize_t i, v, k
    for i in range(count, FC_GM):
        x[i] = x[count - 1]
        y[i] = y[count - 1]
        z[i] = z[count - 1]
    for v in range(p.padded // FC_W):
        k = v * FC_W
        e.bias = bias + k
        if p.size == 2:
            grouped_tile(2, s, p, x, w + k, &e, z if s.has_z else NULL, y, k)
        else:
            grouped_tile(4, s, p, x, w + k, &e, z if s.has_z else NULL, y, k)
    if e.kind > LAST_INLINE:
        for i in range(count):
            activate_stored(y[i], p.padded, &e)


cdef void grouped(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                  char* scratch) noexcept nogil:
    """x: (n, h, w, c) with its border of zeros inside the view; y: (n, oh, ow, c); whole vectors of channels.

    record: GroupedRecord. A unit is `block` rows. All channels of some pixels come before the next pixels: their
    windows are in the L1 cache then.
    """
    cdef const GroupedRecord* p = <const GroupedRecord*>s.record
    cdef const float* x[FC_GM]
    cdef const float* z[FC_GM]
    cdef float* y[FC_GM]
    cdef Py_ssize_t r, i, oy, ox, m = 0
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        for ox in range(s.y.w):
            x[m] = at(base, &s.x, i, oy * p.sh, ox * p.sw)
            y[m] = at(base, &s.y, i, oy, ox)
            z[m] = at(base, &s.z, i, oy, ox) if s.has_z else NULL
            m += 1
            if m == FC_GM:
                grouped_pixels(s, p, base, x, z, y, m)
                m = 0
    if m > 0:
        grouped_pixels(s, p, base, x, z, y, m)
