"""The register tile: m rows x nv vectors of output channels, summed over K in one order.

Every matrix product of the engine (convolution, linear, Winograd's) is this one function, inlined with
constant m and nv so that the accumulators live in registers. Each output is one chain of FMAs over
k = 0..K-1 that starts at zero, whatever m is and wherever the row stands in its tile; hence the bits of
an image do not depend on what else is computed beside it.

Measured, Zen 4, one thread, peak 117 GFLOP/s: 14 x 2 at v4 115 to 117, 6 x 2 at v3 114 to 116.
"""

cdef enum:
    FC_NV = 2                       # vectors of a full panel
    NR = FC_NV * FC_W               # output channels of a full panel
    MAX_M = 14                      # the tallest tile of any level
    WIDE = 4                        # panels that `wide` takes at once

# What follows the sum: bias, activation, residual, and where the results go.
cdef struct Epilogue:
    const float* bias               # (nv * W,)
    int activation
    float low
    float high
    float slope
    int valid                       # channels of the last vector, 1..W


cdef inline vf activate(vf v, const Epilogue* e) noexcept nogil:
    if e.activation == CLAMP:
        return v_min(v_set1(e.high), v_max(v_set1(e.low), v))
    if e.activation == LEAKY:
        return v_leaky(v, v_set1(e.slope))
    return v


cdef inline void tile(int m, int nv, const float** a, const Py_ssize_t* offsets, Py_ssize_t segments,
                      Py_ssize_t length, const float* b, const Epilogue* e, const float** z,
                      float** y) noexcept nogil:
    """y[i] = act(a[i] . B + bias (+ z[i])), i < m, for nv vectors of channels.

    a: m pointers; element k = s*length + t of row i is a[i][offsets[s] + t]
    b: (K, nv * W); z: m pointers or NULL; y: m pointers
    """
    cdef vf acc[MAX_M][FC_NV]
    cdef vf bv[FC_NV]
    cdef vf x
    cdef int i, j
    cdef Py_ssize_t s, k
    for i in range(m):
        for j in range(nv):
            acc[i][j] = v_set1(0)
    for s in range(segments):
        for k in range(offsets[s], offsets[s] + length):
            for j in range(nv):
                bv[j] = v_load(b + j * FC_W)
            for i in range(m):
                x = v_set1(a[i][k])
                for j in range(nv):
                    acc[i][j] = v_fma(x, bv[j], acc[i][j])
            b += nv * FC_W
    for i in range(m):
        for j in range(nv):
            x = acc[i][j] + v_load(e.bias + j * FC_W)
            if z != NULL:
                x = x + (v_load(z[i] + j * FC_W) if j < nv - 1 else v_load_n(z[i] + j * FC_W, e.valid))
            acc[i][j] = activate(x, e)
    if e.valid == FC_W:
        for i in range(m):
            for j in range(nv):
                v_store(y[i] + j * FC_W, acc[i][j])
    else:
        for i in range(m):
            for j in range(nv - 1):
                v_store(y[i] + j * FC_W, acc[i][j])
            v_store_n(y[i] + (nv - 1) * FC_W, acc[i][nv - 1], e.valid)


cdef inline void wide(int panels, const float* a, const Py_ssize_t* offsets, Py_ssize_t segments,
                      Py_ssize_t length, const float* b, Py_ssize_t panel, const Epilogue* e,
                      float* y) noexcept nogil:
    """The tile turned on its side, for a product of one row: y = act(a . B + bias) over `panels` full panels.

    One row of one panel is two chains of FMAs, which wait for each other; several panels are enough chains.
    a: (K,) as in `tile`; b: panels of (K, NR), `panel` floats apart; e.valid: of the last vector
    """
    cdef vf acc[WIDE * FC_NV]
    cdef vf x
    cdef int j, p
    cdef Py_ssize_t s, k
    for j in range(panels * FC_NV):
        acc[j] = v_set1(0)
    for s in range(segments):
        for k in range(offsets[s], offsets[s] + length):
            x = v_set1(a[k])
            for p in range(panels):
                for j in range(FC_NV):
                    acc[p * FC_NV + j] = v_fma(x, v_load(b + p * panel + j * FC_W), acc[p * FC_NV + j])
            b += NR
    for j in range(panels * FC_NV):
        acc[j] = activate(acc[j] + v_load(e.bias + j * FC_W), e)
    for j in range(panels * FC_NV - 1):
        v_store(y + j * FC_W, acc[j])
    if e.valid == FC_W:
        v_store(y + (panels * FC_NV - 1) * FC_W, acc[panels * FC_NV - 1])
    else:
        v_store_n(y + (panels * FC_NV - 1) * FC_W, acc[panels * FC_NV - 1], e.valid)


cdef void run_tile(int m, int nv, const float** a, const Py_ssize_t* offsets, Py_ssize_t segments,
                   Py_ssize_t length, const float* b, const Epilogue* e, const float** z,
                   float** y) noexcept nogil:
    """The tile at a height and width known only now. Heights above the level's tallest are never asked for;
    they fold to that height so that no code is made for them."""
    if nv == FC_NV:
        if m == 1:
            tile(1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 2:
            tile(2 if FC_MR >= 2 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 3:
            tile(3 if FC_MR >= 3 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 4:
            tile(4 if FC_MR >= 4 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 5:
            tile(5 if FC_MR >= 5 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 6:
            tile(6 if FC_MR >= 6 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 7:
            tile(7 if FC_MR >= 7 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 8:
            tile(8 if FC_MR >= 8 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 9:
            tile(9 if FC_MR >= 9 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 10:
            tile(10 if FC_MR >= 10 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 11:
            tile(11 if FC_MR >= 11 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 12:
            tile(12 if FC_MR >= 12 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 13:
            tile(13 if FC_MR >= 13 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
        elif m == 14:
            tile(14 if FC_MR >= 14 else 1, FC_NV, a, offsets, segments, length, b, e, z, y)
    else:
        if m == 1:
            tile(1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 2:
            tile(2 if FC_MR1 >= 2 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 3:
            tile(3 if FC_MR1 >= 3 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 4:
            tile(4 if FC_MR1 >= 4 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 5:
            tile(5 if FC_MR1 >= 5 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 6:
            tile(6 if FC_MR1 >= 6 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 7:
            tile(7 if FC_MR1 >= 7 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 8:
            tile(8 if FC_MR1 >= 8 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 9:
            tile(9 if FC_MR1 >= 9 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 10:
            tile(10 if FC_MR1 >= 10 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 11:
            tile(11 if FC_MR1 >= 11 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 12:
            tile(12 if FC_MR1 >= 12 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 13:
            tile(13 if FC_MR1 >= 13 else 1, 1, a, offsets, segments, length, b, e, z, y)
        elif m == 14:
            tile(14 if FC_MR1 >= 14 else 1, 1, a, offsets, segments, length, b, e, z, y)


cdef void run_wide(int panels, const float* a, const Py_ssize_t* offsets, Py_ssize_t segments,
                   Py_ssize_t length, const float* b, Py_ssize_t panel, const Epilogue* e,
                   float* y) noexcept nogil:
    if panels == 1:
        wide(1, a, offsets, segments, length, b, panel, e, y)
    elif panels == 2:
        wide(2, a, offsets, segments, length, b, panel, e, y)
    elif panels == 3:
        wide(3, a, offsets, segments, length, b, panel, e, y)
    elif panels == 4:
        wide(4, a, offsets, segments, length, b, panel, e, y)
