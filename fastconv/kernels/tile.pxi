"""The register tile: m rows x nv vectors of output channels, summed over K in one order.

Every matrix product of the engine (convolution, linear, Winograd's) is this one function, inlined with
constant m and nv so that the accumulators live in registers. Each output is one chain of FMAs over
k = 0..K-1 that starts at zero, whatever m is and wherever the row stands in its tile; hence the bits of
an image do not depend on what else is computed beside it.

Measured, Zen 4, one thread, peak 117 GFLOP/s: 14 x 2 at v4 115 to 117, 6 x 2 at v3 114 to 116.
"""

cdef enum:
    FC_NV = 2                       # vectors of a full panel
    FC_NR = FC_NV * FC_W               # output channels of a full panel
    MAX_M = 14                      # the tallest tile of any level
    WIDE = 4                        # panels that `wide` takes at once
    LINE = 16                       # floats in a cache line
    FAR = 262144                    # floats of a layer's weights that do not stay in L2 until they are used again
    TILES = 8                       # tiles whose row pointers are gathered before they run
    SET = 1024                      # floats: so far apart, lines share a set of L1 (64 sets of 64 bytes)
    SET_ROWS = 6                    # rows of a tile that share one: 8 lines, of which the weights need some


cdef inline Py_ssize_t odd_lines(Py_ssize_t floats) noexcept nogil:
    """Distance from one block of so many floats to the next: an odd number of cache lines.

    Blocks that are filled side by side, a line of each at a time, would else share few of the cache's sets.
    """
    return ((floats + LINE - 1) // LINE | 1) * LINE


# What follows the sum: bias, residual, activation, and where the results go.
cdef struct Epilogue:
    const float* bias               # (nv * W,) or NULL
    int kind                        # of the activation, and its parameters
    float a
    float b
    int valid                       # channels of the last vector, 1..W
    Py_ssize_t shift                # floats from what `y` points at to where the results go


# The weights that are wanted next: fetched into L2 while a product keeps the arithmetic busy.
cdef struct Ahead:
    const float* next               # where to go on
    const float* end
    Py_ssize_t lines                # to fetch for each LINE of steps


cdef inline Ahead nothing_ahead() noexcept nogil:
    cdef Ahead ahead
    ahead.next = ahead.end = NULL
    ahead.lines = 0
    return ahead


cdef inline Ahead ahead_of(const float* b, Py_ssize_t K, Py_ssize_t rows, Py_ssize_t floats) noexcept nogil:
    """The panel behind `b`, (K, FC_NR), in even shares for the tiles of so many rows; floats: of all panels.

    Inside a network large weights come from memory in every call: 256->256 at 14x14 took 1.40 ms there, 0.8 alone, and
    takes 1.20 (AVX2, Zen 4). With 16 floats in a vector it has not been measured, so nothing is fetched.
    """
    cdef Ahead ahead = nothing_ahead()
    cdef Py_ssize_t tiles = (rows + FC_MR - 1) // FC_MR
    if FC_W < 16 and floats > FAR and tiles:
        ahead.next = b + K * FC_NR
        ahead.end = ahead.next + K * FC_NR
        ahead.lines = (FC_NR + tiles - 1) // tiles
    return ahead


cdef inline Epilogue epilogue(const float* bias, const Activation* activation) noexcept nogil:
    cdef Epilogue e
    e.bias = bias
    e.kind = <int>activation.kind
    e.a = <float>activation.a
    e.b = <float>activation.b
    e.valid = FC_W
    e.shift = 0
    return e


cdef inline vany activate_inline(vany v, const Epilogue* e) noexcept nogil:
    """The activations up to LAST_INLINE, in a register. The others run over what was stored: `activate_stored`."""
    if e.kind == ACT_RELU:
        return activation(ACT_RELU, v, v, v)
    if e.kind == ACT_HARDTANH:
        return activation(ACT_HARDTANH, v, v_fill(v, e.a), v_fill(v, e.b))
    if e.kind == ACT_LEAKY_RELU:
        return activation(ACT_LEAKY_RELU, v, v_fill(v, e.a), v)
    return v


cdef inline void activate_stored(float* y, Py_ssize_t n, const Epilogue* e) noexcept nogil:
    """y = act(y), for activations that take too many instructions to stand in every kernel."""
    if e.kind > LAST_INLINE:
        activate_run(e.kind, <double>e.a, <double>e.b, <const float*>y, y, n)


cdef inline void tile(int m, int nv, Py_ssize_t count, const float** a, const Py_ssize_t* offsets,
                      Py_ssize_t segments, Py_ssize_t length, const float* b, const Epilogue* e, const float** z,
                      float** y, Ahead* far) noexcept nogil:
    """y[i] = act(a[i] . B + bias (+ z[i])) for `count` tiles of m rows and nv (1 or 2) vectors of channels.

    a: count * m pointers; element k = s*length + t of row i is a[i][offsets[s] + t]
    b: (K, nv * W); z: count * m pointers or NULL; y: count * m pointers; far: fetched meanwhile

    It is written so that GCC keeps the accumulators in registers from the first zero to the last store: the
    vectors are spelled out, every loop over rows is innermost, and the loop over tiles stands around them all
    (early unrolling, which must come before arrays become registers, passes outermost loops by).
    """
    cdef vf acc0[MAX_M]
    cdef vf acc1[MAX_M]
    cdef vf b0, b1, x
    cdef const float* w
    cdef const float** ahead
    cdef int i
    cdef Py_ssize_t s, k, t, pair, shift = e.shift
    cdef const float* next = far.next       # a store through `far` would have all pointers of `a` loaded in each step
    cdef const float* end = far.end
    cdef Py_ssize_t lines = far.lines
    cdef bint crowded = m > 1 and (a[m - 1] - a[0]) % SET == 0      # the next rows would push out these
    b1 = v_set1(0)
    for t in range(count):
        w = b
        ahead = a if crowded or t + 1 == count else a + m
        for i in range(m):
            acc0[i] = v_set1(0)
            acc1[i] = v_set1(0)
        for s in range(segments):
            k = offsets[s]
            if nv == 1:                     # two steps at a time: each pointer is fetched once for both
                for pair in range(length // 2):
                    b0 = v_load(w)
                    b1 = v_load(w + FC_W)
                    for i in range(m):
                        acc0[i] = v_fma(v_set1(a[i][k]), b0, acc0[i])
                        acc0[i] = v_fma(v_set1(a[i][k + 1]), b1, acc0[i])
                    w += 2 * FC_W
                    k += 2
                if length % 2:
                    b0 = v_load(w)
                    for i in range(m):
                        acc0[i] = v_fma(v_set1(a[i][k]), b0, acc0[i])
                    w += FC_W
            else:
                for k in range(k, k + length):
                    if fc_rare(k % LINE == 0):      # the next tile's rows, while this one keeps the arithmetic busy
                        for i in range(m):
                            v_prefetch(ahead[i] + k)
                        if next < end:
                            for pair in range(lines):
                                v_prefetch_l2(next)
                                next += LINE
                    b0 = v_load(w)
                    b1 = v_load(w + FC_W)
                    for i in range(m):
                        x = v_set1(a[i][k])
                        acc0[i] = v_fma(x, b0, acc0[i])
                        acc1[i] = v_fma(x, b1, acc1[i])
                    w += 2 * FC_W
        if e.bias != NULL:
            b0 = v_load(e.bias)
            if nv == 2:
                b1 = v_load(e.bias + FC_W)
            for i in range(m):
                acc0[i] = acc0[i] + b0
                if nv == 2:
                    acc1[i] = acc1[i] + b1
        if z != NULL:
            for i in range(m):
                if nv == 2:
                    acc0[i] = acc0[i] + v_load(z[i])
                    acc1[i] = acc1[i] + v_load_n(z[i] + FC_W, e.valid)
                else:
                    acc0[i] = acc0[i] + v_load_n(z[i], e.valid)
        if e.kind == ACT_RELU:
            b0 = v_set1(0)
            for i in range(m):
                acc0[i] = v_max(b0, acc0[i])
                if nv == 2:
                    acc1[i] = v_max(b0, acc1[i])
        elif e.kind == ACT_HARDTANH:
            b0 = v_set1(e.a)
            b1 = v_set1(e.b)
            for i in range(m):
                acc0[i] = v_min(b1, v_max(b0, acc0[i]))
                if nv == 2:
                    acc1[i] = v_min(b1, v_max(b0, acc1[i]))
        elif e.kind == ACT_LEAKY_RELU:
            b0 = v_set1(e.a)
            for i in range(m):
                acc0[i] = v_leaky(acc0[i], b0)
                if nv == 2:
                    acc1[i] = v_leaky(acc1[i], b0)
        if e.valid == FC_W:
            for i in range(m):
                v_store(y[i] + shift, acc0[i])
                if nv == 2:
                    v_store(y[i] + shift + FC_W, acc1[i])
        else:
            for i in range(m):
                if nv == 2:
                    v_store(y[i] + shift, acc0[i])
                    v_store_n(y[i] + shift + FC_W, acc1[i], e.valid)
                else:
                    v_store_n(y[i] + shift, acc0[i], e.valid)
        a += m
        y += m
        if z != NULL:
            z += m
    far.next = next


cdef inline void wide(int panels, int half, const float* a, const Py_ssize_t* offsets, Py_ssize_t segments,
                      Py_ssize_t length, const float* b, Py_ssize_t panel, const Epilogue* e,
                      float* y) noexcept nogil:
    """The tile turned on its side, for a product of one row: y = act(a . B + bias) over several panels.

    One row of one panel is two chains of FMAs, which wait for each other; several panels are enough chains.
    a: (K,) as in `tile`; b: `panels` of (K, FC_NR), `panel` floats apart, and behind them, with `half`, one of (K, W);
    e.valid: of the very last vector
    """
    cdef vf acc[WIDE * FC_NV + 1]
    cdef vf x
    cdef const float* w = b
    cdef const float* h = b + panels * panel
    cdef int j, last = panels * FC_NV + half - 1
    cdef Py_ssize_t s, k
    for j in range(last + 1):
        acc[j] = v_set1(0)
    for s in range(segments):
        for k in range(offsets[s], offsets[s] + length):
            x = v_set1(a[k])
            for j in range(panels * FC_NV):
                acc[j] = v_fma(x, v_load(w + (j // FC_NV) * panel + (j % FC_NV) * FC_W), acc[j])
            w += FC_NR
            if half:
                acc[last] = v_fma(x, v_load(h), acc[last])
                h += FC_W
    for j in range(last + 1):
        acc[j] = activate_inline(acc[j] + v_load(e.bias + j * FC_W), e)
    for j in range(last):
        v_store(y + j * FC_W, acc[j])
    if e.valid == FC_W:
        v_store(y + last * FC_W, acc[last])
    else:
        v_store_n(y + last * FC_W, acc[last], e.valid)


ctypedef void (*tile_function)(int, int, Py_ssize_t, const float**, const Py_ssize_t*, Py_ssize_t, Py_ssize_t,
                               const float*, const Epilogue*, const float**, float**, Ahead*) noexcept nogil
ctypedef void (*wide_function)(int, int, const float*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, const float*,
                               Py_ssize_t, const Epilogue*, float*) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_tile "FC_SWITCH" (int most, int m, tile_function f, int nv, ...)
    void switch_wide "FC_SWITCH" (int most, int panels, wide_function f, int half, ...)


cdef void run_tile(int m, int nv, Py_ssize_t count, const float** a, const Py_ssize_t* offsets, Py_ssize_t segments,
                   Py_ssize_t length, const float* b, const Epilogue* e, const float** z,
                   float** y, Ahead* far) noexcept nogil:
    """The tile at a height and width known only now."""
    if nv == FC_NV:
        switch_tile(FC_MR, m, tile, FC_NV, count, a, offsets, segments, length, b, e, z, y, far)
    else:
        switch_tile(FC_MR1, m, tile, 1, count, a, offsets, segments, length, b, e, z, y, far)


cdef void run_wide(int panels, bint half, const float* a, const Py_ssize_t* offsets, Py_ssize_t segments,
                   Py_ssize_t length, const float* b, Py_ssize_t panel, const Epilogue* e,
                   float* y) noexcept nogil:
    """`wide` at a number of panels known only now. With `half` there is room for one less."""
    if half:
        switch_wide(WIDE - 1, panels, wide, 1, a, offsets, segments, length, b, panel, e, y)
    else:
        switch_wide(WIDE, panels, wide, 0, a, offsets, segments, length, b, panel, e, y)
    activate_stored(y, (panels * FC_NV + half - 1) * FC_W + e.valid, e)
