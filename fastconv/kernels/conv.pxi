"""Convolutions and linear layers on the register tile, NHWC: in place, through an im2col block, and depthwise."""


cdef void pool_panel(const Step* s, char** base, const Epilogue* e, const float* rows, int nv, Py_ssize_t row0,
                     Py_ssize_t row1, Py_ssize_t channel) noexcept nogil:
    """Pool what `conv_panel` left in its scratch: (pooled rows * kh, ow, nv * W) -> y, non-overlapping windows."""
    cdef const TileRecord* p = <const TileRecord*>s.record
    cdef Py_ssize_t kh = p.pool.kh, kw = p.pool.kw, sw = p.pool.sw, ow = p.ow
    cdef Py_ssize_t r, i, ox, ty, tx
    cdef Py_ssize_t ld = nv * FC_W
    cdef int j
    cdef vf v
    cdef vf count = v_set1(<float>(kh * kw))
    cdef const float* x
    cdef float* y
    for r in range(row0, row1):
        i = r // s.units.rows
        y = at(base, &s.y, i, r - i * s.units.rows, 0) + channel
        for ox in range(s.y.w):
            for j in range(nv):
                x = rows + ox * sw * ld + j * FC_W
                v = v_load(x)
                if p.pool.kind == AVG_POOL:
                    for ty in range(kh):
                        for tx in range(kw):
                            if ty + tx > 0:
                                v = v + v_load(x + (ty * ow + tx) * ld)
                    v = v / count
                elif kh == 2 and kw == 2:
                    v = v_nanmax(v_nanmax(v, v_load(x + ld)), v_nanmax(v_load(x + ow * ld), v_load(x + (ow + 1) * ld)))
                else:
                    for ty in range(kh):
                        for tx in range(kw):
                            v = v_nanmax(v, v_load(x + (ty * ow + tx) * ld))
                if p.pool.first:
                    v = activate_inline(v + v_load(e.bias + j * FC_W), e)
                if j < nv - 1 or e.valid == FC_W:
                    v_store(y + j * FC_W, v)
                else:
                    v_store_n(y + j * FC_W, v, e.valid)
            y += s.y.pixel
        rows += kh * ow * ld
        if p.pool.first and e.kind > LAST_INLINE:
            y = at(base, &s.y, i, r - i * s.units.rows, 0) + channel
            for ox in range(s.y.w):
                activate_stored(y + ox * s.y.pixel, (nv - 1) * FC_W + e.valid, e)


cdef void run_inline(Py_ssize_t m, int nv, const float** a, const Py_ssize_t* offsets, Py_ssize_t segments,
                     Py_ssize_t length, const float* b, const Epilogue* e, const float** z, float** y,
                     Ahead* far) noexcept nogil:
    """m rows in tiles as even as can be: 57 are 2 of 12 and 3 of 11. In 4 of 14, the one left over would be slow.

    Of activations, only those that stay in a register.
    """
    cdef Py_ssize_t tallest = FC_MR if nv == FC_NV else FC_MR1
    cdef Py_ssize_t tiles, height, tall
    if m == 0:
        return
    if m > 1 and (a[1] - a[0]) % SET == 0:      # no more rows than the one set of L1 that they share has lines
        tallest = min(tallest, <Py_ssize_t>SET_ROWS)
    tiles = (m + tallest - 1) // tallest
    height = (m + tiles - 1) // tiles
    tall = m - (height - 1) * tiles             # tiles of `height`; the others are one lower
    run_tile(<int>height, nv, tall, a, offsets, segments, length, b, e, z, y, far)
    if tall < tiles:
        tall *= height
        run_tile(<int>(height - 1), nv, tiles - tall // height, a + tall, offsets, segments, length, b, e,
                 z + tall if z != NULL else NULL, y + tall, far)


cdef void run_rows(Py_ssize_t m, int nv, const float** a, const Py_ssize_t* offsets, Py_ssize_t segments,
                   Py_ssize_t length, const float* b, const Epilogue* e, const float** z, float** y,
                   Ahead* far) noexcept nogil:
    """`run_inline` with every activation."""
    run_inline(m, nv, a, offsets, segments, length, b, e, z, y, far)
    if e.kind > LAST_INLINE:
        activate_rows(e.kind, <double>e.a, <double>e.b, y, m, e.shift, (nv - 1) * FC_W + e.valid)


cdef inline Py_ssize_t rows_at_once(Py_ssize_t m, int nv) noexcept nogil:
    """How many of m rows to gather before they run: as many as there is room for, in even portions."""
    cdef Py_ssize_t room = TILES * (FC_MR if nv == FC_NV else FC_MR1)
    cdef Py_ssize_t portions = (m + room - 1) // room
    return (m + portions - 1) // portions if portions > 0 else 1


cdef void conv_panel(const Step* s, const TileRecord* p, char** base, Py_ssize_t row0, Py_ssize_t row1,
                     Py_ssize_t panel, const float* columns, float* scratch) noexcept nogil:
    """Rows [row0, row1), counted over all images, of one panel of output channels.

    x is read in place (columns NULL: the view includes its border of zeros, p.offsets are those of the segments)
    or from an im2col block `columns` (pixels, K). With a fused pool, rows are pooled rows and the unpooled ones
    stand only in scratch (rows * kh, ow, nv * W).
    """
    cdef const float* a[TILES * MAX_M]
    cdef const float* z[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Epilogue e = epilogue(<const float*>start(base, &p.bias), &p.activation)
    cdef Py_ssize_t per_group = p.panels // p.groups
    cdef Py_ssize_t group = panel // per_group
    cdef Py_ssize_t channels = p.channels // p.groups
    cdef Py_ssize_t first = (panel - group * per_group) * FC_NR            # channel within the group
    cdef Py_ssize_t left = channels - first
    cdef int nv = FC_NV if left > FC_W else 1
    cdef Py_ssize_t K = p.segments * p.length
    cdef Py_ssize_t padded = per_group * FC_NR if (channels - 1) % FC_NR >= FC_W else per_group * FC_NR - FC_W
    cdef const float* b = <const float*>start(base, &p.weight) + (group * padded + first) * K
    cdef Py_ssize_t channel = group * channels + first
    cdef Py_ssize_t group_offset = group * (s.x.c // p.groups)
    cdef Py_ssize_t rows = s.units.rows
    cdef bint pooled = p.pool.kind != NO_POOL
    cdef Py_ssize_t tall = p.pool.kh if pooled else 1
    cdef Py_ssize_t down = p.pool.sh if pooled else 1
    cdef Py_ssize_t ld = nv * FC_W
    cdef Py_ssize_t portion = rows_at_once((row1 - row0) * tall * p.ow, nv)
    cdef Py_ssize_t xstep = p.sw * s.x.pixel if columns == NULL else K
    cdef Py_ssize_t ystep = ld if pooled else s.y.pixel
    cdef Py_ssize_t r, t, i, oy, ox, m = 0
    cdef const float* x = columns
    cdef const float* zp = NULL
    cdef float* yp = scratch
    cdef Py_ssize_t zero = 0
    cdef const Py_ssize_t* offsets = &zero
    cdef Py_ssize_t segments = 1, length = K
    cdef Epilogue raw
    cdef Epilogue* now = &e
    cdef Ahead far = ahead_of(b, K, (row1 - row0) * tall * p.ow, p.groups * padded * K)
    e.bias += group * padded + first
    e.valid = <int>min(left - (nv - 1) * FC_W, FC_W)
    if pooled:              # whole vectors go to scratch; bias and activation wait where they can
        raw = e
        raw.valid = FC_W
        if p.pool.first:
            raw.bias = NULL
            raw.kind = ACT_NONE
        now = &raw
    if columns == NULL:
        offsets, segments, length = <const Py_ssize_t*>start(base, &p.offsets), p.segments, p.length
    for r in range(row0, row1):
        i = r // rows
        for t in range(tall):
            oy = (r - i * rows) * down + t
            if columns == NULL:
                x = at(base, &s.x, i, oy * p.sh, 0) + group_offset
            if not pooled:
                yp = at(base, &s.y, i, oy, 0) + channel
            if s.has_z:
                zp = at(base, &s.z, i, oy, 0) + channel
            for ox in range(p.ow):
                a[m] = x
                y[m] = yp
                x += xstep
                yp += ystep
                if zp != NULL:
                    z[m] = zp
                    zp += s.z.pixel
                m += 1
                if m == portion:
                    run_rows(m, nv, a, offsets, segments, length, b, now, z if s.has_z else NULL, y, &far)
                    m = 0
    run_rows(m, nv, a, offsets, segments, length, b, now, z if s.has_z else NULL, y, &far)
    if pooled:
        pool_panel(s, base, &e, scratch, nv, row0, row1, channel)


cdef void conv_direct(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """Convolution or linear layer as an implicit matrix product: the tile reads x where it stands.

    x: (n, h, w, c) with its border of zeros inside the view; y: (n, oh, ow, o), or pooled; record: TileRecord.
    A unit is `block` rows of one panel.
    """
    cdef const TileRecord* p = <const TileRecord*>s.record
    cdef Py_ssize_t u, blk, row0, row1
    for u in range(begin, end):
        blk = u // p.panels
        row0 = blk * s.units.block
        row1 = min(row0 + s.units.block, n * s.units.rows)
        conv_panel(s, p, base, row0, row1, u - blk * p.panels, NULL, <float*>scratch)


cdef void linear(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 char* scratch) noexcept nogil:
    """conv_direct for 1x1 images without a residual: a lone image takes several panels at once.

    x: (n, K); y: (n, o); record: TileRecord. A unit is `block` images of WIDE panels.
    """
    cdef const TileRecord* p = <const TileRecord*>s.record
    cdef Epilogue e
    cdef Py_ssize_t u, blk, row0, row1, p0, p1, k, left
    cdef Py_ssize_t groups = (p.panels + WIDE - 1) // WIDE
    cdef Py_ssize_t K = p.segments * p.length
    cdef bint half
    for u in range(begin, end):
        blk = u // groups
        row0 = blk * s.units.block
        row1 = min(row0 + s.units.block, n * s.units.rows)
        p0 = (u - blk * groups) * WIDE
        p1 = min(p0 + WIDE, p.panels)
        left = p.channels - (p1 - 1) * FC_NR           # in the last panel
        half = left <= FC_W
        if row1 - row0 == 1 and p1 - p0 > half:
            e = epilogue(<const float*>start(base, &p.bias) + p0 * FC_NR, &p.activation)
            e.valid = <int>min(left if half else left - FC_W, FC_W)
            run_wide(<int>(p1 - p0 - half), half, at(base, &s.x, row0, 0, 0),
                     <const Py_ssize_t*>start(base, &p.offsets), p.segments, p.length,
                     <const float*>start(base, &p.weight) + p0 * FC_NR * K, FC_NR * K, &e,
                     at(base, &s.y, row0, 0, 0) + p0 * FC_NR)
        else:
            for k in range(p0, p1):
                conv_panel(s, p, base, row0, row1, k, NULL, <float*>scratch)


cdef void conv_packed(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """Convolution through an im2col block that stays in cache, feeding the register tile.

    record: PackedRecord. A unit is `block` rows; scratch: (block * ow, K), K = kh * kw * c / groups.
    """
    cdef const PackedRecord* p = <const PackedRecord*>s.record
    cdef Py_ssize_t u, row0, row1, r, k, g
    cdef Py_ssize_t per_group = p.tile.panels // p.tile.groups
    cdef Py_ssize_t K = p.tile.segments * p.tile.length
    cdef float* columns = <float*>scratch
    for u in range(begin, end):
        row0 = u * s.units.block
        row1 = min(row0 + s.units.block, n * s.units.rows)
        for g in range(p.tile.groups):
            for r in range(row0, row1):
                im2col_row(s, &p.window, base, r, g, columns + (r - row0) * p.tile.ow * K)
            for k in range(g * per_group, (g + 1) * per_group):
                conv_panel(s, &p.tile, base, row0, row1, k, columns, NULL)


cdef extern from *:
    """
    #if FC_W == 16
    #define FC_DW 8                     /* 14 vectors of x for 7 taps, 8 sums, one of w: 23 of 32 registers */
    #else
    #define FC_DW 4                     /* 10, 4 and 1 of 16 */
    #endif
    """
    enum:
        FC_DW                           # pixels of depthwise's tile


cdef inline void depthwise_store(int m, const Step* s, const Epilogue* e, int lanes, const vf* acc, const float* z,
                                 float* y) noexcept nogil:
    """y = act(acc + bias + z) for m neighbouring pixels of one vector of channels; z: the residual or NULL"""
    cdef vf v
    cdef int i
    for i in range(m):
        v = acc[i] + v_load(e.bias)
        if z != NULL:
            v = v + (v_load(z + i * s.z.pixel) if lanes == FC_W else v_load_n(z + i * s.z.pixel, lanes))
        v = activate_inline(v, e)
        if lanes == FC_W:
            v_store(y + i * s.y.pixel, v)
        else:
            v_store_n(y + i * s.y.pixel, v, lanes)


cdef inline void depthwise_pixels(int m, const Step* s, const DepthwiseRecord* p, const float* x, const float* w,
                                  const Epilogue* e, int lanes, const float* z, float* y) noexcept nogil:
    """m neighbouring output pixels of one vector of channels. x: at the window of the first; w: (taps, padded c)"""
    cdef vf acc[FC_DW]
    cdef vf wv
    cdef int i
    cdef Py_ssize_t ky, kx, step = p.sw * s.x.pixel
    cdef const float* xt
    for i in range(m):
        acc[i] = v_set1(0)
    for ky in range(p.kh):
        for kx in range(p.kw):
            xt = x + ky * p.dh * s.x.row + kx * p.dw * s.x.pixel
            wv = v_load(w)
            w += p.padded
            if lanes == FC_W:
                for i in range(m):
                    acc[i] = v_fma(v_load(xt + i * step), wv, acc[i])
            else:
                for i in range(m):
                    acc[i] = v_fma(v_load_n(xt + i * step, lanes), wv, acc[i])
    depthwise_store(m, s, e, lanes, acc, z, y)


cdef inline void depthwise_windows(int kw, int sw, const Step* s, const DepthwiseRecord* p, const float* x,
                                   const float* w, const Epilogue* e, const float* z, float* y) noexcept nogil:
    """`depthwise_pixels` of a tile in whole vectors; neighbours in a row are loaded once. kw, sw: constants"""
    cdef vf acc[FC_DW]
    cdef vf pixels[7 * 2 + 7]               # of FC_DW <= 8 windows, 7 wide, 2 apart, at most
    cdef vf wv
    cdef int i, j
    cdef Py_ssize_t ky
    for i in range(FC_DW):
        acc[i] = v_set1(0)
    for ky in range(p.kh):
        for j in range((FC_DW - 1) * sw + kw):
            pixels[j] = v_load(x + j * s.x.pixel)
        for j in range(kw):
            wv = v_load(w)
            w += p.padded
            for i in range(FC_DW):
                acc[i] = v_fma(pixels[i * sw + j], wv, acc[i])
        x += p.dh * s.x.row
    depthwise_store(FC_DW, s, e, FC_W, acc, z, y)


cdef inline void depthwise_tile(const Step* s, const DepthwiseRecord* p, const float* x, const float* w,
                                const Epilogue* e, int lanes, const float* z, float* y) noexcept nogil:
    """`depthwise_pixels` of a tile, by the usual windows' own code"""
    if lanes < FC_W or p.dw != 1:
        depthwise_pixels(FC_DW, s, p, x, w, e, lanes, z, y)
    elif p.kw == 3 and p.sw == 1:
        depthwise_windows(3, 1, s, p, x, w, e, z, y)
    elif p.kw == 3 and p.sw == 2:
        depthwise_windows(3, 2, s, p, x, w, e, z, y)
    elif p.kw == 5 and p.sw == 1:
        depthwise_windows(5, 1, s, p, x, w, e, z, y)
    elif p.kw == 5 and p.sw == 2:
        depthwise_windows(5, 2, s, p, x, w, e, z, y)
    elif p.kw == 7 and p.sw == 1:
        depthwise_windows(7, 1, s, p, x, w, e, z, y)
    else:
        depthwise_pixels(FC_DW, s, p, x, w, e, lanes, z, y)


cdef void depthwise(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                    char* scratch) noexcept nogil:
    """groups == channels in == channels out: each channel under its own kh x kw window, channels in the lanes.

    record: DepthwiseRecord. A unit is `block` rows. All channels of some pixels come before the next pixels: their
    windows are in the L1 cache then.
    """
    cdef const DepthwiseRecord* p = <const DepthwiseRecord*>s.record
    cdef Epilogue e = epilogue(NULL, &p.activation)
    cdef const float* bias = <const float*>start(base, &p.bias)
    cdef const float* w = <const float*>start(base, &p.weight)
    cdef Py_ssize_t r, i, oy, ox, k, v, ow = s.y.w, c = s.x.c
    cdef int lanes, m
    cdef const float* x
    cdef const float* z = NULL
    cdef float* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        ox = 0
        while ox < ow:
            m = FC_DW
            if ow - ox < FC_DW:             # the last tile is moved back over what is done, but not with a residual
                if ow < FC_DW or s.has_z:
                    m = 1
                else:
                    ox = ow - FC_DW
            x = at(base, &s.x, i, oy * p.sh, ox * p.sw)
            y = at(base, &s.y, i, oy, ox)
            if s.has_z:
                z = at(base, &s.z, i, oy, ox)
            for v in range((c + FC_W - 1) // FC_W):
                k = v * FC_W
                lanes = <int>min(c - k, FC_W)
                e.bias = bias + k
                if m == FC_DW:
                    depthwise_tile(s, p, x + k, w + k, &e, lanes, z + k if s.has_z else NULL, y + k)
                else:
                    depthwise_pixels(1, s, p, x + k, w + k, &e, lanes, z + k if s.has_z else NULL, y + k)
            if e.kind > LAST_INLINE:
                if s.y.pixel == c:
                    activate_stored(y, m * c, &e)
                else:
                    for k in range(m):
                        activate_stored(y + k * s.y.pixel, c, &e)
            ox += m
