"""Direct convolution for few channels: pixels in the lanes, pooling fused, the unpooled map never written.

A first layer such as 1 -> 6 channels would leave most lanes of a channel vector empty. Here a vector is
neighbouring pixels of one output row; x is planar, as the caller gave it.
"""


cdef inline void pixel_tile(int channels, int nv, const float* x, const Py_ssize_t* offsets, Py_ssize_t segments,
                            Py_ssize_t length, const float* w, const Py_ssize_t* place, float* out,
                            Py_ssize_t ld) noexcept nogil:
    """out[o, place[v] + lane] = sum over k of w[k, o] * x[offsets[s] + t + place[v] + lane], k = s*length + t.

    w: (K, FC_PO); place: nv positions along the row, which may overlap; out: (channels, ld)
    """
    cdef vp acc[FC_PO][FC_PV]
    cdef vp xv[FC_PV]
    cdef vp wv
    cdef int o, v
    cdef Py_ssize_t s, k
    for o in range(channels):
        for v in range(nv):
            acc[o][v] = p_set1(0)
    for s in range(segments):
        for k in range(offsets[s], offsets[s] + length):
            for v in range(nv):
                xv[v] = p_load(x + k + place[v])
            for o in range(channels):
                wv = p_set1(w[o])
                for v in range(nv):
                    acc[o][v] = p_fma(wv, xv[v], acc[o][v])
            w += FC_PO
    for o in range(channels):
        for v in range(nv):
            p_store(out + o * ld + place[v], acc[o][v])


cdef void run_pixel_tile(int channels, int nv, const float* x, const Py_ssize_t* offsets, Py_ssize_t segments,
                         Py_ssize_t length, const float* w, const Py_ssize_t* place, float* out,
                         Py_ssize_t ld) noexcept nogil:
    """The tile at a size known only now: all FC_PO channels, or one at a time for what is left over."""
    cdef int o
    if channels == FC_PO:
        if nv == 3:
            pixel_tile(FC_PO, 3, x, offsets, segments, length, w, place, out, ld)
        elif nv == 2:
            pixel_tile(FC_PO, 2, x, offsets, segments, length, w, place, out, ld)
        else:
            pixel_tile(FC_PO, 1, x, offsets, segments, length, w, place, out, ld)
    else:
        for o in range(channels):
            if nv == 3:
                pixel_tile(1, 3, x, offsets, segments, length, w + o, place, out + o * ld, ld)
            elif nv == 2:
                pixel_tile(1, 2, x, offsets, segments, length, w + o, place, out + o * ld, ld)
            else:
                pixel_tile(1, 1, x, offsets, segments, length, w + o, place, out + o * ld, ld)


cdef inline vp pixel_activate(vp v, const Step* s) noexcept nogil:
    if s.activation == CLAMP:
        return p_min(p_set1(<float>s.high), p_max(p_set1(<float>s.low), v))
    if s.activation == LEAKY:
        return p_leaky(v, p_set1(<float>s.slope))
    return v


cdef inline void max_pool_row(const Step* s, float* rows, Py_ssize_t ld, float* out) noexcept nogil:
    """Max over the window of one channel's conv rows. rows: (ph, ld), spoilt; out: (pooled width, padded)"""
    cdef Py_ssize_t j, k, t
    cdef vp v
    cdef float m
    for k in range((s.ow + FC_P - 1) // FC_P):
        j = k * FC_P
        v = p_load(rows + j)
        for t in range(1, s.ph):
            v = p_nanmax(v, p_load(rows + t * ld + j))
        p_store(rows + j, v)
    if s.pw == 2 and s.psw == 2:
        for k in range((s.y.w + FC_P - 1) // FC_P):
            j = k * FC_P
            v = p_load(rows + 2 * j)
            p_store(out + j, p_nanmax(p_even(v, p_load(rows + 2 * j + FC_P)), p_odd(v, p_load(rows + 2 * j + FC_P))))
    else:
        for j in range(s.y.w):
            m = rows[j * s.psw]
            for t in range(1, s.pw):
                if not rows[j * s.psw + t] <= m and m == m:
                    m = rows[j * s.psw + t]
            out[j] = m


cdef void conv_pixels(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      float* scratch) noexcept nogil:
    """Stride-1 convolution of few output channels. x: planar (n, c, h, w); y: NHWC, pooled where s.pool.

    weight: (channel blocks, K, FC_PO), K = (c, kh, kw); table: offsets of the (c, kh) segments.
    A unit is `block` output rows; scratch: (FC_PO, ph, ld) and (FC_PO, ld), ld = ow padded to two vectors.
    Max-pooling comes before bias and activation: both are monotonic, rounding included, so it is the same number.
    """
    cdef Py_ssize_t ld = (s.ow + 2 * FC_P - 1) // (2 * FC_P) * (2 * FC_P)
    cdef Py_ssize_t tall = s.ph if s.pool else 1
    cdef Py_ssize_t down = s.psh if s.pool else 1
    cdef Py_ssize_t K = s.segments * s.length
    cdef Py_ssize_t vectors = (s.ow + FC_P - 1) // FC_P
    cdef Py_ssize_t place[FC_PV]
    cdef Py_ssize_t r, i, oy, t, o, o0, v, j, k
    cdef int channels, nv
    cdef float* pooled = scratch + FC_PO * tall * ld
    cdef float* rows
    cdef float* y
    cdef vp bias
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        oy = r - i * s.rows
        for k in range((s.out_channels + FC_PO - 1) // FC_PO):
            o0 = k * FC_PO
            channels = <int>min(s.out_channels - o0, FC_PO)
            for t in range(tall):
                v = 0
                while v < vectors:
                    nv = <int>min(vectors - v, FC_PV)
                    for j in range(nv):
                        place[j] = min((v + j) * FC_P, s.ow - FC_P)
                    run_pixel_tile(channels, nv, at(base, &s.x, i, oy * down + t, 0), s.table, s.segments, s.length,
                                   <const float*>s.weight + o0 * K, place, scratch + t * ld, tall * ld)
                    v += nv
            for o in range(channels):
                rows = scratch + o * tall * ld
                if s.pool:
                    max_pool_row(s, rows, ld, pooled + o * ld)
                    rows = pooled + o * ld
                bias = p_set1((<const float*>s.bias)[o0 + o])
                for j in range((s.y.w + FC_P - 1) // FC_P):
                    p_store(rows + j * FC_P, pixel_activate(p_load(rows + j * FC_P) + bias, s))
            rows = pooled if s.pool else scratch
            y = at(base, &s.y, i, oy, 0) + o0
            for j in range(s.y.w):
                for o in range(channels):
                    y[o] = rows[o * ld + j]
                y += s.y.pixel
