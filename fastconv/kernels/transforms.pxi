"""Winograd's transforms of 3x3 convolutions to 4x4 or 2x2 outputs, for one vector of channels.

    Y = A^T [ (G g G^T) * (B^T d B) ] A

(Winograd 1980; as an algorithm for CNNs: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.)

Stride 1 is F(4x4, 3x3): d is 6x6, from the points 0, 1, -1, 2, -2 and infinity: 36 products for 144.

With stride 2, y[i] = g0 x[2i] + g1 x[2i+1] + g2 x[2i+2]: the even samples under two taps, for which F(4, 2) on the
points 0, 1, -1, 2 and infinity needs 5 products for 8, and the odd ones under one tap, 4 for 4. (Splitting by phase:
Yepez and Ko, "Stride 2 1-D, 2-D, and 3-D Winograd for Convolutional Neural Networks", 2020.) d is 9x9: 81 products
for 144.
Along each axis the 5 points of the even samples come first and the odd samples, as they are, behind them; these 4 are
multiplied by the same weights, so that either stride has 36 matrices of weights.

F(2x2, 3x3) has the points 0, 1, -1 and infinity: d is 4x4, 16 products for 36. It saves less, and its 16 matrices of
weights are less than half as many to stream.

Every function takes the scheme as a constant and is inlined with it.
"""

cdef extern from "winograd.h" nogil:
    enum:
        F4 "FC_F4"
        F4_BY_TWO "FC_F4_BY_TWO"
        F2 "FC_F2"
        SCHEMES "FC_SCHEMES"
    ctypedef struct WinogradSizes "fc_scheme":
        int step
        int side
        int stride
        int own
    const WinogradSizes[SCHEMES] WINOGRAD_SIZES "FC_WINOGRAD"
    const double[SCHEMES][6][3] WINOGRAD_G "FC_WINOGRAD_G"

cdef enum:
    MAX_STEP = 4                    # over all schemes
    MAX_SIDE = 9


cdef inline vf pixel_at(const float* x, int lanes) noexcept nogil:
    return v_load(x) if lanes == FC_W else v_load_n(x, lanes)


cdef inline void store_points(int scheme, const vf* t, float* v, Py_ssize_t point) noexcept nogil:
    """One row of B^T d B from one row t of B^T d. v: 6 or 9 vectors, `point` floats apart"""
    cdef vf p, q
    v = <float*>fc_hide(v)
    if scheme == F4:
        p, q = v_fma(v_set1(-4), t[2], t[4]), v_fma(v_set1(-4), t[1], t[3])
        v_store(v, v_fma(v_set1(4), t[0], v_fma(v_set1(-5), t[2], t[4])))
        v_store(v + point, p + q)
        v_store(v + 2 * point, p - q)
        p = t[4] - t[2]
        q = t[3] - t[1]
        v_store(v + 3 * point, v_fma(v_set1(2), q, p))
        v_store(v + 4 * point, v_fma(v_set1(-2), q, p))
        v_store(v + 5 * point, v_fma(v_set1(4), t[1], v_fma(v_set1(-5), t[3], t[5])))
    elif scheme == F2:
        v_store(v, t[0] - t[2])
        v_store(v + point, t[1] + t[2])
        v_store(v + 2 * point, t[2] - t[1])
        v_store(v + 3 * point, t[3] - t[1])
    else:
        p = t[6] - t[2]
        v_store(v, v_fma(v_set1(2), t[0] - t[4], p))
        v_store(v + point, v_fma(v_set1(-2), t[2], t[6] - t[4]))
        v_store(v + 2 * point, v_fma(v_set1(2), t[2], v_fma(v_set1(-3), t[4], t[6])))
        v_store(v + 3 * point, p)
        v_store(v + 4 * point, v_fma(v_set1(-2), p, t[8] - t[4]))
        v_store(v + 5 * point, t[1])
        v_store(v + 6 * point, t[3])
        v_store(v + 7 * point, t[5])
        v_store(v + 8 * point, t[7])


cdef inline void input_tile(int lanes, const float* x, Py_ssize_t row, Py_ssize_t pixel, float* v,
                            Py_ssize_t point) noexcept nogil:
    """B^T d B for stride 1. x: 6 rows of 6 pixels; v: 36 vectors, `point` floats apart.

    Rows of B^T d are made in the pairs that share sums, and each is finished at once: pixels are loaded again
    for the next pair, which is cheaper than to keep 36 vectors on the stack.
    """
    cdef vf t[6]
    cdef vf u[6]
    cdef vf p, q
    cdef const float* d = fc_hide(x)
    cdef int j
    for j in range(6):
        t[j] = v_fma(v_set1(4), pixel_at(d, lanes),
                     v_fma(v_set1(-5), pixel_at(d + 2 * row, lanes), pixel_at(d + 4 * row, lanes)))
        d = fc_hide(d + pixel)
    store_points(F4, t, v, point)
    d = fc_hide(x)
    for j in range(6):
        p = v_fma(v_set1(-4), pixel_at(d + 2 * row, lanes), pixel_at(d + 4 * row, lanes))
        q = v_fma(v_set1(-4), pixel_at(d + row, lanes), pixel_at(d + 3 * row, lanes))
        t[j] = p + q
        u[j] = p - q
        d = fc_hide(d + pixel)
    store_points(F4, t, v + 6 * point, point)
    store_points(F4, u, v + 12 * point, point)
    d = fc_hide(x)
    for j in range(6):
        p = pixel_at(d + 4 * row, lanes) - pixel_at(d + 2 * row, lanes)
        q = pixel_at(d + 3 * row, lanes) - pixel_at(d + row, lanes)
        t[j] = v_fma(v_set1(2), q, p)
        u[j] = v_fma(v_set1(-2), q, p)
        d = fc_hide(d + pixel)
    store_points(F4, t, v + 18 * point, point)
    store_points(F4, u, v + 24 * point, point)
    d = fc_hide(x)
    for j in range(6):
        t[j] = v_fma(v_set1(4), pixel_at(d + row, lanes),
                     v_fma(v_set1(-5), pixel_at(d + 3 * row, lanes), pixel_at(d + 5 * row, lanes)))
        d = fc_hide(d + pixel)
    store_points(F4, t, v + 30 * point, point)


cdef inline void input_tile_2(int lanes, const float* x, Py_ssize_t row, Py_ssize_t pixel, float* v,
                              Py_ssize_t point) noexcept nogil:
    """B^T d B for 2x2 outputs, as `input_tile`. x: 4 rows of 4 pixels; v: 16 vectors, `point` floats apart"""
    cdef vf t[4]
    cdef vf u[4]
    cdef vf p, q
    cdef const float* d = fc_hide(x)
    cdef int j
    for j in range(4):
        p, q = pixel_at(d + row, lanes), pixel_at(d + 2 * row, lanes)
        t[j] = p + q
        u[j] = q - p
        d = fc_hide(d + pixel)
    store_points(F2, t, v + 4 * point, point)
    store_points(F2, u, v + 8 * point, point)
    d = fc_hide(x)
    for j in range(4):
        t[j] = pixel_at(d, lanes) - pixel_at(d + 2 * row, lanes)
        u[j] = pixel_at(d + 3 * row, lanes) - pixel_at(d + row, lanes)
        d = fc_hide(d + pixel)
    store_points(F2, t, v, point)
    store_points(F2, u, v + 12 * point, point)


cdef inline void input_tile_by_phase(int lanes, const float* x, Py_ssize_t row, Py_ssize_t pixel, float* v,
                                     Py_ssize_t point) noexcept nogil:
    """B^T d B for stride 2, as `input_tile`. x: 9 rows of 9 pixels; v: 81 vectors, `point` floats apart"""
    cdef vf t[9]
    cdef vf u[9]
    cdef const float* d = fc_hide(x)
    cdef Py_ssize_t k
    cdef int j
    for j in range(9):
        u[j] = pixel_at(d + 6 * row, lanes) - pixel_at(d + 2 * row, lanes)
        t[j] = v_fma(v_set1(2), pixel_at(d, lanes) - pixel_at(d + 4 * row, lanes), u[j])
        d = fc_hide(d + pixel)
    store_points(F4_BY_TWO, t, v, point)
    store_points(F4_BY_TWO, u, v + 27 * point, point)
    d = fc_hide(x)
    for j in range(9):
        t[j] = v_fma(v_set1(-2), pixel_at(d + 2 * row, lanes),
                     pixel_at(d + 6 * row, lanes) - pixel_at(d + 4 * row, lanes))
        u[j] = v_fma(v_set1(2), pixel_at(d + 2 * row, lanes),
                     v_fma(v_set1(-3), pixel_at(d + 4 * row, lanes), pixel_at(d + 6 * row, lanes)))
        d = fc_hide(d + pixel)
    store_points(F4_BY_TWO, t, v + 9 * point, point)
    store_points(F4_BY_TWO, u, v + 18 * point, point)
    d = fc_hide(x)
    for j in range(9):
        t[j] = v_fma(v_set1(-2), pixel_at(d + 6 * row, lanes) - pixel_at(d + 2 * row, lanes),
                     pixel_at(d + 8 * row, lanes) - pixel_at(d + 4 * row, lanes))
        d = fc_hide(d + pixel)
    store_points(F4_BY_TWO, t, v + 36 * point, point)
    for k in range(4):
        d = fc_hide(x + (2 * k + 1) * row)
        for j in range(9):
            t[j] = pixel_at(d, lanes)
            d = fc_hide(d + pixel)
        store_points(F4_BY_TWO, t, v + (5 + k) * 9 * point, point)


cdef inline void transform_input(int scheme, int lanes, Py_ssize_t tiles, const float* x, Py_ssize_t row,
                                 Py_ssize_t pixel, float* v, Py_ssize_t tile, Py_ssize_t point) noexcept nogil:
    """B^T d B of a row of tiles. x: `side` rows of pixels; v: (points, tiles, vector)"""
    cdef Py_ssize_t k
    for k in range(tiles):
        if scheme == F4:
            input_tile(lanes, x, row, pixel, v, point)
        elif scheme == F2:
            input_tile_2(lanes, x, row, pixel, v, point)
        else:
            input_tile_by_phase(lanes, x, row, pixel, v, point)
        x += WINOGRAD_SIZES[scheme].stride * WINOGRAD_SIZES[scheme].step * pixel
        v += tile


cdef inline void outputs(int scheme, const vf* t, vf* out) noexcept nogil:
    """One row of A^T m A from one row t of A^T m. out: 4 vectors"""
    cdef vf p = t[1] + t[2], q = t[1] - t[2], r, s
    if scheme == F4:
        r, s = t[3] + t[4], t[3] - t[4]
        out[0] = t[0] + p + r
        out[1] = v_fma(v_set1(2), s, q)
        out[2] = v_fma(v_set1(4), r, p)
        out[3] = v_fma(v_set1(8), s, q) + t[5]
    else:
        out[0] = t[0] + p + t[3] + t[5]
        out[1] = v_fma(v_set1(2), t[3], q) + t[6]
        out[2] = v_fma(v_set1(4), t[3], p) + t[7]
        out[3] = v_fma(v_set1(8), t[3], q) + t[4] + t[8]


cdef inline void transform_output_2(const float* m, Py_ssize_t point, vf* out) noexcept nogil:
    """A^T m A. m: 16 vectors, `point` floats apart; out: 2x2, its rows MAX_STEP apart"""
    cdef vf t[4]
    cdef vf u[4]
    cdef vf p, q
    cdef const float* d = fc_hide(m)
    cdef int j
    for j in range(4):
        p, q = v_load(d + 4 * point), v_load(d + 8 * point)
        t[j] = v_load(d) + p + q
        u[j] = p - q + v_load(d + 12 * point)
        d = fc_hide(d + point)
    out[0] = t[0] + t[1] + t[2]
    out[1] = t[1] - t[2] + t[3]
    out[MAX_STEP] = u[0] + u[1] + u[2]
    out[MAX_STEP + 1] = u[1] - u[2] + u[3]


cdef inline void transform_output(int scheme, const float* m, Py_ssize_t point, vf* out) noexcept nogil:
    """A^T m A. m: 36 or 81 vectors, `point` floats apart; out: 4x4"""
    cdef vf t[MAX_SIDE]
    cdef vf u[MAX_SIDE]
    cdef vf p, r
    cdef const float* d = fc_hide(m)
    cdef Py_ssize_t line = WINOGRAD_SIZES[scheme].side * point
    cdef int j
    for j in range(WINOGRAD_SIZES[scheme].side):
        p = v_load(d + line) + v_load(d + 2 * line)
        if scheme == F4:
            r = v_load(d + 3 * line) + v_load(d + 4 * line)
            t[j] = v_load(d) + p + r
            u[j] = v_fma(v_set1(4), r, p)
        else:
            r = v_load(d + 3 * line)
            t[j] = v_load(d) + p + r + v_load(d + 5 * line)
            u[j] = v_fma(v_set1(4), r, p) + v_load(d + 7 * line)
        d = fc_hide(d + point)
    outputs(scheme, t, out)
    outputs(scheme, u, out + 2 * MAX_STEP)
    d = fc_hide(m)
    for j in range(WINOGRAD_SIZES[scheme].side):
        p = v_load(d + line) - v_load(d + 2 * line)
        if scheme == F4:
            r = v_load(d + 3 * line) - v_load(d + 4 * line)
            t[j] = v_fma(v_set1(2), r, p)
            u[j] = v_fma(v_set1(8), r, p) + v_load(d + 5 * line)
        else:
            r = v_load(d + 3 * line)
            t[j] = v_fma(v_set1(2), r, p) + v_load(d + 6 * line)
            u[j] = v_fma(v_set1(8), r, p) + v_load(d + 4 * line) + v_load(d + 8 * line)
        d = fc_hide(d + point)
    outputs(scheme, t, out + MAX_STEP)
    outputs(scheme, u, out + 3 * MAX_STEP)


cdef inline void transform_filters_2(const float* g, Py_ssize_t tap, float* u, Py_ssize_t matrix) noexcept nogil:
    """G g G^T for 2x2 outputs, of a vector of filters. g: 9 vectors, `tap` floats apart; u: 16, `matrix` apart"""
    cdef vf half[4][3]
    cdef vf a, b, p, q
    cdef int i
    for i in range(3):
        a, b = v_load(g + i * tap), v_load(g + (6 + i) * tap)
        p, q = v_set1(0.5) * (a + b), v_set1(0.5) * v_load(g + (3 + i) * tap)
        half[0][i] = a
        half[1][i] = p + q
        half[2][i] = p - q
        half[3][i] = b
    for i in range(4):
        p, q = v_set1(0.5) * (half[i][0] + half[i][2]), v_set1(0.5) * half[i][1]
        v_store(u, half[i][0])
        v_store(u + matrix, p + q)
        v_store(u + 2 * matrix, p - q)
        v_store(u + 3 * matrix, half[i][2])
        u += 4 * matrix


cdef inline void transform_filters(int scheme, const float* g, Py_ssize_t tap, float* u, Py_ssize_t matrix
                                   ) noexcept nogil:
    """The same for any scheme, in float64 until it is stored: the rows of G divide by 6 and 24."""
    cdef double taps[9][FC_W]
    cdef double half[6][3][FC_W]
    cdef double value
    cdef const double* row
    cdef Py_ssize_t points = WINOGRAD_SIZES[scheme].own + 1, x, y, k, j
    for k in range(9):
        for j in range(FC_W):
            taps[k][j] = g[k * tap + j]
    for x in range(points):
        row = WINOGRAD_G[scheme][x]
        for k in range(3):
            for j in range(FC_W):
                half[x][k][j] = row[0] * taps[k][j] + row[1] * taps[3 + k][j] + row[2] * taps[6 + k][j]
    for x in range(points):
        for y in range(points):
            row = WINOGRAD_G[scheme][y]
            for j in range(FC_W):
                value = half[x][0][j] * row[0] + half[x][1][j] * row[1] + half[x][2][j] * row[2]
                u[j] = <float>value
            u += matrix
