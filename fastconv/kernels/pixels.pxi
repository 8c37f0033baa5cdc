"""Direct convolution for few channels: pixels in the lanes, pooling fused, the unpooled map never written.

A first layer such as 1 -> 6 channels would leave most lanes of a channel vector empty. Here a vector is
neighbouring pixels of one output row; x is NCHW, as the caller gave it. Two output rows are computed at
a time, so that each weight is read once for both and a 2x2 pool never leaves the registers.
"""


cdef inline void store_pooled(float* out, vp top, vp bottom) noexcept nogil:
    """Half a vector: the maxima over 2x2"""
    cdef vp v = p_nanmax(top, bottom)
    p_store_half(out, p_nanmax(p_even(v, v), p_odd(v, v)))


cdef inline void pixel_tile(int nv, int channels, int rows, int pooled, Py_ssize_t blocks, const float* x,
                            Py_ssize_t x_row, const Py_ssize_t* offsets, Py_ssize_t segments, Py_ssize_t length,
                            const float* w, Py_ssize_t w_step, const Py_ssize_t* place, float* out,
                            Py_ssize_t ld) noexcept nogil:
    """out[o, r, place[v] + lane] = sum over k of w[k, o] * x[r, offset(k) + place[v] + lane]

    for `channels` o of each of `blocks` blocks, 1 or 2 rows r and 1 to 3 vectors v; with `pooled`, the 2x2 maximum
    of that, at place[v] / 2. w: (K, FC_PO), w_step to the next block; x: rows x_row apart; place: positions along the
    row, which may overlap; out: (channels, rows or 1, ld). Written for registers as `tile` is.
    """
    cdef vp a0[FC_PO]
    cdef vp a1[FC_PO]
    cdef vp a2[FC_PO]
    cdef vp b0[FC_PO]
    cdef vp b1[FC_PO]
    cdef vp b2[FC_PO]
    cdef vp x0, x1, x2, y0, y1, y2, wv
    cdef const float* wk
    cdef const float* xk
    cdef int o
    cdef Py_ssize_t g, k, block
    cdef Py_ssize_t p0 = place[0], p1 = place[1] if nv > 1 else 0, p2 = place[2] if nv > 2 else 0
    cdef Py_ssize_t plane = ld if pooled else rows * ld
    x1 = x2 = y0 = y1 = y2 = p_set1(0)
    for block in range(blocks):
        wk = w
        for o in range(channels):
            a0[o] = p_set1(0)
            a1[o] = p_set1(0)
            a2[o] = p_set1(0)
            b0[o] = p_set1(0)
            b1[o] = p_set1(0)
            b2[o] = p_set1(0)
        for g in range(segments):
            xk = x + offsets[g]
            for k in range(length):
                x0 = p_load(xk + p0)
                if nv > 1:
                    x1 = p_load(xk + p1)
                if nv > 2:
                    x2 = p_load(xk + p2)
                if rows > 1:
                    y0 = p_load(xk + x_row + p0)
                    if nv > 1:
                        y1 = p_load(xk + x_row + p1)
                    if nv > 2:
                        y2 = p_load(xk + x_row + p2)
                for o in range(channels):
                    wv = p_set1(wk[o])
                    a0[o] = p_fma(wv, x0, a0[o])
                    if nv > 1:
                        a1[o] = p_fma(wv, x1, a1[o])
                    if nv > 2:
                        a2[o] = p_fma(wv, x2, a2[o])
                    if rows > 1:
                        b0[o] = p_fma(wv, y0, b0[o])
                        if nv > 1:
                            b1[o] = p_fma(wv, y1, b1[o])
                        if nv > 2:
                            b2[o] = p_fma(wv, y2, b2[o])
                wk += FC_PO
                xk += 1
        for o in range(channels):
            if pooled:
                store_pooled(out + o * plane + p0 // 2, a0[o], b0[o])
                if nv > 1:
                    store_pooled(out + o * plane + p1 // 2, a1[o], b1[o])
                if nv > 2:
                    store_pooled(out + o * plane + p2 // 2, a2[o], b2[o])
            else:
                p_store(out + o * plane + p0, a0[o])
                if nv > 1:
                    p_store(out + o * plane + p1, a1[o])
                if nv > 2:
                    p_store(out + o * plane + p2, a2[o])
                if rows > 1:
                    p_store(out + o * plane + ld + p0, b0[o])
                    if nv > 1:
                        p_store(out + o * plane + ld + p1, b1[o])
                    if nv > 2:
                        p_store(out + o * plane + ld + p2, b2[o])
        w += w_step
        out += channels * plane


ctypedef void (*pixel_function)(int, int, int, int, Py_ssize_t, const float*, Py_ssize_t, const Py_ssize_t*, Py_ssize_t,
                                Py_ssize_t, const float*, Py_ssize_t, const Py_ssize_t*, float*,
                                Py_ssize_t) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_pixels "FC_SWITCH" (int most, int nv, pixel_function f, int channels, int rows, int pooled, ...)


cdef void pixel_blocks(int nv, int rows, bint pooled, Py_ssize_t blocks, const float* x, Py_ssize_t x_row,
                       const Py_ssize_t* offsets, const PixelsRecord* p, const float* w, const Py_ssize_t* place,
                       float* out, Py_ssize_t ld) noexcept nogil:
    """`pixel_tile` at a size known only now, for whole blocks of FC_PO channels."""
    cdef Py_ssize_t step = FC_PO * p.segments * p.length
    if pooled:
        switch_pixels(FC_PV, nv, pixel_tile, FC_PO, 2, 1, blocks, x, x_row, offsets, p.segments, p.length, w, step,
                      place, out, ld)
    elif rows == 2:
        switch_pixels(FC_PV, nv, pixel_tile, FC_PO, 2, 0, blocks, x, x_row, offsets, p.segments, p.length, w, step,
                      place, out, ld)
    else:
        switch_pixels(FC_PV, nv, pixel_tile, FC_PO, 1, 0, blocks, x, x_row, offsets, p.segments, p.length, w, step,
                      place, out, ld)


cdef void pixel_singles(int nv, int rows, bint pooled, Py_ssize_t count, const float* x, Py_ssize_t x_row,
                        const Py_ssize_t* offsets, const PixelsRecord* p, const float* w, const Py_ssize_t* place,
                        float* out, Py_ssize_t ld) noexcept nogil:
    """...and for the channels that are left over, one at a time."""
    if pooled:
        switch_pixels(FC_PV, nv, pixel_tile, 1, 2, 1, count, x, x_row, offsets, p.segments, p.length, w, 1, place,
                      out, ld)
    elif rows == 2:
        switch_pixels(FC_PV, nv, pixel_tile, 1, 2, 0, count, x, x_row, offsets, p.segments, p.length, w, 1, place,
                      out, ld)
    else:
        switch_pixels(FC_PV, nv, pixel_tile, 1, 1, 0, count, x, x_row, offsets, p.segments, p.length, w, 1, place,
                      out, ld)


cdef void pixel_rows(const Step* s, const PixelsRecord* p, char** base, const float* x, int rows, bint pooled,
                     float* out, Py_ssize_t ld) noexcept nogil:
    """One or two output rows of every channel. out: (channels, rows, ld), or the pooled (channels, ld)"""
    cdef Py_ssize_t vectors = (p.ow + FC_P - 1) // FC_P
    cdef Py_ssize_t K = p.segments * p.length
    cdef Py_ssize_t done = p.blocks * FC_PO, left = p.channels - done
    cdef const float* w = <const float*>start(base, &p.weight)
    cdef const Py_ssize_t* offsets = <const Py_ssize_t*>start(base, &p.offsets)
    cdef Py_ssize_t place[FC_PV]
    cdef Py_ssize_t j, v = 0
    cdef int nv
    while v < vectors:
        nv = <int>min(vectors - v, FC_PV)
        for j in range(nv):
            place[j] = min((v + j) * FC_P, p.ow - FC_P)
        pixel_blocks(nv, rows, pooled, p.blocks, x, p.sh * s.x.row, offsets, p, w, place, out, ld)
        if left > 0:
            pixel_singles(nv, rows, pooled, left, x, p.sh * s.x.row, offsets, p, w + done * K, place,
                          out + done * (1 if pooled else rows) * ld, ld)
        v += nv


cdef inline void max_pool_rows(const FusedPool* pool, Py_ssize_t width, const float* rows, Py_ssize_t ld,
                               float* out) noexcept nogil:
    """The maximum of each non-overlapping window of one channel. rows: (kh, ld); out: (width,)"""
    cdef Py_ssize_t j, t, u
    cdef float m, v
    for j in range(width):
        m = rows[j * pool.sw]
        for t in range(pool.kh):
            for u in range(pool.kw):
                v = rows[t * ld + j * pool.sw + u]
                if not v <= m and m == m:
                    m = v
        out[j] = m


cdef inline void to_nhwc(const View* view, const Epilogue* e, const float* rows, Py_ssize_t plane,
                         float* y) noexcept nogil:
    """y[j, o] = act(rows[o, j] + bias[o]): one row, transposed a square of FC_P at a time.

    Fewer than FC_P channels are stored as whole vectors too while the row lasts: what spills over is the next
    pixels', which come next.
    """
    cdef vp square[FC_P]
    cdef Py_ssize_t b, o0, j, jb, o, c = view.c, w = view.w
    cdef int pixels, lanes
    cdef vp bias
    for jb in range((w + FC_P - 1) // FC_P):
        j = jb * FC_P
        pixels = <int>min(w - j, FC_P)
        for b in range((c + FC_P - 1) // FC_P):
            o0 = b * FC_P
            lanes = <int>min(c - o0, FC_P)
            for o in range(FC_P):
                square[o] = p_load(rows + (o0 + (o if o < lanes else 0)) * plane + j)
            p_transpose(square)
            bias = p_load(e.bias + o0)
            for o in range(FC_P):
                square[o] = activate_inline(square[o] + bias, e)
            for o in range(pixels):
                if lanes == FC_P or (view.pixel == c < FC_P <= (w - j - o) * c):
                    p_store(y + (j + o) * view.pixel + o0, square[o])
                else:
                    p_store_n(y + (j + o) * view.pixel + o0, square[o], lanes)
    if e.kind > LAST_INLINE:
        for j in range(w):
            activate_stored(y + j * view.pixel, c, e)


cdef void conv_pixels(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """Convolution of few output channels, stride 1 along the row. x: NCHW; y: NHWC, or max-pooled.

    record: PixelsRecord, whose segments are (c, kh). A unit is `block` output rows; scratch: (channels, max(kh, 2), ld)
    and (channels, ld), kh the pool's, channels = what is computed, ld = ow padded to whole vectors.
    A fused maximum comes before bias and activation: both are monotonic, rounding included.
    """
    cdef const PixelsRecord* p = <const PixelsRecord*>s.record
    cdef Epilogue e = epilogue(<const float*>start(base, &p.bias), &p.activation)
    cdef Py_ssize_t ld = (p.ow + FC_P - 1) // FC_P * FC_P
    cdef Py_ssize_t r, i, t, o, rows_here = s.units.rows, last = last_row(s, n, end)
    cdef bint pooled = p.pool.kind != NO_POOL
    cdef Py_ssize_t kh = p.pool.kh if pooled else 1
    cdef Py_ssize_t down = p.pool.sh if pooled else 1
    cdef bint square = pooled and p.pool.kh == p.pool.kw == p.pool.sw == 2 and p.ow % 2 == 0
    cdef Py_ssize_t channels = max(p.channels, p.blocks * FC_PO)
    cdef float* unpooled = <float*>scratch
    cdef float* maxima = unpooled + channels * max(kh, 2) * ld
    cdef int rows
    cdef const float* x
    r = first_row(s, begin)
    while r < last:
        i = r // rows_here
        x = at(base, &s.x, i, (r - i * rows_here) * down * p.sh, 0)
        if square:
            pixel_rows(s, p, base, x, 2, True, maxima, ld)
            to_nhwc(&s.y, &e, maxima, ld, at(base, &s.y, i, r - i * rows_here, 0))
            r += 1
        elif pooled:
            for t in range(kh):
                pixel_rows(s, p, base, x + t * p.sh * s.x.row, 1, False, unpooled + t * channels * ld, ld)
            for o in range(p.channels):
                max_pool_rows(&p.pool, s.y.w, unpooled + o * ld, channels * ld, maxima + o * ld)
            to_nhwc(&s.y, &e, maxima, ld, at(base, &s.y, i, r - i * rows_here, 0))
            r += 1
        else:
            rows = 2 if r + 1 < last and r + 1 < (i + 1) * rows_here else 1
            pixel_rows(s, p, base, x, rows, False, unpooled, ld)
            for t in range(rows):
                to_nhwc(&s.y, &e, unpooled + t * ld, rows * ld, at(base, &s.y, i, r - i * rows_here + t, 0))
            r += rows
