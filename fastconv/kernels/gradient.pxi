"""Gradients, for `fastconv.grad`: of a convolution by its weights, of pooling, of activations, and of norms.

All arrays are the caller's, C-contiguous and of one type. A sum has one order whatever the number of threads: each is
one thread's, or is cut into pieces whose number follows from the shapes alone.
"""

cdef enum:
    TAPS = 4                        # of the weights in a tile, as many as fc_sums takes
    TAP_ROWS = 3                    # outputs of it: 12 sums, 3 vectors of g, one of x
    WEIGHT_PIXELS = 1024            # of a block: its rows of g stay in L1 while all taps pass
    PANEL_PIXELS = 512              # of a block on the register tile: a panel of g stays in L1
    PANEL_LEAST = 8                 # outputs that fill its vectors
    SUM_CHAINS = 4                  # of additions, to hide their latency
    SUM_RUN = 8192                  # elements that are summed in their own precision, before that goes on in double


# --- a convolution by its weights -----------------------------------------------------------------

# y[o, k] = sum over images and pixels of g[i, o, pixel] * x[i, tap k of the pixel], in each group.
cdef struct WeightSums:
    Py_ssize_t n                    # images
    Py_ssize_t groups
    Py_ssize_t o                    # outputs of a group
    Py_ssize_t c                    # inputs of a group
    Py_ssize_t taps                 # c * kh * kw
    Py_ssize_t oh
    Py_ssize_t ow
    Py_ssize_t step                 # from a row of pixels to the next, in x
    Py_ssize_t h                    # of x
    Py_ssize_t w
    Py_ssize_t top                  # padding
    Py_ssize_t left
    Py_ssize_t high                 # rows of a padded plane; 0: x is read in place
    Py_ssize_t wide                 # columns of one of its phases
    Py_ssize_t phases               # columns so many apart stand side by side
    Py_ssize_t stride               # of the columns
    Py_ssize_t pieces               # of the images, each with sums of its own
    bint panels                     # the register tile multiplies: sums are (taps, outputs), else (outputs, taps)
    Py_ssize_t unit                 # outputs that stay together
    Py_ssize_t parts                # of the outputs, for threads
    const Py_ssize_t* places        # (taps,) of each tap behind the first pixel, in x or in the padded planes


cdef void phase_planes(const WeightSums* p, const real* x, real* y) noexcept nogil:
    """y[k, r, phase, j] = x[k, r - top, j * stride + phase - left], 0 outside. x: (c, h, w); y: (c, high, phases, wide)
    """
    cdef Py_ssize_t k, r
    for k in range(p.c):
        for r in range(p.high):
            if p.top <= r < p.top + p.h:
                phase_row(x + (k * p.h + r - p.top) * p.w, p.w, p.left, p.phases, p.wide, p.stride, <real>0, y)
            else:
                memset(y, 0, p.phases * p.wide * sizeof(real))
            y += p.phases * p.wide


cdef inline void weight_vectors(int m, const vreal** g, const vreal** x, Py_ssize_t rows, Py_ssize_t ow,
                                Py_ssize_t step, vreal** y) noexcept nogil:
    """y[i][j] += the sum over pixels of g[i] * x[j], for m rows of g and TAPS taps. Rows of x are `step` apart."""
    cdef vreal acc[TAP_ROWS][TAPS]
    cdef vreal v[TAP_ROWS]
    cdef vreal u, zero = v_all(g[0], 0)
    cdef Py_ssize_t r, k, at
    cdef int i, j, lanes = v_lanes(g[0]), tail = <int>(ow % lanes)
    for i in range(m):
        for j in range(TAPS):
            acc[i][j] = zero
    for r in range(rows):
        k = 0
        at = r * ow
        while k + lanes <= ow:
            for i in range(m):
                v[i] = v_get(g[i], at + k)
            for j in range(TAPS):
                u = v_get(x[j], r * step + k)
                for i in range(m):
                    acc[i][j] = v_fma(v[i], u, acc[i][j])
            k += lanes
        if tail:
            for i in range(m):
                v[i] = v_get_else(g[i], at + k, tail, zero)
            for j in range(TAPS):
                u = v_get_else(x[j], r * step + k, tail, zero)
                for i in range(m):
                    acc[i][j] = v_fma(v[i], u, acc[i][j])
    for i in range(m):
        fc_sums(acc[i][0], acc[i][1], acc[i][2], acc[i][3], y[i], 0, y[i], 0, TAPS)


cdef inline void weight_floats(int m, const vf** g, const vf** x, Py_ssize_t rows, Py_ssize_t ow, Py_ssize_t step,
                               vf** y) noexcept nogil:
    weight_vectors(m, g, x, rows, ow, step, y)


cdef inline void weight_doubles(int m, const vd** g, const vd** x, Py_ssize_t rows, Py_ssize_t ow, Py_ssize_t step,
                                vd** y) noexcept nogil:
    weight_vectors(m, g, x, rows, ow, step, y)


ctypedef void (*weight_of_floats)(int, const vf**, const vf**, Py_ssize_t, Py_ssize_t, Py_ssize_t, vf**) noexcept nogil
ctypedef void (*weight_of_doubles)(int, const vd**, const vd**, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                   vd**) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_weight_floats "FC_SWITCH" (int most, int m, weight_of_floats f, ...)
    void switch_weight_doubles "FC_SWITCH" (int most, int m, weight_of_doubles f, ...)


cdef void weight_block(const WeightSums* p, const real* x, const real* g, real* y, Py_ssize_t ld, Py_ssize_t rows,
                       Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """y[o, k] += the sums over so many rows of pixels of one image, for outputs [first, last). y: (o, taps), rows ld

    Behind the last tap of a row come those of a tile that has none: ld leaves room for them.
    """
    cdef const real* gs[TAP_ROWS]
    cdef const real* xs[TAPS]
    cdef real* ys[TAP_ROWS]
    cdef Py_ssize_t o = first, k, size = p.oh * p.ow
    cdef int i, m
    while o < last:
        m = <int>min(<Py_ssize_t>TAP_ROWS, last - o)
        for i in range(m):
            gs[i] = g + (o + i) * size
        k = 0
        while k < p.taps:
            for i in range(TAPS):
                xs[i] = x + p.places[min(k + i, p.taps - 1)]
            for i in range(m):
                ys[i] = y + (o + i) * ld + k
            if real is float:
                switch_weight_floats(TAP_ROWS, m, weight_floats, <const vf**>gs, <const vf**>xs, rows, p.ow, p.step,
                                     <vf**>ys)
            else:
                switch_weight_doubles(TAP_ROWS, m, weight_doubles, <const vd**>gs, <const vd**>xs, rows, p.ow,
                                      p.step, <vd**>ys)
            k += TAPS
        o += m


cdef void weight_panels(const WeightSums* p, const float* x, const float* g, float* y, Py_ssize_t ld, Py_ssize_t rows,
                        Py_ssize_t first, Py_ssize_t last, float* panel) noexcept nogil:
    """`weight_block` on the register tile: y[k, o] += the sums. y: (taps, o), rows ld; panel: (pixels, FC_NR)"""
    cdef const float* a[TILES * MAX_M]
    cdef float* ys[TILES * MAX_M]
    cdef Py_ssize_t offsets[PANEL_PIXELS]
    cdef Py_ssize_t k, m, part, width, portion, r, size = p.oh * p.ow, pixels = rows * p.ow
    cdef int nv
    cdef Activation nothing
    cdef Epilogue e
    cdef Ahead far = nothing_ahead()
    nothing.kind = ACT_NONE
    nothing.a = nothing.b = 0
    e = epilogue(NULL, &nothing)
    for r in range(rows):
        offsets[r] = r * p.step
    while first < last:
        part = min(<Py_ssize_t>FC_NR, last - first)
        nv = FC_NV if part > FC_W else 1
        width = nv * FC_W
        if part < width:
            memset(panel, 0, pixels * width * sizeof(float))
        transpose(part, pixels, g + first * size, size, panel, width)
        e.valid = <int>(part - (nv - 1) * FC_W)
        portion = rows_at_once(p.taps, nv)
        m = 0
        for k in range(p.taps):
            a[m] = x + p.places[k]
            ys[m] = y + k * ld + first
            m += 1
            if m == portion or k == p.taps - 1:
                run_inline(m, nv, a, offsets, rows, p.ow, panel, &e, <const float**>ys, ys, &far)
                m = 0
        first += part


cdef void weight_share(const WeightSums* p, const real* x, const real* g, real* sums, real* scratch, Py_ssize_t begin,
                       Py_ssize_t end) noexcept nogil:
    """Units [begin, end): a part of the outputs of a group each, summed over a piece of the images.

    sums: of each piece and group, (o, ld) or (taps, ld); scratch: a panel, and the padded planes of a group
    """
    cdef Py_ssize_t u, piece, group, part, image, row, rows, first, last, i, ld = weight_row(p)
    cdef Py_ssize_t units = (p.o + p.unit - 1) // p.unit, block
    cdef Py_ssize_t whole = weight_rows(p) * ld
    cdef real* padded = scratch + weight_panel(p)
    cdef const real* planes
    cdef const real* gradient
    cdef real* y
    cdef uint64_t state = fc_flush_denormals()
    block = max((PANEL_PIXELS if p.panels else WEIGHT_PIXELS) // p.ow, 1)
    for u in range(begin, end):
        part = u % p.parts
        group = u // p.parts % p.groups
        piece = u // p.parts // p.groups
        first, last = units * part // p.parts * p.unit, min(units * (part + 1) // p.parts * p.unit, p.o)
        y = sums + (piece * p.groups + group) * whole
        for i in range(weight_rows(p)):
            if p.panels:
                memset(y + i * ld + first, 0, (last - first) * sizeof(real))
            elif first <= i < last:
                memset(y + i * ld, 0, ld * sizeof(real))
        for image in range(p.n * piece // p.pieces, p.n * (piece + 1) // p.pieces):
            planes = x + (image * p.groups + group) * p.c * p.h * p.w
            if p.high:
                phase_planes(p, planes, padded)
                planes = padded
            gradient = g + (image * p.groups + group) * p.o * p.oh * p.ow
            row = 0
            while row < p.oh:
                rows = min(block, p.oh - row)
                if real is float and p.panels:
                    weight_panels(p, planes + row * p.step, gradient + row * p.ow, y, ld, rows, first, last, scratch)
                else:
                    weight_block(p, planes + row * p.step, gradient + row * p.ow, y, ld, rows, first, last)
                row += rows
    fc_restore_denormals(state)


cdef inline Py_ssize_t weight_rows(const WeightSums* p) noexcept nogil:
    """Rows of the sums of a group."""
    return p.taps if p.panels else p.o


cdef inline Py_ssize_t weight_row(const WeightSums* p) noexcept nogil:
    """Elements of a row of sums: whole tiles."""
    return p.o if p.panels else (p.taps + TAPS - 1) // TAPS * TAPS


cdef inline Py_ssize_t weight_panel(const WeightSums* p) noexcept nogil:
    """Floats of a panel."""
    return PANEL_PIXELS * FC_NR if p.panels else 0


cdef int weight_sums(WeightSums* p, const real* x, const real* g, real* y, int threads) noexcept nogil:
    """y: (groups * o, taps). 0, or -1 where there is no memory."""
    cdef Py_ssize_t ld, whole, units, size, group, i, k, piece, down, across
    cdef real* sums
    cdef real* scratch
    cdef real* out
    cdef const real* part_sums
    cdef int part
    p.panels = real is float and p.o >= PANEL_LEAST and p.ow <= PANEL_PIXELS
    p.unit = FC_NR if p.panels else 1
    units = (p.o + p.unit - 1) // p.unit
    p.parts = 1 if p.pieces * p.groups >= threads else min(<Py_ssize_t>threads, units)
    units = p.pieces * p.groups * p.parts
    threads = <int>min(<Py_ssize_t>threads, units)
    ld = weight_row(p)
    whole = weight_rows(p) * ld
    size = odd_lines(weight_panel(p) + p.c * p.high * p.phases * p.wide)
    sums = <real*>malloc(p.pieces * p.groups * whole * sizeof(real))
    scratch = <real*>malloc(threads * size * sizeof(real))
    if sums == NULL or scratch == NULL:
        free(sums)
        free(scratch)
        return -1
    if threads == 1:
        weight_share(p, x, g, sums, scratch, 0, units)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            weight_share(p, x, g, sums, scratch + part * size, units * part // threads, units * (part + 1) // threads)
    down = 1 if p.panels else ld
    across = ld if p.panels else 1
    for piece in range(p.pieces):
        for group in range(p.groups):
            part_sums = sums + (piece * p.groups + group) * whole
            out = y + group * p.o * p.taps
            for i in range(p.o):
                for k in range(p.taps):
                    out[i * p.taps + k] = part_sums[i * down + k * across] + (out[i * p.taps + k] if piece else 0)
    free(sums)
    free(scratch)
    return 0


def conv_weight(cnp.ndarray x, cnp.ndarray g, cnp.ndarray places, cnp.ndarray plan, cnp.ndarray y, int threads):
    """The gradient of a convolution by its weights. x: (n, c, h, w); g: (n, o, oh, ow); y: (o, c / groups, kh, kw)

    None is empty. places: intp, where each tap stands behind the first pixel; plan: int64, groups, and from `step` to
    `pieces` what WeightSums has but for h and w
    """
    cdef WeightSums p
    cdef const int64_t* numbers = <const int64_t*>cnp.PyArray_DATA(plan)
    cdef cnp.npy_intp* images = cnp.PyArray_DIMS(x)
    cdef cnp.npy_intp* pixels = cnp.PyArray_DIMS(g)
    cdef int failed
    p.groups, p.step, p.top, p.left = numbers[0], numbers[1], numbers[2], numbers[3]
    p.high, p.wide, p.phases, p.stride, p.pieces = numbers[4], numbers[5], numbers[6], numbers[7], numbers[8]
    p.n, p.c, p.h, p.w = images[0], images[1] // p.groups, images[2], images[3]
    p.o, p.oh, p.ow = pixels[1] // p.groups, pixels[2], pixels[3]
    p.taps, p.places = cnp.PyArray_SIZE(places), <const Py_ssize_t*>cnp.PyArray_DATA(places)
    threads = <int>min(<Py_ssize_t>threads, 1 + cnp.PyArray_SIZE(g) * p.taps // WORK_PER_THREAD)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            failed = weight_sums(&p, <const float*>cnp.PyArray_DATA(x), <const float*>cnp.PyArray_DATA(g),
                                 <float*>cnp.PyArray_DATA(y), threads)
        else:
            failed = weight_sums(&p, <const double*>cnp.PyArray_DATA(x), <const double*>cnp.PyArray_DATA(g),
                                 <double*>cnp.PyArray_DATA(y), threads)
    if failed:
        raise MemoryError


# --- activations ----------------------------------------------------------------------------------

cdef enum GradientKind:
    D_ABOVE = 0                 # g where x is above a, else 0; NaN is above. Of relu and threshold
    D_BETWEEN = 1               # g where x is between a and b. Of hardtanh
    D_OUTSIDE = 2               # 0 where x is within -a .. a. Of hardshrink and softshrink
    D_LEAKY = 3                 # g where x is above 0, else g * a
    D_SIGMOID = 4               # of the result, as tanh
    D_TANH = 5
    D_SILU = 6
    D_HARDSWISH = 7
    D_GELU = 8
    D_GELU_TANH = 9
    D_ELU = 10                  # a: alpha, b: the scale of the input
    D_SOFTPLUS = 11             # a: beta, b: threshold
    D_MISH = 12
    D_KINDS = 13

# As Python names them, in the enum's order.
GRADIENTS = {
    name: number
    for number, name in enumerate((
        "above", "between", "outside", "leaky", "sigmoid", "tanh", "silu", "hardswish", "gelu", "gelu_tanh", "elu",
        "softplus", "mish",
    ))
}


cdef inline vreal gradient(int kind, vreal x, vreal g, vreal a, vreal b) noexcept nogil:
    """g times the derivative at x, which is chosen, not multiplied, where it is 0 or 1."""
    cdef vreal s, t, w, zero = v_fill(x, 0), one = v_fill(x, 1)
    if kind == D_ABOVE:
        return v_where_lt(a, x, g, v_where_nan(x, g, zero))
    if kind == D_BETWEEN:
        return v_where_lt(a, x, v_where_lt(x, b, g, zero), zero)
    if kind == D_OUTSIDE:
        return v_where_lt(a, v_absolute(x), g, zero)
    if kind == D_LEAKY:
        return v_where_lt(zero, x, g, g * a)
    if kind == D_SIGMOID:
        return g * (one - x) * x
    if kind == D_TANH:
        return g * v_fma(-x, x, one)
    if kind == D_SILU:
        s = one / sigmoid_under(x)
        return g * s * v_fma(x, one - s, one)
    if kind == D_HARDSWISH:
        t = g * v_fma(x, v_fill(x, 0.3333333333333333), v_fill(x, 0.5))
        return v_where_lt(v_fill(x, -3), x, v_where_lt(x, v_fill(x, 3), t, g), v_where_nan(x, t, zero))
    if kind == D_GELU:          # the normal distribution's integral up to x, and x times its density
        s = v_fill(x, 0.5) * (one + v_erf(x * v_fill(x, 0.70710678118654752440)))
        return g * v_fma(x * v_fill(x, 0.39894228040143267794), v_exp(v_fill(x, -0.5) * x * x), s)
    if kind == D_GELU_TANH:     # x * s(u), s the sigmoid, u = 2 sqrt(2 / pi) (x + 0.044715 x^3)
        t = x * x
        s = one / sigmoid_under(v_fill(x, 1.5957691216057307) * v_fma(v_fill(x, 0.044715) * t, x, x))
        w = x * v_fill(x, 1.5957691216057307) * v_fma(v_fill(x, 0.134145), t, one)
        return g * s * v_fma(w, one - s, one)
    if kind == D_ELU:
        return v_where_lt(zero, x, g, g * a * b * v_exp(v_min(zero, x * b)))
    if kind == D_SOFTPLUS:
        return v_where_lt(b, x * a, g, g / sigmoid_under(x * a))
    if kind == D_MISH:          # t = tanh(softplus(x)), as in `v_mish`
        s = v_exp(v_min(v_fill(x, 40), x))
        w = s * (s + v_fill(x, 2))
        t = w / (w + v_fill(x, 2))
        return g * v_fma(x / sigmoid_under(x), v_fma(-t, t, one), t)
    return v_fill(x, NAN)


cdef inline void gradient_vectors(int kind, double a, double b, const vreal* x, const vreal* g, vreal* y,
                                  Py_ssize_t n) noexcept nogil:
    """y = gradient(x, g) over n elements; y may be x or g."""
    cdef Py_ssize_t k = 0
    cdef int lanes = v_lanes(x), part
    cdef vreal va = v_all(x, a), vb = v_all(x, b)
    while k + lanes <= n:
        v_put(y, k, gradient(kind, v_get(x, k), v_get(g, k), va, vb))
        k += lanes
    if k < n:
        part = <int>(n - k)
        v_put_n(y, k, gradient(kind, v_get_else(x, k, part, va), v_get_else(g, k, part, va), va, vb), part)


cdef inline void gradient_floats(int kind, double a, double b, const vf* x, const vf* g, vf* y,
                                 Py_ssize_t n) noexcept nogil:
    gradient_vectors(kind, a, b, x, g, y, n)


cdef inline void gradient_doubles(int kind, double a, double b, const vd* x, const vd* g, vd* y,
                                  Py_ssize_t n) noexcept nogil:
    gradient_vectors(kind, a, b, x, g, y, n)


ctypedef void (*gradient_of_floats)(int, double, double, const vf*, const vf*, vf*, Py_ssize_t) noexcept nogil
ctypedef void (*gradient_of_doubles)(int, double, double, const vd*, const vd*, vd*, Py_ssize_t) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_gradient_floats "FC_SWITCH_KIND" (int most, int kind, gradient_of_floats f, ...)
    void switch_gradient_doubles "FC_SWITCH_KIND" (int most, int kind, gradient_of_doubles f, ...)


cdef void gradient_run(int kind, double a, double b, const real* x, const real* g, real* y, Py_ssize_t begin,
                       Py_ssize_t end) noexcept nogil:
    """Elements [begin, end)."""
    cdef uint64_t state = fc_flush_denormals()
    if real is float:
        switch_gradient_floats(D_KINDS - 1, kind, gradient_floats, a, b, <const vf*>(x + begin),
                               <const vf*>(g + begin), <vf*>(y + begin), end - begin)
    else:
        switch_gradient_doubles(D_KINDS - 1, kind, gradient_doubles, a, b, <const vd*>(x + begin),
                                <const vd*>(g + begin), <vd*>(y + begin), end - begin)
    fc_restore_denormals(state)


cdef void gradient_flat(int kind, double a, double b, const real* x, const real* g, real* y, Py_ssize_t n,
                        int threads) noexcept nogil:
    cdef Py_ssize_t part, page = PAGE // sizeof(real), pages = (n + page - 1) // page
    for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
        gradient_run(kind, a, b, x, g, y, pages * part // threads * page, min(n, pages * (part + 1) // threads * page))


def activation_gradient(int kind, cnp.ndarray x, cnp.ndarray g, double a, double b, int threads):
    """g times the derivative of a row of GRADIENTS at x, which is of g's shape, with its parameters."""
    cdef cnp.ndarray y = PyArray_NewLikeArray(g, cnp.NPY_CORDER, NULL, 0)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(g)
    if not 0 <= kind < D_KINDS:
        raise ValueError(f"fastconv: no gradient has the number {kind}; GRADIENTS names them")
    threads = useful_threads(n, SHARE_COMPUTING if kind >= D_SIGMOID else SHARE_COPYING, threads)
    with nogil:
        if cnp.PyArray_TYPE(g) == cnp.NPY_FLOAT:
            gradient_flat(kind, a, b, <const float*>cnp.PyArray_DATA(x), <const float*>cnp.PyArray_DATA(g),
                          <float*>cnp.PyArray_DATA(y), n, threads)
        else:
            gradient_flat(kind, a, b, <const double*>cnp.PyArray_DATA(x), <const double*>cnp.PyArray_DATA(g),
                          <double*>cnp.PyArray_DATA(y), n, threads)
    return y


# --- pooling --------------------------------------------------------------------------------------


cdef void scatter_plane(const real* g, const int64_t* places, Py_ssize_t n, real* y, Py_ssize_t size) noexcept nogil:
    """y = 0, y[places[k]] += g[k]. g, places: (n,); y: (size,)

    A place outside is skipped: that of a window which sees only padding, or one that its caller has changed.
    """
    cdef Py_ssize_t k
    memset(y, 0, size * sizeof(real))
    for k in range(n):
        if 0 <= places[k] < size:
            y[places[k]] += g[k]


cdef void spread_plane(const real* g, const Py_ssize_t* rows, Py_ssize_t oh, const Py_ssize_t* cols, Py_ssize_t ow,
                       double divisor, real* y, Py_ssize_t h, Py_ssize_t w, real* row) noexcept nogil:
    """Each pixel of a window gets its share of g. g: (oh, ow); y: (h, w); row: (w,), a scratch

    rows, cols: as `pool_windows` gives them
    """
    cdef Py_ssize_t oy, ox, iy, ix
    cdef real v
    memset(y, 0, h * w * sizeof(real))
    for oy in range(oh):
        memset(row, 0, w * sizeof(real))
        for ox in range(ow):
            v = g[oy * ow + ox] / <real>(divisor if divisor != 0 else <double>(rows[3 * oy + 2] * cols[3 * ox + 2]))
            for ix in range(cols[3 * ox], cols[3 * ox + 1]):
                row[ix] += v
        for iy in range(rows[3 * oy], rows[3 * oy + 1]):
            for ix in range(w):
                y[iy * w + ix] += row[ix]


def pool_gradient(cnp.ndarray g, places, rows, cols, double divisor, tuple shape, int threads):
    """The gradient of pooling, of the shape (..., h, w). g: (..., oh, ow)

    places: int64, where each maximum stands; or None for means, of the windows (rows, cols), whose divisor may be given
    """
    cdef int ndim = cnp.PyArray_NDIM(g), axis
    cdef Py_ssize_t oh = cnp.PyArray_DIMS(g)[ndim - 2], ow = cnp.PyArray_DIMS(g)[ndim - 1], planes = 1, p, h, w
    cdef cnp.npy_intp dims[MAX_AXES]
    cdef cnp.ndarray y
    cdef const int64_t* place = <const int64_t*>data_or_null(places)
    cdef const Py_ssize_t* down = <const Py_ssize_t*>data_or_null(rows)
    cdef const Py_ssize_t* across = <const Py_ssize_t*>data_or_null(cols)
    cdef Py_ssize_t part
    cdef char* scratch = NULL
    for axis in range(ndim):
        dims[axis] = shape[axis]
        planes *= dims[axis] if axis < ndim - 2 else 1
    h, w = dims[ndim - 2], dims[ndim - 1]
    y = cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(g), 0)
    threads = useful_threads(planes * h * w, SHARE_GATHERING, threads)
    scratch = <char*>malloc(threads * (w + 1) * sizeof(double))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            if cnp.PyArray_TYPE(g) == cnp.NPY_FLOAT:
                pool_planes(<const float*>cnp.PyArray_DATA(g), place, down, oh, across, ow, divisor,
                            <float*>cnp.PyArray_DATA(y), h, w, <float*>scratch + part * (w + 1),
                            planes * part // threads, planes * (part + 1) // threads)
            else:
                pool_planes(<const double*>cnp.PyArray_DATA(g), place, down, oh, across, ow, divisor,
                            <double*>cnp.PyArray_DATA(y), h, w, <double*>scratch + part * (w + 1),
                            planes * part // threads, planes * (part + 1) // threads)
    free(scratch)
    return y


cdef void pool_planes(const real* g, const int64_t* places, const Py_ssize_t* rows, Py_ssize_t oh,
                      const Py_ssize_t* cols, Py_ssize_t ow, double divisor, real* y, Py_ssize_t h, Py_ssize_t w,
                      real* row, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Channels [begin, end) of `pool_gradient`. row: (w,)"""
    cdef Py_ssize_t p, n = oh * ow
    for p in range(begin, end):
        if places != NULL:
            scatter_plane(g + p * n, places + p * n, n, y + p * h * w, h * w)
        else:
            spread_plane(g + p * n, rows, oh, cols, ow, divisor, y + p * h * w, h, w, row)


# --- norms ----------------------------------------------------------------------------------------


cdef void product_sums(const vreal* g, double from_g, const vreal* x, double from_x, Py_ssize_t n,
                       double* sums) noexcept nogil:
    """sums[0] += the sum of g, sums[1] += that of (g - from_g) * (x - from_x) unless x is NULL. g, x: (n,)"""
    cdef vreal first[SUM_CHAINS]
    cdef vreal second[SUM_CHAINS]
    cdef vreal u, v, zero = v_all(g, 0), a = v_all(g, from_g), b = v_all(g, from_x)
    cdef Py_ssize_t k = 0, stop
    cdef int i, part, lanes = v_lanes(g)
    while k < n:
        stop = min(n, k + SUM_RUN)
        for i in range(SUM_CHAINS):
            first[i] = second[i] = zero
        while k + SUM_CHAINS * lanes <= stop:
            for i in range(SUM_CHAINS):
                u = v_get(g, k + i * lanes)
                first[i] = first[i] + u
                if x != NULL:
                    second[i] = v_fma(u - a, v_get(x, k + i * lanes) - b, second[i])
            k += SUM_CHAINS * lanes
        while k < stop:
            part = <int>min(<Py_ssize_t>lanes, stop - k)
            u = v_get(g, k) if part == lanes else v_get_else(g, k, part, zero)
            first[0] = first[0] + u
            if x != NULL:
                u = u - a if part == lanes else v_get_else(g, k, part, a) - a
                v = v_get(x, k) if part == lanes else v_get_else(x, k, part, b)
                second[0] = v_fma(u, v - b, second[0])
            k += part
        sums[0] += v_sum((first[0] + first[1]) + (first[2] + first[3]))
        sums[1] += v_sum((second[0] + second[1]) + (second[2] + second[3]))


cdef void channel_share(const real* g, const double* from_g, const real* x, const double* from_x, Py_ssize_t n,
                        Py_ssize_t c, Py_ssize_t inner, double* sums, Py_ssize_t begin,
                        Py_ssize_t end) noexcept nogil:
    """Channels [begin, end) of `channel_sums`."""
    cdef Py_ssize_t i, k, plane
    cdef uint64_t state = fc_flush_denormals()
    for k in range(begin, end):
        sums[2 * k] = sums[2 * k + 1] = 0
        for i in range(n):
            plane = (i * c + k) * inner
            if real is float:
                product_sums(<const vf*>(g + plane), from_g[k] if from_g != NULL else 0,
                             <const vf*>(x + plane) if x != NULL else NULL, from_x[k] if from_x != NULL else 0, inner,
                             sums + 2 * k)
            else:
                product_sums(<const vd*>(g + plane), from_g[k] if from_g != NULL else 0,
                             <const vd*>(x + plane) if x != NULL else NULL, from_x[k] if from_x != NULL else 0, inner,
                             sums + 2 * k)
    fc_restore_denormals(state)


def channel_sums(cnp.ndarray g, from_g, x, from_x, Py_ssize_t n, Py_ssize_t c, int threads):
    """The sums of g and of (g - from_g) * (x - from_x) over each channel, (c, 2) float64. g and x: (n, c, ...)

    x may be None, and the second sums mean nothing then. from_g, from_x: (c,) float64, or None for 0
    """
    cdef cnp.npy_intp dims[2]
    cdef Py_ssize_t inner = cnp.PyArray_SIZE(g) // (n * c) if n * c else 0, part
    cdef cnp.ndarray sums
    cdef const void* more = data_or_null(x)
    cdef const double* a = <const double*>data_or_null(from_g)
    cdef const double* b = <const double*>data_or_null(from_x)
    dims[0], dims[1] = c, 2
    sums = cnp.PyArray_EMPTY(2, dims, cnp.NPY_DOUBLE, 0)
    threads = useful_threads(cnp.PyArray_SIZE(g), SHARE_COPYING, threads)
    with nogil:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            if cnp.PyArray_TYPE(g) == cnp.NPY_FLOAT:
                channel_share(<const float*>cnp.PyArray_DATA(g), a, <const float*>more, b, n, c, inner,
                              <double*>cnp.PyArray_DATA(sums), c * part // threads, c * (part + 1) // threads)
            else:
                channel_share(<const double*>cnp.PyArray_DATA(g), a, <const double*>more, b, n, c, inner,
                              <double*>cnp.PyArray_DATA(sums), c * part // threads, c * (part + 1) // threads)
    return sums


cdef void combine_vectors(const vreal* g, const vreal* x, const double* f, vreal* y, Py_ssize_t n) noexcept nogil:
    """y = f[0] * g + f[1] * (x - f[2]) + f[3] over n elements."""
    cdef vreal u, v, a = v_all(g, f[0]), b = v_all(g, f[1]), c = v_all(g, f[2]), d = v_all(g, f[3])
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(g)
    while k + lanes <= n:
        v_put(y, k, v_fma(v_get(g, k), a, v_fma(v_get(x, k) - c, b, d)))
        k += lanes
    if k < n:
        part = <int>(n - k)
        u, v = v_get_else(g, k, part, a), v_get_else(x, k, part, c)
        v_put_n(y, k, v_fma(u, a, v_fma(v - c, b, d)), part)


cdef void combine_share(const real* g, const real* x, const double* factors, real* y, Py_ssize_t c, Py_ssize_t inner,
                        Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Planes [begin, end) of `combine`."""
    cdef Py_ssize_t plane
    cdef const double* f
    cdef uint64_t state = fc_flush_denormals()
    for plane in range(begin, end):
        f = factors + 4 * (plane % c)
        if real is float:
            combine_vectors(<const vf*>(g + plane * inner), <const vf*>(x + plane * inner), f,
                            <vf*>(y + plane * inner), inner)
        else:
            combine_vectors(<const vd*>(g + plane * inner), <const vd*>(x + plane * inner), f,
                            <vd*>(y + plane * inner), inner)
    fc_restore_denormals(state)


def combine(cnp.ndarray g, cnp.ndarray x, cnp.ndarray factors, Py_ssize_t n, int threads):
    """f[0] * g + f[1] * (x - f[2]) + f[3] for each channel, f = factors[k]. g, x: (n, c, ...); factors: (c, 4) float64
    """
    cdef cnp.ndarray y = PyArray_NewLikeArray(g, cnp.NPY_CORDER, NULL, 0)
    cdef Py_ssize_t c = cnp.PyArray_DIMS(factors)[0], planes = n * c, part
    cdef Py_ssize_t inner = cnp.PyArray_SIZE(g) // planes if planes else 0
    cdef const double* f = <const double*>cnp.PyArray_DATA(factors)
    threads = useful_threads(cnp.PyArray_SIZE(g), SHARE_COPYING, threads)
    with nogil:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            if cnp.PyArray_TYPE(g) == cnp.NPY_FLOAT:
                combine_share(<const float*>cnp.PyArray_DATA(g), <const float*>cnp.PyArray_DATA(x), f,
                              <float*>cnp.PyArray_DATA(y), c, inner, planes * part // threads,
                              planes * (part + 1) // threads)
            else:
                combine_share(<const double*>cnp.PyArray_DATA(g), <const double*>cnp.PyArray_DATA(x), f,
                              <double*>cnp.PyArray_DATA(y), c, inner, planes * part // threads,
                              planes * (part + 1) // threads)
    return y
