"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications.

    Y = A^T [ (G g G^T) * (B^T d B) ] A        per 4x4 outputs, from 6x6 inputs d and 3x3 weights g

(Winograd 1980; as an algorithm for CNNs: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015,
whose matrices these are: points 0, 1, -1, 2, -2 and infinity.) The elementwise product, summed over channels, is 36
matrix products (tiles, c) x (c, o), which run on the register tile. Weights are transformed in float64 when the
network is compiled; the result is within 5e-5 of the largest output.
"""

cdef enum:
    SIDE = 6                        # of an input tile
    POINTS = SIDE * SIDE
    STEP = 4                        # of an output tile, and from one tile to the next
    LINE = 16                       # floats

cdef float[NR] NO_BIAS
memset(NO_BIAS, 0, sizeof(NO_BIAS))


cdef inline void transform_input(const float* x, Py_ssize_t row, Py_ssize_t pixel, int lanes, float* v,
                                 Py_ssize_t point) noexcept nogil:
    """B^T d B for one vector of channels. x: 6x6 pixels; v: 36 vectors, `point` floats apart"""
    cdef vf t[POINTS]
    cdef vf d0, d1, d2, d3, d4, d5, p, q
    cdef vf two = v_set1(2), minus_two = v_set1(-2), four = v_set1(4), minus_four = v_set1(-4), minus_five = v_set1(-5)
    cdef int i, turn
    for turn in range(1):                   # early unrolling passes outermost loops by
        for i in range(SIDE):
            if lanes == FC_W:
                d0 = v_load(x + i * pixel)
                d1 = v_load(x + row + i * pixel)
                d2 = v_load(x + 2 * row + i * pixel)
                d3 = v_load(x + 3 * row + i * pixel)
                d4 = v_load(x + 4 * row + i * pixel)
                d5 = v_load(x + 5 * row + i * pixel)
            else:
                d0 = v_load_n(x + i * pixel, lanes)
                d1 = v_load_n(x + row + i * pixel, lanes)
                d2 = v_load_n(x + 2 * row + i * pixel, lanes)
                d3 = v_load_n(x + 3 * row + i * pixel, lanes)
                d4 = v_load_n(x + 4 * row + i * pixel, lanes)
                d5 = v_load_n(x + 5 * row + i * pixel, lanes)
            t[i] = v_fma(four, d0, v_fma(minus_five, d2, d4))
            p = v_fma(minus_four, d2, d4)
            q = v_fma(minus_four, d1, d3)
            t[SIDE + i] = p + q
            t[2 * SIDE + i] = p - q
            p = d4 - d2
            q = d3 - d1
            t[3 * SIDE + i] = v_fma(two, q, p)
            t[4 * SIDE + i] = v_fma(minus_two, q, p)
            t[5 * SIDE + i] = v_fma(four, d1, v_fma(minus_five, d3, d5))
        for i in range(SIDE):
            d0 = t[i * SIDE]
            d1 = t[i * SIDE + 1]
            d2 = t[i * SIDE + 2]
            d3 = t[i * SIDE + 3]
            d4 = t[i * SIDE + 4]
            d5 = t[i * SIDE + 5]
            v_store(v, v_fma(four, d0, v_fma(minus_five, d2, d4)))
            p = v_fma(minus_four, d2, d4)
            q = v_fma(minus_four, d1, d3)
            v_store(v + point, p + q)
            v_store(v + 2 * point, p - q)
            p = d4 - d2
            q = d3 - d1
            v_store(v + 3 * point, v_fma(two, q, p))
            v_store(v + 4 * point, v_fma(minus_two, q, p))
            v_store(v + 5 * point, v_fma(four, d1, v_fma(minus_five, d3, d5)))
            v += SIDE * point


cdef inline void transform_output(const float* m, Py_ssize_t point, vf* out) noexcept nogil:
    """A^T m A for one vector of channels. m: 36 vectors, `point` floats apart; out: 4x4"""
    cdef vf t[STEP * SIDE]
    cdef vf m0, m1, m2, m3, m4, m5, p, q, r, s
    cdef vf two = v_set1(2), four = v_set1(4), eight = v_set1(8)
    cdef int i, turn
    for turn in range(1):
        for i in range(SIDE):
            m0 = v_load(m + i * point)
            m1 = v_load(m + (SIDE + i) * point)
            m2 = v_load(m + (2 * SIDE + i) * point)
            m3 = v_load(m + (3 * SIDE + i) * point)
            m4 = v_load(m + (4 * SIDE + i) * point)
            m5 = v_load(m + (5 * SIDE + i) * point)
            p = m1 + m2
            q = m1 - m2
            r = m3 + m4
            s = m3 - m4
            t[i] = m0 + p + r
            t[SIDE + i] = v_fma(two, s, q)
            t[2 * SIDE + i] = v_fma(four, r, p)
            t[3 * SIDE + i] = v_fma(eight, s, q) + m5
        for i in range(STEP):
            p = t[i * SIDE + 1] + t[i * SIDE + 2]
            q = t[i * SIDE + 1] - t[i * SIDE + 2]
            r = t[i * SIDE + 3] + t[i * SIDE + 4]
            s = t[i * SIDE + 3] - t[i * SIDE + 4]
            out[i * STEP] = t[i * SIDE] + p + r
            out[i * STEP + 1] = v_fma(two, s, q)
            out[i * STEP + 2] = v_fma(four, r, p)
            out[i * STEP + 3] = v_fma(eight, s, q) + t[i * SIDE + 5]


cdef inline Py_ssize_t point_stride(Py_ssize_t floats) noexcept nogil:
    """Distance from one of the 36 points to the next: an odd number of cache lines, or they would share few sets."""
    return (floats + LINE - 1) // LINE * LINE + (LINE if (floats + LINE - 1) // LINE % 2 == 0 else 0)


cdef inline void put(float* y, vf v, int lanes) noexcept nogil:
    if lanes == FC_W:
        v_store(y, v)
    else:
        v_store_n(y, v, lanes)


cdef inline void finish_tile(const Step* s, float** base, const Epilogue* e, const vf* out, Py_ssize_t i,
                             Py_ssize_t oy, Py_ssize_t ox, Py_ssize_t channel, int lanes) noexcept nogil:
    """Residual, bias, activation and 2x2 pooling of one 4x4 tile, as much of it as the image has."""
    cdef Py_ssize_t rows = min(s.oh - oy, STEP), cols = min(s.ow - ox, STEP), r, c
    cdef vf bias = v_load(e.bias)
    cdef vf quarter = v_set1(0.25)
    cdef vf tile[STEP * STEP]
    cdef vf v
    cdef float* y
    cdef const float* z
    for r in range(STEP * STEP):
        tile[r] = out[r] + bias
    if s.has_z:
        for r in range(rows):
            for c in range(cols):
                z = at(base, &s.z, i, oy + r, ox + c) + channel
                tile[r * STEP + c] = tile[r * STEP + c] + v_load_n(z, lanes)
    for r in range(STEP * STEP):
        tile[r] = activate(tile[r], e)
    if s.pool == NO_POOL:
        for r in range(rows):
            y = at(base, &s.y, i, oy + r, ox) + channel
            for c in range(cols):
                put(y + c * s.y.pixel, tile[r * STEP + c], lanes)
        return
    for r in range(rows // 2):
        y = at(base, &s.y, i, oy // 2 + r, ox // 2) + channel
        for c in range(cols // 2):
            if s.pool == MAX_POOL:
                v = v_nanmax(v_nanmax(tile[2 * r * STEP + 2 * c], tile[2 * r * STEP + 2 * c + 1]),
                             v_nanmax(tile[(2 * r + 1) * STEP + 2 * c], tile[(2 * r + 1) * STEP + 2 * c + 1]))
            else:
                v = (tile[2 * r * STEP + 2 * c] + tile[2 * r * STEP + 2 * c + 1]
                     + tile[(2 * r + 1) * STEP + 2 * c] + tile[(2 * r + 1) * STEP + 2 * c + 1]) * quarter
            put(y + c * s.y.pixel, v, lanes)


cdef void multiply(const Step* s, const float* v, Py_ssize_t c, const float* b, float* m, Py_ssize_t o,
                   Py_ssize_t tiles) noexcept nogil:
    """The products of one point for all channels: m = v . b. v: (tiles, c padded); b: panels; m: (tiles, o padded)"""
    cdef const float* a[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Epilogue e
    cdef Py_ssize_t p, i, full, K = s.x.c, offset = 0
    cdef int nv, mr
    e.bias = NO_BIAS
    e.activation = NO_ACTIVATION
    e.valid = FC_W
    for i in range(tiles):
        a[i] = v + i * c
    for p in range(s.panels):
        nv = FC_NV if o - p * NR > FC_W else 1
        mr = tile_height(tiles, nv)
        for i in range(tiles):
            y[i] = m + i * o + p * NR
        full = tiles // mr
        run_tile(mr, nv, full, a, &offset, 1, K, b, &e, NULL, y)
        if tiles > full * mr:
            full *= mr
            run_tile(<int>(tiles - full), nv, 1, a + full, &offset, 1, K, b, &e, NULL, y + full)
        b += nv * FC_W * K


cdef void conv_winograd(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                        float* scratch) noexcept nogil:
    """x: (n, h, w, c) with a border that whole tiles fit into; y: (n, oh, ow, o), or pooled 2x2.

    weight: (36, panels of (c, NR)); `rows` are rows of tiles, `segments` the tiles in one; a unit is `block` rows.
    scratch: (36, tiles, c padded to vectors) and (36, tiles, o padded to panels), `length` = o padded.
    """
    cdef Epilogue e = epilogue(s)
    cdef Py_ssize_t wide = s.segments
    cdef Py_ssize_t c = (s.x.c + FC_W - 1) // FC_W * FC_W, o = s.length
    cdef Py_ssize_t u, r, row0, row1, tiles, i, t, tx, k, f, vstep, mstep
    cdef float* v = scratch
    cdef float* m
    cdef const float* x
    cdef vf out[STEP * STEP]
    for u in range(begin, end):
        row0 = u * s.block
        row1 = min(row0 + s.block, n * s.rows)
        tiles = (row1 - row0) * wide
        vstep = point_stride(tiles * c)
        mstep = point_stride(tiles * o)
        m = scratch + POINTS * vstep
        t = 0
        for r in range(row0, row1):
            i = r // s.rows
            x = at(base, &s.x, i, (r - i * s.rows) * STEP, 0)
            for tx in range(wide):
                for k in range(c // FC_W):
                    transform_input(x + tx * STEP * s.x.pixel + k * FC_W, s.x.row, s.x.pixel,
                                    <int>min(s.x.c - k * FC_W, FC_W), v + t * c + k * FC_W, vstep)
                t += 1
        for f in range(POINTS):
            multiply(s, v + f * vstep, c, <const float*>s.weight + f * o * s.x.c, m + f * mstep, o, tiles)
        t = 0
        for r in range(row0, row1):
            i = r // s.rows
            for tx in range(wide):
                for k in range((s.out_channels + FC_W - 1) // FC_W):
                    e.bias = <const float*>s.bias + k * FC_W
                    transform_output(m + t * o + k * FC_W, mstep, out)
                    finish_tile(s, base, &e, out, i, (r - i * s.rows) * STEP, tx * STEP, k * FC_W,
                                <int>min(s.out_channels - k * FC_W, FC_W))
                t += 1
