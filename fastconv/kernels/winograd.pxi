"""3x3 convolution by Winograd's minimal filtering: a quarter of the multiplications with stride 1, 9/16 with stride 2.

The elementwise product of the transforms (kernels/transforms.pxi), summed over channels, is a matrix product
(tiles, c) x (c, o) for each point, on the register tile. Points that share their weights are one product. Weights are
transformed in float64 when the network is compiled; the result is within 5e-5 of the largest output.
"""

cdef enum:
    FEW_TILES = 8                   # whose products with a vector of channels are accumulated at once


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


cdef inline void finish_row(int stride, const Step* s, float** base, const Epilogue* e, Py_ssize_t tiles,
                            const float* m, Py_ssize_t tile, Py_ssize_t point, Py_ssize_t i, Py_ssize_t oy,
                            Py_ssize_t first, Py_ssize_t channel, int lanes) noexcept nogil:
    """A^T m A and what follows it, for one vector of channels of tiles `first` and on in a row.

    m: (points, tiles, vector)
    """
    cdef vf out[STEP * STEP]
    cdef Py_ssize_t t
    cdef int rows = <int>min(s.oh - oy, STEP), cols
    for t in range(first, first + tiles):
        transform_output(stride, m, point, out)
        m += tile
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


cdef void prepare_tiles(const Step* s, Py_ssize_t tiles, const float* x, int lanes, float* v, Py_ssize_t tile,
                        Py_ssize_t point) noexcept nogil:
    """`transform_input` at the stride and lanes known only now."""
    if s.sh == 1:
        if lanes == FC_W:
            transform_input(1, FC_W, tiles, x, s.x.row, s.x.pixel, v, tile, point)
        else:
            transform_input(1, lanes, tiles, x, s.x.row, s.x.pixel, v, tile, point)
    elif lanes == FC_W:
        transform_input(2, FC_W, tiles, x, s.x.row, s.x.pixel, v, tile, point)
    else:
        transform_input(2, lanes, tiles, x, s.x.row, s.x.pixel, v, tile, point)


cdef void finish_tiles(const Step* s, float** base, const Epilogue* e, Py_ssize_t tiles, const float* m,
                       Py_ssize_t tile, Py_ssize_t point, Py_ssize_t i, Py_ssize_t oy, Py_ssize_t first,
                       Py_ssize_t channel, int lanes) noexcept nogil:
    """`finish_row` at the stride known only now."""
    if s.sh == 1:
        finish_row(1, s, base, e, tiles, m, tile, point, i, oy, first, channel, lanes)
    else:
        finish_row(2, s, base, e, tiles, m, tile, point, i, oy, first, channel, lanes)


cdef void finish_few(const Step* s, float** base, const Epilogue* e, Py_ssize_t tiles, const float* m, Py_ssize_t i,
                     Py_ssize_t oy, Py_ssize_t first, Py_ssize_t channel, int lanes) noexcept nogil:
    """The same for what `few_channels` computes at once. m: (points, FEW_TILES, vector)"""
    if s.sh == 1:
        finish_row(1, s, base, e, tiles, m, FC_W, FEW_TILES * FC_W, i, oy, first, channel, lanes)
    else:
        finish_row(2, s, base, e, tiles, m, FC_W, FEW_TILES * FC_W, i, oy, first, channel, lanes)


cdef struct Points:
    # What the products of one convolution share.
    Py_ssize_t side
    Py_ssize_t vstep                # from one point to the next
    Py_ssize_t mstep


cdef void run_points(const Step* s, const Points* p, Py_ssize_t f0, Py_ssize_t f1, Py_ssize_t g0, Py_ssize_t g1,
                     Py_ssize_t rows, const float** a, float** y) noexcept nogil:
    """The products of points [f0, f1) x [g0, g1), a matrix of weights each. a, y: the rows, as if at point (0, 0)"""
    cdef Epilogue e
    cdef Py_ssize_t f, g, k, offset, K = s.x.c
    cdef const float* b
    cdef int nv
    e.bias = NULL
    e.activation = NO_ACTIVATION
    e.valid = FC_W
    for f in range(f0, f1):
        for g in range(g0, g1):
            offset = (f * p.side + g) * p.vstep
            b = <const float*>s.weight + (f * (SHARED + 1) + g) * s.length * K
            for k in range(s.panels):
                nv = FC_NV if s.length - k * NR > FC_W else 1
                e.shift = (f * p.side + g) * p.mstep + k * NR
                run_rows(rows, nv, a, &offset, 1, K, b + k * NR * K, &e, NULL, y)


cdef void multiply(const Step* s, const Points* p, const float* v, Py_ssize_t c, float* m, Py_ssize_t tiles,
                   Py_ssize_t f, Py_ssize_t g) noexcept nogil:
    """m = v . weights at the points from f, g on: 0, the points with weights of their own, or SHARED, those that share.

    v: (points, tiles, c padded); m: (points, tiles, o padded). Points that share are rows of one product.
    """
    cdef const float* a[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Py_ssize_t high = p.side - SHARED if f else 1, wide = p.side - SHARED if g else 1
    cdef Py_ssize_t f_end = f + 1 if f else SHARED, g_end = g + 1 if g else SHARED
    cdef Py_ssize_t portion = rows_at_once(high * wide * tiles, FC_NV)
    cdef Py_ssize_t i, j, t, rows = 0
    for i in range(high):
        for j in range(wide):
            for t in range(tiles):
                a[rows] = v + (i * p.side + j) * p.vstep + t * c
                y[rows] = m + (i * p.side + j) * p.mstep + t * s.length
                rows += 1
                if rows == portion:
                    run_points(s, p, f, f_end, g, g_end, rows, a, y)
                    rows = 0
    run_points(s, p, f, f_end, g, g_end, rows, a, y)


cdef inline void vector_products(int tiles, int channels, const Step* s, const Points* p, const float* v, Py_ssize_t c,
                                 const float* b, Py_ssize_t ld, float* m) noexcept nogil:
    """m = v . b at every point, for a few tiles and one vector of channels.

    v: (points, tiles, c padded); b: (36, c, vector), its rows ld apart; m: (points, FEW_TILES, vector)
    """
    cdef vf acc[FEW_TILES]
    cdef vf w
    cdef const float* matrix
    cdef const float* bk
    cdef const float* vk
    cdef Py_ssize_t f, g, k, K = channels if channels else s.x.c, step = s.length * K
    cdef int i
    for f in range(p.side):
        matrix = b + min(f, SHARED) * (SHARED + 1) * step
        for g in range(p.side):
            bk = matrix
            vk = v
            for i in range(tiles):
                acc[i] = v_set1(0)
            for k in range(K):
                w = v_load(bk)
                for i in range(tiles):
                    acc[i] = v_fma(v_set1(vk[i * c]), w, acc[i])
                bk += ld
                vk += 1
            for i in range(tiles):
                v_store(m + i * FC_W, acc[i])
            m += FEW_TILES * FC_W
            v += p.vstep
            if g < SHARED:
                matrix += step


cdef void run_vector_products(Py_ssize_t tiles, const Step* s, const Points* p, const float* v, Py_ssize_t c,
                              const float* b, Py_ssize_t ld, float* m) noexcept nogil:
    """`vector_products` at a size known only now; without a loop over channels for those of a colour image."""
    if s.x.c == 3:
        if tiles == 1:
            vector_products(1, 3, s, p, v, c, b, ld, m)
        elif tiles == 2:
            vector_products(2, 3, s, p, v, c, b, ld, m)
        elif tiles == 3:
            vector_products(3, 3, s, p, v, c, b, ld, m)
        elif tiles == 4:
            vector_products(4, 3, s, p, v, c, b, ld, m)
        elif tiles == 5:
            vector_products(5, 3, s, p, v, c, b, ld, m)
        elif tiles == 6:
            vector_products(6, 3, s, p, v, c, b, ld, m)
        elif tiles == 7:
            vector_products(7, 3, s, p, v, c, b, ld, m)
        elif tiles == 8:
            vector_products(8, 3, s, p, v, c, b, ld, m)
    elif tiles == 1:
        vector_products(1, 0, s, p, v, c, b, ld, m)
    elif tiles == 2:
        vector_products(2, 0, s, p, v, c, b, ld, m)
    elif tiles == 3:
        vector_products(3, 0, s, p, v, c, b, ld, m)
    elif tiles == 4:
        vector_products(4, 0, s, p, v, c, b, ld, m)
    elif tiles == 5:
        vector_products(5, 0, s, p, v, c, b, ld, m)
    elif tiles == 6:
        vector_products(6, 0, s, p, v, c, b, ld, m)
    elif tiles == 7:
        vector_products(7, 0, s, p, v, c, b, ld, m)
    elif tiles == 8:
        vector_products(8, 0, s, p, v, c, b, ld, m)


cdef void few_channels(const Step* s, float** base, const Points* p, const float* v, Py_ssize_t c, Py_ssize_t row0,
                       Py_ssize_t tiles, float* m) noexcept nogil:
    """Products and output of `tiles` tiles, for few input channels: a few tiles and one vector of outputs at a time.

    With so few products to a sum, storing and fetching all the sums would cost more than the sums: these stay in L1.
    """
    cdef Epilogue e = epilogue(s)
    cdef Py_ssize_t chunk = (tiles + FEW_TILES - 1) // FEW_TILES
    cdef Py_ssize_t k, t, end, now, r, i, count, ld
    cdef int lanes
    chunk = (tiles + chunk - 1) // chunk
    for k in range((s.out_channels + FC_W - 1) // FC_W):
        e.bias = <const float*>s.bias + k * FC_W
        lanes = <int>min(s.out_channels - k * FC_W, FC_W)
        ld = min(s.length - k // FC_NV * NR, NR)
        t = 0
        while t < tiles:
            count = min(chunk, tiles - t)
            run_vector_products(count, s, p, v + t * c, c,
                                <const float*>s.weight + k // FC_NV * NR * s.x.c + k % FC_NV * FC_W, ld, m)
            end = t + count
            while t < end:                          # what of them lies in one row
                r = row0 + t // s.segments
                i = r // s.rows
                now = min(end, (r + 1 - row0) * s.segments) - t
                finish_few(s, base, &e, now, m + (t + count - end) * FC_W, i, (r - i * s.rows) * STEP,
                           t - (r - row0) * s.segments, k * FC_W, lanes)
                t += now


cdef void conv_winograd(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                        float* scratch) noexcept nogil:
    """x: (n, h, w, c) with a border that whole tiles fit into; y: (n, oh, ow, o), or pooled 2x2.

    weight: (36, panels of (c, NR)); `rows` are rows of tiles, `segments` the tiles in one; a unit is `block` rows.
    scratch: (points, tiles, c padded to vectors) and (points, tiles, o padded to panels), `length` = o padded;
    instead of the latter, where channels are few, (points, FEW_TILES, vector).
    """
    cdef Epilogue e = epilogue(s)
    cdef Py_ssize_t wide = s.segments
    cdef Py_ssize_t c = (s.x.c + FC_W - 1) // FC_W * FC_W, o = s.length
    cdef Py_ssize_t u, r, row0, row1, tiles, i, t, k
    cdef Points p
    cdef float* v = scratch
    cdef float* m
    cdef const float* x
    p.side = side_of(<int>s.sh)
    for u in range(begin, end):
        row0 = u * s.block
        row1 = min(row0 + s.block, n * s.rows)
        tiles = (row1 - row0) * wide
        p.vstep = point_stride(tiles * c)
        p.mstep = point_stride(tiles * o)
        m = scratch + p.side * p.side * p.vstep
        for r in range(row0, row1):
            i = r // s.rows
            x = at(base, &s.x, i, (r - i * s.rows) * STEP * s.sh, 0)
            t = (r - row0) * wide * c
            for k in range((s.x.c + FC_W - 1) // FC_W):
                prepare_tiles(s, wide, x + k * FC_W, <int>min(s.x.c - k * FC_W, FC_W), v + t + k * FC_W, c, p.vstep)
        if s.x.c <= FC_W:
            few_channels(s, base, &p, v, c, row0, tiles, m)
            continue
        multiply(s, &p, v, c, m, tiles, 0, 0)
        multiply(s, &p, v, c, m, tiles, 0, SHARED)
        multiply(s, &p, v, c, m, tiles, SHARED, 0)
        multiply(s, &p, v, c, m, tiles, SHARED, SHARED)
        for r in range(row0, row1):
            i = r // s.rows
            t = (r - row0) * wide * o
            for k in range((s.out_channels + FC_W - 1) // FC_W):
                e.bias = <const float*>s.bias + k * FC_W
                finish_tiles(s, base, &e, wide, m + t + k * FC_W, o, p.mstep, i, (r - i * s.rows) * STEP, 0, k * FC_W,
                             <int>min(s.out_channels - k * FC_W, FC_W))
