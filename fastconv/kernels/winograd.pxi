"""3x3 convolution by Winograd's minimal filtering: a quarter of the multiplications (2x2 outputs: 4/9; stride 2: 9/16).

The elementwise product of the transforms (kernels/transforms.pxi), summed over channels, is a matrix product
(tiles, c) x (c, o) for each point, on the register tile. Points that share their weights are one product. Weights are
transformed when the network is compiled, for 4x4 outputs in float64, or by a step where they come with the call
(kernels/pack.pxi). The result is within 5e-5 of the largest output, with 2x2 outputs within 1e-5.
"""

cdef enum:
    FEW_TILES = 8                   # whose products with a vector of channels are accumulated at once


cdef inline void put(float* y, vf v, int lanes) noexcept nogil:
    if lanes == FC_W:
        v_store(y, v)
    else:
        v_store_n(y, v, lanes)


cdef inline void store_tile(const Step* s, char** base, const Epilogue* e, const vf* tile, Py_ssize_t i,
                            Py_ssize_t oy, Py_ssize_t ox, Py_ssize_t channel, int lanes, int rows,
                            int cols) noexcept nogil:
    """Bias, residual and activation of rows x cols of a tile."""
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
            v = tile[r * MAX_STEP + c] + bias
            if s.has_z:
                v = v + pixel_at(z + c * s.z.pixel, lanes)
            put(y + c * s.y.pixel, activate_inline(v, e), lanes)


cdef inline void store_pooled_tile(const Step* s, const FusedPool* pool, char** base, const Epilogue* e, const vf* tile,
                                   Py_ssize_t i, Py_ssize_t oy, Py_ssize_t ox, Py_ssize_t channel, int lanes, int rows,
                                   int cols) noexcept nogil:
    """The 2x2 pool of rows x cols of a tile."""
    cdef int r, c
    cdef vf bias = v_load(e.bias)
    cdef vf v, v00, v01, v10, v11
    cdef float* y
    for r in range(rows // 2):
        y = at(base, &s.y, i, oy // 2 + r, ox // 2) + channel
        for c in range(cols // 2):
            v00 = tile[2 * r * MAX_STEP + 2 * c]
            v01 = tile[2 * r * MAX_STEP + 2 * c + 1]
            v10 = tile[(2 * r + 1) * MAX_STEP + 2 * c]
            v11 = tile[(2 * r + 1) * MAX_STEP + 2 * c + 1]
            if pool.first:
                v = activate_inline(v_nanmax(v_nanmax(v00, v01), v_nanmax(v10, v11)) + bias, e)
            else:
                v00 = activate_inline(v00 + bias, e)
                v01 = activate_inline(v01 + bias, e)
                v10 = activate_inline(v10 + bias, e)
                v11 = activate_inline(v11 + bias, e)
                if pool.kind == MAX_POOL:
                    v = v_nanmax(v_nanmax(v00, v01), v_nanmax(v10, v11))
                else:
                    v = (v00 + v01 + v10 + v11) * v_set1(0.25)
            put(y + c * s.y.pixel, v, lanes)


cdef inline void finish_row(int scheme, const Step* s, char** base, const Epilogue* e, Py_ssize_t tiles,
                            const float* m, Py_ssize_t tile, Py_ssize_t point, Py_ssize_t i, Py_ssize_t oy,
                            Py_ssize_t first, Py_ssize_t channel, int lanes) noexcept nogil:
    """A^T m A and what follows it, for one vector of channels of tiles `first` and on in a row.

    m: (points, tiles, vector)
    """
    cdef const WinogradRecord* p = <const WinogradRecord*>s.record
    cdef vf out[MAX_STEP * MAX_STEP]
    cdef Py_ssize_t t, ow = p.ow
    cdef int step = WINOGRAD_SIZES[scheme].step
    cdef int rows = <int>min(p.oh - oy, step), cols
    cdef bint pooled = p.pool.kind != NO_POOL
    for t in range(first, first + tiles):
        if scheme == F2:
            transform_output_2(m, point, out)
        else:
            transform_output(scheme, m, point, out)
        m += tile
        cols = <int>min(ow - t * step, step)
        if rows == step and cols == step and lanes == FC_W:
            if pooled:
                store_pooled_tile(s, &p.pool, base, e, out, i, oy, t * step, channel, FC_W, step, step)
            else:
                store_tile(s, base, e, out, i, oy, t * step, channel, FC_W, step, step)
        elif pooled:
            store_pooled_tile(s, &p.pool, base, e, out, i, oy, t * step, channel, lanes, rows, cols)
        else:
            store_tile(s, base, e, out, i, oy, t * step, channel, lanes, rows, cols)


cdef void prepare_tiles(int scheme, Py_ssize_t tiles, const float* x, Py_ssize_t row, Py_ssize_t pixel, int lanes,
                        float* v, Py_ssize_t tile, Py_ssize_t point) noexcept nogil:
    """`transform_input` at the scheme and lanes known only now."""
    if scheme == F4:
        if lanes == FC_W:
            transform_input(F4, FC_W, tiles, x, row, pixel, v, tile, point)
        else:
            transform_input(F4, lanes, tiles, x, row, pixel, v, tile, point)
    elif scheme == F4_BY_TWO:
        if lanes == FC_W:
            transform_input(F4_BY_TWO, FC_W, tiles, x, row, pixel, v, tile, point)
        else:
            transform_input(F4_BY_TWO, lanes, tiles, x, row, pixel, v, tile, point)
    elif scheme == F2:
        if lanes == FC_W:
            transform_input(F2, FC_W, tiles, x, row, pixel, v, tile, point)
        else:
            transform_input(F2, lanes, tiles, x, row, pixel, v, tile, point)


cdef void activate_tiles(int scheme, const Step* s, char** base, const Epilogue* e, Py_ssize_t tiles, Py_ssize_t i,
                         Py_ssize_t oy, Py_ssize_t first, Py_ssize_t channel, int lanes) noexcept nogil:
    """`activate_stored` for what `finish_row` has just written."""
    cdef const WinogradRecord* p = <const WinogradRecord*>s.record
    cdef Py_ssize_t step = WINOGRAD_SIZES[scheme].step, side = 2 if p.pool.kind != NO_POOL else 1
    cdef Py_ssize_t r, x
    for r in range(oy // side, min(p.oh, oy + step) // side):
        for x in range(first * step // side, min(p.ow, (first + tiles) * step) // side):
            activate_stored(at(base, &s.y, i, r, x) + channel, lanes, e)


cdef inline void finish_by_scheme(int scheme, const Step* s, char** base, const Epilogue* e, Py_ssize_t tiles,
                                  const float* m, Py_ssize_t tile, Py_ssize_t point, Py_ssize_t i, Py_ssize_t oy,
                                  Py_ssize_t first, Py_ssize_t channel, int lanes) noexcept nogil:
    """`finish_row` at the scheme known only now."""
    if scheme == F4:
        finish_row(F4, s, base, e, tiles, m, tile, point, i, oy, first, channel, lanes)
    elif scheme == F4_BY_TWO:
        finish_row(F4_BY_TWO, s, base, e, tiles, m, tile, point, i, oy, first, channel, lanes)
    elif scheme == F2:
        finish_row(F2, s, base, e, tiles, m, tile, point, i, oy, first, channel, lanes)


cdef void finish_tiles(int scheme, const Step* s, char** base, const Epilogue* e, Py_ssize_t tiles, const float* m,
                       Py_ssize_t tile, Py_ssize_t point, Py_ssize_t i, Py_ssize_t oy, Py_ssize_t first,
                       Py_ssize_t channel, int lanes) noexcept nogil:
    """`finish_row`, at distances that are constants for `few_channels`, and the activations that no register holds."""
    if tile == FC_W and point == FEW_TILES * FC_W:
        finish_by_scheme(scheme, s, base, e, tiles, m, FC_W, FEW_TILES * FC_W, i, oy, first, channel, lanes)
    else:
        finish_by_scheme(scheme, s, base, e, tiles, m, tile, point, i, oy, first, channel, lanes)
    if e.kind > LAST_INLINE:
        activate_tiles(scheme, s, base, e, tiles, i, oy, first, channel, lanes)


# What the products of one convolution share.
cdef struct Points:
    Py_ssize_t side
    Py_ssize_t own                  # points of an axis with weights of their own
    Py_ssize_t c                    # channels of x, and of y up to whole panels
    Py_ssize_t o
    Py_ssize_t first                # panels of the outputs that are computed
    Py_ssize_t last
    const float* weight
    Py_ssize_t vstep                # from one point to the next
    Py_ssize_t mstep


cdef void run_points(const Points* p, Py_ssize_t f0, Py_ssize_t f1, Py_ssize_t g0, Py_ssize_t g1, Py_ssize_t rows,
                     const float** a, float** y) noexcept nogil:
    """The products of points [f0, f1) x [g0, g1), a matrix of weights each. a, y: the rows, as if at point (0, 0)"""
    cdef Epilogue e
    cdef Py_ssize_t f, g, k, offset, side = p.side, matrix = p.o * p.c
    cdef const float* b
    cdef Ahead far
    cdef int nv
    e.bias = NULL
    e.kind = ACT_NONE
    e.valid = FC_W
    for f in range(f0, f1):
        for g in range(g0, g1):
            offset = (f * side + g) * p.vstep
            b = p.weight + (f * (p.own + 1) + g) * matrix
            for k in range(p.first, p.last):
                nv = FC_NV if p.o - k * FC_NR > FC_W else 1
                e.shift = (f * side + g) * p.mstep + k * FC_NR
                far = ahead_of(b + k * FC_NR * p.c, p.c, rows, matrix * (p.own + 1) * (p.own + 1))
                run_inline(rows, nv, a, &offset, 1, p.c, b + k * FC_NR * p.c, &e, NULL, y, &far)


cdef void multiply(const Points* p, const float* v, Py_ssize_t c, float* m, Py_ssize_t tiles,
                   Py_ssize_t f, Py_ssize_t g) noexcept nogil:
    """m = v . weights at the points from f, g on: 0, the points with weights of their own, or p.own, those that share.

    v: (points, tiles, c padded); m: (points, tiles, o padded). Points that share are rows of one product.
    """
    cdef const float* a[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Py_ssize_t high = p.side - p.own if f else 1, wide = p.side - p.own if g else 1
    cdef Py_ssize_t f_end = f + 1 if f else p.own, g_end = g + 1 if g else p.own
    cdef Py_ssize_t portion = rows_at_once(high * wide * tiles, FC_NV)
    cdef Py_ssize_t i, j, t, rows = 0
    if p.o * p.c * (p.own + 1) * (p.own + 1) > FAR:            # so that weights come from afar once
        portion = TILES * MAX_M
    for i in range(high):
        for j in range(wide):
            for t in range(tiles):
                a[rows] = v + (i * p.side + j) * p.vstep + t * c
                y[rows] = m + (i * p.side + j) * p.mstep + t * p.o
                rows += 1
                if rows == portion:
                    run_points(p, f, f_end, g, g_end, rows, a, y)
                    rows = 0
    run_points(p, f, f_end, g, g_end, rows, a, y)


cdef inline void vector_products(int tiles, int channels, const Points* p, const float* v, Py_ssize_t c,
                                 const float* b, Py_ssize_t ld, float* m) noexcept nogil:
    """m = v . b at every point, for a few tiles and one vector of channels.

    v: (points, tiles, c padded); b: (matrices, c, vector), its rows ld apart; m: (points, FEW_TILES, vector)
    """
    cdef vf acc[FEW_TILES]
    cdef vf w
    cdef const float* matrix
    cdef const float* bk
    cdef const float* vk
    cdef Py_ssize_t f, g, k, K = channels if channels else p.c, step = p.o * K
    cdef Py_ssize_t side = p.side, own = p.own, vstep = p.vstep
    cdef int i
    for f in range(side):
        matrix = b + min(f, own) * (own + 1) * step
        for g in range(side):
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
            v += vstep
            if g < own:
                matrix += step


ctypedef void (*products_function)(int, int, const Points*, const float*, Py_ssize_t, const float*, Py_ssize_t,
                                   float*) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_products "FC_SWITCH" (int most, int tiles, products_function f, int channels, ...)


cdef void run_vector_products(int tiles, const Points* p, const float* v, Py_ssize_t c, const float* b, Py_ssize_t ld,
                              float* m) noexcept nogil:
    """`vector_products` at a size known only now; without a loop over channels for the three of a colour image."""
    if p.c == 3:
        switch_products(FEW_TILES, tiles, vector_products, 3, p, v, c, b, ld, m)
    else:
        switch_products(FEW_TILES, tiles, vector_products, 0, p, v, c, b, ld, m)


cdef void few_channels(int scheme, const Step* s, char** base, const Points* p, const float* v, Py_ssize_t c,
                       Py_ssize_t row0, Py_ssize_t tiles, float* m) noexcept nogil:
    """Products and output of `tiles` tiles, for few input channels: a few tiles and one vector of outputs at a time.

    With so few products to a sum, storing and fetching all the sums would cost more than the sums: these stay in L1.
    """
    cdef const WinogradRecord* q = <const WinogradRecord*>s.record
    cdef Epilogue e = epilogue(NULL, &q.activation)
    cdef const float* bias = <const float*>start(base, &q.bias)
    cdef const float* b
    cdef Py_ssize_t chunk = (tiles + FEW_TILES - 1) // FEW_TILES
    cdef Py_ssize_t k, t, end, now, r, i, count, ld
    cdef int lanes
    chunk = (tiles + chunk - 1) // chunk
    for k in range(p.first * FC_NV, min(p.last * FC_NV, (q.channels + FC_W - 1) // FC_W)):
        e.bias = bias + k * FC_W
        lanes = <int>min(q.channels - k * FC_W, FC_W)
        ld = min(p.o - k // FC_NV * FC_NR, FC_NR)
        b = p.weight + k // FC_NV * FC_NR * p.c + k % FC_NV * FC_W
        t = 0
        while t < tiles:
            count = min(chunk, tiles - t)
            run_vector_products(<int>count, p, v + t * c, c, b, ld, m)
            end = t + count
            while t < end:                          # what of them stands in one row
                r = row0 + t // q.wide
                i = r // s.units.rows
                now = min(end, (r + 1 - row0) * q.wide) - t
                finish_tiles(scheme, s, base, &e, now, m + (t + count - end) * FC_W, FC_W, FEW_TILES * FC_W, i,
                             (r - i * s.units.rows) * WINOGRAD_SIZES[scheme].step, t - (r - row0) * q.wide, k * FC_W,
                             lanes)
                t += now


cdef void winograd_block(int scheme, const Step* s, char** base, Points* p, float* scratch, Py_ssize_t row0,
                         Py_ssize_t row1, bint prepared) noexcept nogil:
    """Rows [row0, row1) of tiles, counted over all images. prepared: their transforms stand in scratch already."""
    cdef const WinogradRecord* q = <const WinogradRecord*>s.record
    cdef Epilogue e = epilogue(NULL, &q.activation)
    cdef const float* bias = <const float*>start(base, &q.bias)
    cdef Py_ssize_t wide = q.wide, rows = s.units.rows, vectors = (p.c + FC_W - 1) // FC_W, c = vectors * FC_W
    cdef Py_ssize_t tiles = (row1 - row0) * wide
    cdef Py_ssize_t r, i, t, k
    cdef float* v = scratch
    cdef float* m
    cdef const float* x
    p.vstep = odd_lines(tiles * c)
    p.mstep = odd_lines(tiles * p.o)
    m = scratch + p.side * p.side * p.vstep
    for r in range(row0, row0 if prepared else row1):
        i = r // rows
        x = at(base, &s.x, i, (r - i * rows) * WINOGRAD_SIZES[scheme].step * WINOGRAD_SIZES[scheme].stride, 0)
        t = (r - row0) * wide * c
        for k in range(vectors):
            prepare_tiles(scheme, wide, x + k * FC_W, s.x.row, s.x.pixel, <int>min(p.c - k * FC_W, FC_W),
                          v + t + k * FC_W, c, p.vstep)
    if p.c <= FC_W:
        few_channels(scheme, s, base, p, v, c, row0, tiles, m)
        return
    multiply(p, v, c, m, tiles, 0, 0)
    multiply(p, v, c, m, tiles, 0, p.own)
    multiply(p, v, c, m, tiles, p.own, 0)
    multiply(p, v, c, m, tiles, p.own, p.own)
    for r in range(row0, row1):
        i = r // rows
        t = (r - row0) * wide * p.o
        for k in range(p.first * FC_NV, min(p.last * FC_NV, (q.channels + FC_W - 1) // FC_W)):
            e.bias = bias + k * FC_W
            finish_tiles(scheme, s, base, &e, wide, m + t + k * FC_W, p.o, p.mstep, i,
                         (r - i * rows) * WINOGRAD_SIZES[scheme].step, 0, k * FC_W,
                         <int>min(q.channels - k * FC_W, FC_W))


cdef void conv_winograd(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                        char* scratch) noexcept nogil:
    """x: (n, h, w, c) with a border that whole tiles fit into; y: (n, oh, ow, o), or pooled 2x2.

    record: WinogradRecord; rows of the units are rows of tiles, a unit is `block` of them and one of `parts` parts of
    the panels of outputs.
    scratch: (points, tiles, c padded to vectors) and (points, tiles, o padded to panels);
    instead of the latter, where channels are few, (points, FEW_TILES, vector).
    """
    cdef const WinogradRecord* q = <const WinogradRecord*>s.record
    cdef Points p
    cdef Py_ssize_t u, blk, row0, row1, parts = s.units.parts
    p.side, p.own = WINOGRAD_SIZES[q.scheme].side, WINOGRAD_SIZES[q.scheme].own
    p.c, p.o = s.x.c, q.padded
    p.weight = <const float*>start(base, &q.weight)
    for u in range(begin, end):
        blk = u // parts
        p.first = q.panels * (u - blk * parts) // parts
        p.last = q.panels * (u - blk * parts + 1) // parts
        row0 = blk * s.units.block
        row1 = min(row0 + s.units.block, n * s.units.rows)
        winograd_block(<int>q.scheme, s, base, &p, <float*>scratch, row0, row1, u > begin and u > blk * parts)
