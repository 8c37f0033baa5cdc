"""Convolutions on the register tile, NHWC: direct, through an im2col block, and depthwise."""


cdef inline Epilogue epilogue(const Step* s) noexcept nogil:
    cdef Epilogue e
    e.bias = <const float*>s.bias
    e.activation = <int>s.activation
    e.low = <float>s.low
    e.high = <float>s.high
    e.slope = <float>s.slope
    e.valid = FC_W
    e.shift = 0
    return e


cdef void pool_panel(const Step* s, float** base, const Epilogue* e, const float* rows, int nv, Py_ssize_t row0,
                     Py_ssize_t row1, Py_ssize_t channel) noexcept nogil:
    """Pool what `conv_panel` left in its scratch: (pooled rows * ph, ow, nv * W) -> y, non-overlapping windows."""
    cdef Py_ssize_t r, i, ox, ty, tx
    cdef Py_ssize_t ld = nv * FC_W
    cdef int j
    cdef vf v
    cdef vf count = v_set1(<float>(s.ph * s.pw))
    cdef const float* x
    cdef float* y
    for r in range(row0, row1):
        i = r // s.rows
        y = at(base, &s.y, i, r - i * s.rows, 0) + channel
        for ox in range(s.y.w):
            for j in range(nv):
                x = rows + ox * s.psw * ld + j * FC_W
                v = v_load(x)
                if s.pool == AVG_POOL:
                    for ty in range(s.ph):
                        for tx in range(s.pw):
                            if ty + tx > 0:
                                v = v + v_load(x + (ty * s.ow + tx) * ld)
                    v = v / count
                elif s.ph == 2 and s.pw == 2:
                    v = v_nanmax(v_nanmax(v, v_load(x + ld)),
                                 v_nanmax(v_load(x + s.ow * ld), v_load(x + (s.ow + 1) * ld)))
                else:
                    for ty in range(s.ph):
                        for tx in range(s.pw):
                            v = v_nanmax(v, v_load(x + (ty * s.ow + tx) * ld))
                if s.pool_first:
                    v = activate(v + v_load(e.bias + j * FC_W), e)
                if j < nv - 1 or e.valid == FC_W:
                    v_store(y + j * FC_W, v)
                else:
                    v_store_n(y + j * FC_W, v, e.valid)
            y += s.y.pixel
        rows += s.ph * s.ow * ld


cdef void run_rows(Py_ssize_t m, int nv, const float** a, const Py_ssize_t* offsets, Py_ssize_t segments,
                   Py_ssize_t length, const float* b, const Epilogue* e, const float** z, float** y) noexcept nogil:
    """m rows in tiles as even as can be: 57 are 2 of 12 and 3 of 11, not 4 of 14 and one of 1, which would crawl."""
    cdef Py_ssize_t tallest = FC_MR if nv == FC_NV else FC_MR1
    cdef Py_ssize_t tiles = (m + tallest - 1) // tallest
    cdef Py_ssize_t height, tall
    if m == 0:
        return
    height = (m + tiles - 1) // tiles
    tall = m - (height - 1) * tiles             # tiles of `height`; the others are one lower
    run_tile(<int>height, nv, tall, a, offsets, segments, length, b, e, z, y)
    if tall < tiles:
        tall *= height
        run_tile(<int>(height - 1), nv, tiles - tall // height, a + tall, offsets, segments, length, b, e,
                 z + tall if z != NULL else NULL, y + tall)


cdef inline Py_ssize_t rows_at_once(Py_ssize_t m, int nv) noexcept nogil:
    """How many of m rows to gather before they run: as many as there is room for, in even portions."""
    cdef Py_ssize_t room = TILES * (FC_MR if nv == FC_NV else FC_MR1)
    cdef Py_ssize_t portions = (m + room - 1) // room
    return (m + portions - 1) // portions if portions > 0 else 1


cdef void conv_panel(const Step* s, float** base, Py_ssize_t row0, Py_ssize_t row1, Py_ssize_t panel,
                     const float* columns, float* scratch) noexcept nogil:
    """Rows [row0, row1), counted over all images, of one panel of output channels.

    x is read in place (columns NULL: the view includes its border of zeros, the table gives the offsets of
    the segments) or from an im2col block `columns` (pixels, K). With a fused pool, rows are pooled rows and
    the unpooled ones live only in scratch (rows * ph, ow, nv * W).
    """
    cdef const float* a[TILES * MAX_M]
    cdef const float* z[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Epilogue e = epilogue(s)
    cdef Py_ssize_t per_group = s.panels // s.groups
    cdef Py_ssize_t group = panel // per_group
    cdef Py_ssize_t channels = s.out_channels // s.groups
    cdef Py_ssize_t first = (panel - group * per_group) * NR            # channel within the group
    cdef Py_ssize_t left = channels - first
    cdef int nv = FC_NV if left > FC_W else 1
    cdef Py_ssize_t K = s.segments * s.length
    cdef Py_ssize_t padded = per_group * NR if (channels - 1) % NR >= FC_W else per_group * NR - FC_W
    cdef const float* b = <const float*>s.weight + (group * padded + first) * K
    cdef Py_ssize_t channel = group * channels + first
    cdef Py_ssize_t group_offset = group * (s.x.c // s.groups)
    cdef Py_ssize_t tall = s.ph if s.pool else 1
    cdef Py_ssize_t down = s.psh if s.pool else 1
    cdef Py_ssize_t ld = nv * FC_W
    cdef Py_ssize_t portion = rows_at_once((row1 - row0) * tall * s.ow, nv)
    cdef Py_ssize_t xstep = s.sw * s.x.pixel if columns == NULL else K
    cdef Py_ssize_t ystep = s.y.pixel if s.pool == NO_POOL else ld
    cdef Py_ssize_t r, t, i, oy, ox, m = 0
    cdef const float* x = columns
    cdef const float* zp = NULL
    cdef float* yp = scratch
    cdef const Py_ssize_t* offsets = s.table
    cdef Py_ssize_t segments = s.segments, length = s.length
    cdef Py_ssize_t zero = 0
    cdef Epilogue raw
    cdef Epilogue* now = &e
    e.bias += group * padded + first
    e.valid = <int>min(left - (nv - 1) * FC_W, FC_W)
    if s.pool:              # whole vectors go to scratch; bias and activation wait where they can
        raw = e
        raw.valid = FC_W
        if s.pool_first:
            raw.bias = NULL
            raw.activation = NO_ACTIVATION
        now = &raw
    if columns != NULL:
        offsets, segments, length = &zero, 1, K
    for r in range(row0, row1):
        i = r // s.rows
        for t in range(tall):
            oy = (r - i * s.rows) * down + t
            if columns == NULL:
                x = at(base, &s.x, i, oy * s.sh, 0) + group_offset
            if s.pool == NO_POOL:
                yp = at(base, &s.y, i, oy, 0) + channel
            if s.has_z:
                zp = at(base, &s.z, i, oy, 0) + channel
            for ox in range(s.ow):
                a[m] = x
                y[m] = yp
                x += xstep
                yp += ystep
                if zp != NULL:
                    z[m] = zp
                    zp += s.z.pixel
                m += 1
                if m == portion:
                    run_rows(m, nv, a, offsets, segments, length, b, now, z if s.has_z else NULL, y)
                    m = 0
    run_rows(m, nv, a, offsets, segments, length, b, now, z if s.has_z else NULL, y)
    if s.pool:
        pool_panel(s, base, &e, scratch, nv, row0, row1, channel)


cdef void conv_direct(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      float* scratch) noexcept nogil:
    """Convolution or linear layer as an implicit matrix product: the tile reads x where it lies.

    x: (n, h, w, c) with its border of zeros inside the view; weight: panels of (K, NR), K in the order of
    the table's segments; y: (n, oh, ow, o), or pooled. A unit is `block` rows of one panel.
    """
    cdef Py_ssize_t u, blk, row0, row1
    for u in range(begin, end):
        blk = u // s.panels
        row0 = blk * s.block
        row1 = min(row0 + s.block, n * s.rows)
        conv_panel(s, base, row0, row1, u - blk * s.panels, NULL, scratch)


cdef void linear(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 float* scratch) noexcept nogil:
    """conv_direct for 1x1 images without a residual: a lone image takes several panels at once.

    x: (n, K); y: (n, o). A unit is `block` images of WIDE panels.
    """
    cdef Epilogue e
    cdef Py_ssize_t u, blk, row0, row1, p0, p1, p, left
    cdef Py_ssize_t groups = (s.panels + WIDE - 1) // WIDE
    cdef Py_ssize_t K = s.segments * s.length
    cdef bint half
    for u in range(begin, end):
        blk = u // groups
        row0 = blk * s.block
        row1 = min(row0 + s.block, n * s.rows)
        p0 = (u - blk * groups) * WIDE
        p1 = min(p0 + WIDE, s.panels)
        left = s.out_channels - (p1 - 1) * NR           # in the last panel
        half = left <= FC_W
        if row1 - row0 == 1 and p1 - p0 > half:
            e = epilogue(s)
            e.bias += p0 * NR
            e.valid = <int>min(left if half else left - FC_W, FC_W)
            run_wide(p1 - p0 - half, half, at(base, &s.x, row0, 0, 0), s.table, s.segments, s.length,
                     <const float*>s.weight + p0 * NR * K, NR * K, &e, at(base, &s.y, row0, 0, 0) + p0 * NR)
        else:
            for p in range(p0, p1):
                conv_panel(s, base, row0, row1, p, NULL, scratch)


cdef void conv_packed(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      float* scratch) noexcept nogil:
    """Convolution through an im2col block that stays in cache, feeding the register tile.

    A unit is `block` rows; scratch: (block * ow, K), K = kh * kw * c / groups.
    """
    cdef Py_ssize_t u, row0, row1, r, p, g
    cdef Py_ssize_t per_group = s.panels // s.groups
    cdef Py_ssize_t K = s.segments * s.length
    for u in range(begin, end):
        row0 = u * s.block
        row1 = min(row0 + s.block, n * s.rows)
        for g in range(s.groups):
            for r in range(row0, row1):
                im2col_row(s, base, r, g, scratch + (r - row0) * s.ow * K)
            for p in range(g * per_group, (g + 1) * per_group):
                conv_panel(s, base, row0, row1, p, scratch, NULL)


cdef inline void depthwise_pixels(int m, const Step* s, const float* x, const float* w, const Epilogue* e,
                                  int lanes, const float* z, float* y) noexcept nogil:
    """m neighbouring output pixels of one vector of channels. x: at the window of the first; w: (taps, padded c);
    z: the residual or NULL."""
    cdef vf acc[8]
    cdef vf wv
    cdef int i
    cdef Py_ssize_t ky, kx, step = s.sw * s.x.pixel
    cdef const float* xt
    for i in range(m):
        acc[i] = v_set1(0)
    for ky in range(s.kh):
        for kx in range(s.kw):
            xt = x + ky * s.dh * s.x.row + kx * s.dw * s.x.pixel
            wv = v_load(w)
            w += s.length
            if lanes == FC_W:
                for i in range(m):
                    acc[i] = v_fma(v_load(xt + i * step), wv, acc[i])
            else:
                for i in range(m):
                    acc[i] = v_fma(v_load_n(xt + i * step, lanes), wv, acc[i])
    for i in range(m):
        wv = acc[i] + v_load(e.bias)
        if z != NULL:
            wv = wv + (v_load(z + i * s.z.pixel) if lanes == FC_W else v_load_n(z + i * s.z.pixel, lanes))
        acc[i] = activate(wv, e)
        if lanes == FC_W:
            v_store(y + i * s.y.pixel, acc[i])
        else:
            v_store_n(y + i * s.y.pixel, acc[i], lanes)


cdef void depthwise(const Step* s, float** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                    float* scratch) noexcept nogil:
    """groups == channels in == channels out: each channel under its own kh x kw window, channels in the lanes.

    weight: (kh * kw, c padded to whole vectors = `length`). A unit is `block` rows.
    """
    cdef Epilogue e = epilogue(s)
    cdef Py_ssize_t r, i, oy, ox, k, v
    cdef int lanes
    cdef const float* x
    cdef const float* z = NULL
    cdef float* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        oy = r - i * s.rows
        for v in range((s.x.c + FC_W - 1) // FC_W):
            k = v * FC_W
            lanes = <int>min(s.x.c - k, FC_W)
            e.bias = <const float*>s.bias + k
            x = at(base, &s.x, i, oy * s.sh, 0) + k
            y = at(base, &s.y, i, oy, 0) + k
            if s.has_z:
                z = at(base, &s.z, i, oy, 0) + k
            ox = 0
            while ox + 8 <= s.ow:
                depthwise_pixels(8, s, x + ox * s.sw * s.x.pixel, <const float*>s.weight + k, &e, lanes,
                                 z + ox * s.z.pixel if s.has_z else NULL, y + ox * s.y.pixel)
                ox += 8
            while ox < s.ow:
                depthwise_pixels(1, s, x + ox * s.sw * s.x.pixel, <const float*>s.weight + k, &e, lanes,
                                 z + ox * s.z.pixel if s.has_z else NULL, y + ox * s.y.pixel)
                ox += 1
