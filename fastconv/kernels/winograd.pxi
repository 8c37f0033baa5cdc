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


cdef inline vf pixel_at(const float* x, int lanes) noexcept nogil:
    return v_load(x) if lanes == FC_W else v_load_n(x, lanes)


cdef inline void store_points(const vf* t, float* v, Py_ssize_t point) noexcept nogil:
    """One row of B^T d B from one row t of B^T d. v: 6 vectors, `point` floats apart"""
    cdef vf p = v_fma(v_set1(-4), t[2], t[4]), q = v_fma(v_set1(-4), t[1], t[3])
    v_store(v, v_fma(v_set1(4), t[0], v_fma(v_set1(-5), t[2], t[4])))
    v_store(v + point, p + q)
    v_store(v + 2 * point, p - q)
    p = t[4] - t[2]
    q = t[3] - t[1]
    v_store(v + 3 * point, v_fma(v_set1(2), q, p))
    v_store(v + 4 * point, v_fma(v_set1(-2), q, p))
    v_store(v + 5 * point, v_fma(v_set1(4), t[1], v_fma(v_set1(-5), t[3], t[5])))


cdef inline void transform_input(int lanes, Py_ssize_t tiles, const float* x, Py_ssize_t row, Py_ssize_t pixel,
                                 float* v, Py_ssize_t tile, Py_ssize_t point) noexcept nogil:
    """B^T d B of one vector of channels of a row of tiles. x: 6 rows of pixels; v: (36, tiles, vector).

    Rows of B^T d are made in the pairs that share sums, and each is finished at once: pixels are loaded again
    for the next pair, which is cheaper than to keep 36 vectors on the stack.
    """
    cdef vf t[SIDE]
    cdef vf u[SIDE]
    cdef vf p, q
    cdef const float* d
    cdef Py_ssize_t k
    cdef int j
    for k in range(tiles):
        d = x
        for j in range(SIDE):
            t[j] = v_fma(v_set1(4), pixel_at(d, lanes),
                         v_fma(v_set1(-5), pixel_at(d + 2 * row, lanes), pixel_at(d + 4 * row, lanes)))
            d += pixel
        store_points(t, v, point)
        d = x
        for j in range(SIDE):
            p = v_fma(v_set1(-4), pixel_at(d + 2 * row, lanes), pixel_at(d + 4 * row, lanes))
            q = v_fma(v_set1(-4), pixel_at(d + row, lanes), pixel_at(d + 3 * row, lanes))
            t[j] = p + q
            u[j] = p - q
            d += pixel
        store_points(t, v + SIDE * point, point)
        store_points(u, v + 2 * SIDE * point, point)
        d = x
        for j in range(SIDE):
            p = pixel_at(d + 4 * row, lanes) - pixel_at(d + 2 * row, lanes)
            q = pixel_at(d + 3 * row, lanes) - pixel_at(d + row, lanes)
            t[j] = v_fma(v_set1(2), q, p)
            u[j] = v_fma(v_set1(-2), q, p)
            d += pixel
        store_points(t, v + 3 * SIDE * point, point)
        store_points(u, v + 4 * SIDE * point, point)
        d = x
        for j in range(SIDE):
            t[j] = v_fma(v_set1(4), pixel_at(d + row, lanes),
                         v_fma(v_set1(-5), pixel_at(d + 3 * row, lanes), pixel_at(d + 5 * row, lanes)))
            d += pixel
        store_points(t, v + 5 * SIDE * point, point)
        x += STEP * pixel
        v += tile


cdef void transform_input_whole(Py_ssize_t tiles, const float* x, Py_ssize_t row, Py_ssize_t pixel, float* v,
                                Py_ssize_t tile, Py_ssize_t point) noexcept nogil:
    transform_input(FC_W, tiles, x, row, pixel, v, tile, point)


cdef void transform_input_tail(int lanes, Py_ssize_t tiles, const float* x, Py_ssize_t row, Py_ssize_t pixel, float* v,
                               Py_ssize_t tile, Py_ssize_t point) noexcept nogil:
    transform_input(lanes, tiles, x, row, pixel, v, tile, point)


cdef inline void outputs(const vf* t, vf* out) noexcept nogil:
    """One row of A^T m A from one row t of A^T m. out: 4 vectors"""
    cdef vf p = t[1] + t[2], q = t[1] - t[2], r = t[3] + t[4], s = t[3] - t[4]
    out[0] = t[0] + p + r
    out[1] = v_fma(v_set1(2), s, q)
    out[2] = v_fma(v_set1(4), r, p)
    out[3] = v_fma(v_set1(8), s, q) + t[5]


cdef inline void transform_output(const float* m, Py_ssize_t point, vf* out) noexcept nogil:
    """A^T m A for one vector of channels. m: 36 vectors, `point` floats apart; out: 4x4"""
    cdef vf t[SIDE]
    cdef vf u[SIDE]
    cdef vf p, r
    cdef const float* d = m
    cdef int j
    for j in range(SIDE):
        p = v_load(d + SIDE * point) + v_load(d + 2 * SIDE * point)
        r = v_load(d + 3 * SIDE * point) + v_load(d + 4 * SIDE * point)
        t[j] = v_load(d) + p + r
        u[j] = v_fma(v_set1(4), r, p)
        d += point
    outputs(t, out)
    outputs(u, out + 2 * STEP)
    d = m
    for j in range(SIDE):
        p = v_load(d + SIDE * point) - v_load(d + 2 * SIDE * point)
        r = v_load(d + 3 * SIDE * point) - v_load(d + 4 * SIDE * point)
        t[j] = v_fma(v_set1(2), r, p)
        u[j] = v_fma(v_set1(8), r, p) + v_load(d + 5 * SIDE * point)
        d += point
    outputs(t, out + STEP)
    outputs(u, out + 3 * STEP)


cdef inline Py_ssize_t point_stride(Py_ssize_t floats) noexcept nogil:
    """Distance from one of the 36 points to the next: an odd number of cache lines, or they would share few sets."""
    return (floats + LINE - 1) // LINE * LINE + (LINE if (floats + LINE - 1) // LINE % 2 == 0 else 0)


cdef inline void put(float* y, vf v, int lanes) noexcept nogil:
    if lanes == FC_W:
        v_store(y, v)
    else:
        v_store_n(y, v, lanes)


cdef inline void store_tile(const Step* s, float** base, const Epilogue* e, const vf* tile, Py_ssize_t i,
                            Py_ssize_t oy, Py_ssize_t ox, Py_ssize_t channel, int lanes, int rows,
                            int cols) noexcept nogil:
    """Bias, residual and activation of rows x cols of a 4x4 tile."""
    cdef int r, c
    cdef vf bias = v_load(e.bias)
    cdef vf v
    cdef float* y
    cdef const float* z = NULL
    for r in range(rows):
        y = at(base, &s.y, i, oy + r, ox) + channel
        if s.has_z:
            z = at(base, &s.z, i, oy + r, ox) + channel
        for c in range(cols):
            v = tile[r * STEP + c] + bias
            if s.has_z:
                v = v + pixel_at(z + c * s.z.pixel, lanes)
            put(y + c * s.y.pixel, activate(v, e), lanes)


cdef inline void store_pooled_tile(const Step* s, float** base, const Epilogue* e, const vf* tile, Py_ssize_t i,
                                   Py_ssize_t oy, Py_ssize_t ox, Py_ssize_t channel, int lanes, int rows,
                                   int cols) noexcept nogil:
    """The 2x2 pool of rows x cols of a 4x4 tile."""
    cdef int r, c
    cdef vf bias = v_load(e.bias)
    cdef vf v, v00, v01, v10, v11
    cdef float* y
    for r in range(rows // 2):
        y = at(base, &s.y, i, oy // 2 + r, ox // 2) + channel
        for c in range(cols // 2):
            v00 = tile[2 * r * STEP + 2 * c]
            v01 = tile[2 * r * STEP + 2 * c + 1]
            v10 = tile[(2 * r + 1) * STEP + 2 * c]
            v11 = tile[(2 * r + 1) * STEP + 2 * c + 1]
            if s.pool_first:
                v = activate(v_nanmax(v_nanmax(v00, v01), v_nanmax(v10, v11)) + bias, e)
            else:
                v00 = activate(v00 + bias, e)
                v01 = activate(v01 + bias, e)
                v10 = activate(v10 + bias, e)
                v11 = activate(v11 + bias, e)
                if s.pool == MAX_POOL:
                    v = v_nanmax(v_nanmax(v00, v01), v_nanmax(v10, v11))
                else:
                    v = (v00 + v01 + v10 + v11) * v_set1(0.25)
            put(y + c * s.y.pixel, v, lanes)


cdef void finish_tiles(const Step* s, float** base, const Epilogue* e, Py_ssize_t tiles, const float* m,
                       Py_ssize_t tile, Py_ssize_t point, Py_ssize_t i, Py_ssize_t oy, Py_ssize_t channel,
                       int lanes) noexcept nogil:
    """A^T m A and what follows it, for one vector of channels of a row of tiles. m: (36, tiles, vector)"""
    cdef vf out[STEP * STEP]
    cdef Py_ssize_t t
    cdef int rows = <int>min(s.oh - oy, STEP), cols
    for t in range(tiles):
        transform_output(m + t * tile, point, out)
        cols = <int>min(s.ow - t * STEP, STEP)
        if rows == STEP and cols == STEP and lanes == FC_W:
            if s.pool == NO_POOL:
                store_tile(s, base, e, out, i, oy, t * STEP, channel, FC_W, STEP, STEP)
            else:
                store_pooled_tile(s, base, e, out, i, oy, t * STEP, channel, FC_W, STEP, STEP)
        elif s.pool == NO_POOL:
            store_tile(s, base, e, out, i, oy, t * STEP, channel, lanes, rows, cols)
        else:
            store_pooled_tile(s, base, e, out, i, oy, t * STEP, channel, lanes, rows, cols)


cdef void multiply(const Step* s, const float* v, Py_ssize_t c, const float* b, float* m, Py_ssize_t o,
                   Py_ssize_t tiles) noexcept nogil:
    """The products of one point for all channels: m = v . b. v: (tiles, c padded); b: panels; m: (tiles, o padded)"""
    cdef const float* a[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Epilogue e
    cdef Py_ssize_t p, i, K = s.x.c, offset = 0
    cdef int nv
    e.bias = NO_BIAS
    e.activation = NO_ACTIVATION
    e.valid = FC_W
    for i in range(tiles):
        a[i] = v + i * c
    for p in range(s.panels):
        nv = FC_NV if o - p * NR > FC_W else 1
        for i in range(tiles):
            y[i] = m + i * o + p * NR
        run_rows(tiles, nv, a, &offset, 1, K, b, &e, NULL, y)
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
    cdef Py_ssize_t u, r, row0, row1, tiles, i, t, k, f, vstep, mstep
    cdef float* v = scratch
    cdef float* m
    cdef const float* x
    for u in range(begin, end):
        row0 = u * s.block
        row1 = min(row0 + s.block, n * s.rows)
        tiles = (row1 - row0) * wide
        vstep = point_stride(tiles * c)
        mstep = point_stride(tiles * o)
        m = scratch + POINTS * vstep
        for r in range(row0, row1):
            i = r // s.rows
            x = at(base, &s.x, i, (r - i * s.rows) * STEP, 0)
            t = (r - row0) * wide * c
            for k in range(s.x.c // FC_W):
                transform_input_whole(wide, x + k * FC_W, s.x.row, s.x.pixel, v + t + k * FC_W, c, vstep)
            if s.x.c % FC_W:
                k = s.x.c // FC_W * FC_W
                transform_input_tail(<int>(s.x.c - k), wide, x + k, s.x.row, s.x.pixel, v + t + k, c, vstep)
        for f in range(POINTS):
            multiply(s, v + f * vstep, c, <const float*>s.weight + f * o * s.x.c, m + f * mstep, o, tiles)
        for r in range(row0, row1):
            i = r // s.rows
            t = (r - row0) * wide * o
            for k in range((s.out_channels + FC_W - 1) // FC_W):
                e.bias = <const float*>s.bias + k * FC_W
                finish_tiles(s, base, &e, wide, m + t + k * FC_W, o, mstep, i, (r - i * s.rows) * STEP, k * FC_W,
                             <int>min(s.out_channels - k * FC_W, FC_W))
