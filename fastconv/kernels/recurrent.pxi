"""Recurrent layers: a walk along a sequence, from the product of all its steps with the input's weights on.

What a step adds to it, the product of the last hidden state with its own weights, is one of the register tile, whose
rows are sequences; for a lone sequence several panels are taken at once. Sums over K have one order in both, so that
the bits of a sequence do not depend on what is computed beside it.
"""

cdef enum RecurrentKind:
    LSTM = 0                    # gates as PyTorch has them: i, f, g, o
    GRU = 1                     # r, z, n
    GRU_RESET_FIRST = 2         # the reset gate comes before the hidden state's product, not behind it
    RNN = 3

cdef enum:
    SEQUENCES = TILES * MAX_M   # of a unit, at most


cdef inline vreal get_part(const vreal* x, Py_ssize_t k, int part) noexcept nogil:
    """elements k.. of x: a whole vector, or the first `part` of one and zeros"""
    if part == v_lanes(x):
        return v_get(x, k)
    return v_get_else(x, k, part, v_all(x, 0))


cdef void lstm_gates(const vreal* x, const vreal* g, vreal* c, vreal* h, Py_ssize_t n) noexcept nogil:
    """c = f * c + i * g, h = o * tanh(c); x, g: (4, n), the gates' two parts; c, h: (n,).

    Products with a tanh share its division. c may be infinite where it is given, and 0 times that is NaN.
    """
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(x)
    cdef vreal i, f, u, o, under
    while k < n:
        part = <int>min(<Py_ssize_t>lanes, n - k)
        i = sigmoid_under(get_part(x, k, part) + get_part(g, k, part))
        f = v_sigmoid(get_part(x, n + k, part) + get_part(g, n + k, part))
        o = sigmoid_under(get_part(x, 3 * n + k, part) + get_part(g, 3 * n + k, part))
        u = tanh_over(get_part(x, 2 * n + k, part) + get_part(g, 2 * n + k, part), &under)
        u = get_part(c, k, part) * f + u / (i * under)
        put_part(c, k, u, part)
        u = tanh_over(u, &under)
        put_part(h, k, u / (o * under), part)
        k += lanes


cdef void gru_reset(const vreal* x, const vreal* g, const vreal* before, vreal* y, Py_ssize_t n) noexcept nogil:
    """y = r * before; x, g: (2, n), the gates' two parts; before, y: (n,)"""
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(x)
    while k < n:
        part = <int>min(<Py_ssize_t>lanes, n - k)
        put_part(y, k, v_sigmoid(get_part(x, k, part) + get_part(g, k, part)) * get_part(before, k, part), part)
        k += lanes


cdef void gru_gates(const vreal* x, const vreal* g, const vreal* before, bint reset, vreal* h,
                    Py_ssize_t n) noexcept nogil:
    """h = (1 - z) * n + z * before; x, g: (3, n), the gates' two parts; with `reset` r is applied to the last of g"""
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(x)
    cdef vreal z, u
    while k < n:
        part = <int>min(<Py_ssize_t>lanes, n - k)
        z = v_sigmoid(get_part(x, n + k, part) + get_part(g, n + k, part))
        u = get_part(g, 2 * n + k, part)
        if reset:               # a product, not a quotient: 0 times an infinite one is NaN
            u = u * v_sigmoid(get_part(x, k, part) + get_part(g, k, part))
        u = v_tanh(get_part(x, 2 * n + k, part) + u)
        put_part(h, k, v_fma(z, get_part(before, k, part) - u, u), part)
        k += lanes


cdef void add_rows(const vreal* x, const vreal* g, vreal* y, Py_ssize_t n) noexcept nogil:
    """y = x + g"""
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(x)
    while k < n:
        part = <int>min(<Py_ssize_t>lanes, n - k)
        put_part(y, k, get_part(x, k, part) + get_part(g, k, part), part)
        k += lanes


cdef void hidden_product(Py_ssize_t m, const real** h, Py_ssize_t K, const real* w, const real* bias,
                         Py_ssize_t channels, Py_ssize_t shift, real** out) noexcept nogil:
    """out[i][shift:] = h[i] . W + bias for m rows. h: m pointers to (K,); w: panels of (K, FC_NR), or (K, channels)"""
    cdef Py_ssize_t first = 0, panels, i, j, zero = 0
    cdef int nv
    cdef bint half
    cdef Activation none
    cdef Epilogue e
    cdef Ahead far = nothing_ahead()
    if real is float:
        none.kind = ACT_NONE
        none.a = none.b = 0
        e = epilogue(bias, &none)
        while first < channels:
            panels = min(<Py_ssize_t>WIDE, (channels - first + FC_NR - 1) // FC_NR)
            half = channels - first - (panels - 1) * FC_NR <= FC_W
            e.bias = bias + first
            if m == 1 and panels > half:
                e.valid = <int>min(channels - first - (panels - 1) * FC_NR - (0 if half else FC_W), FC_W)
                run_wide(<int>(panels - half), half, h[0], &zero, 1, K, w + first * K, FC_NR * K, &e,
                         out[0] + shift + first)
                first += panels * FC_NR
            else:
                nv = FC_NV if channels - first > FC_W else 1
                e.valid = <int>min(channels - first - (nv - 1) * FC_W, FC_W)
                e.shift = shift + first
                run_inline(m, nv, h, &zero, 1, K, w + first * K, &e, NULL, out, &far)
                first += FC_NR
    else:                       # a row at a time: its bits must not depend on how many there are
        for i in range(m):
            gemm(1, channels, K, h[i], w, channels, out[i] + shift)
            for j in range(channels):
                out[i][shift + j] += bias[j]


cdef void recurrent(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                    real* scratch) noexcept nogil:
    """Hidden states along sequences of `steps`, in one direction or both. record: RecurrentRecord.

    x: (n, rows, steps, directions, gates, size), the input's products; z: (n, rows, directions, size), the state before
    the first step, and behind it the cells, or no z, which is zeros; y: (n, rows, steps, c), of which c is (directions,
    size), and behind it the cells where they are asked for. A unit is `block` rows in one direction.
    scratch: (block, gates + 2, size), and (size,) zeros
    """
    cdef const RecurrentRecord* p = <const RecurrentRecord*>s.record
    cdef Py_ssize_t H = p.size, T = p.steps, D = s.units.parts, GH = p.gates * p.size, first = p.channels
    cdef const real* h[SEQUENCES]
    cdef const real* reset[SEQUENCES]
    cdef const real* x[SEQUENCES]
    cdef real* y[SEQUENCES]
    cdef real* g[SEQUENCES]
    cdef real* cells = scratch + s.units.block * GH
    cdef real* other = cells + s.units.block * H
    cdef real* zeros = other + s.units.block * H
    cdef Py_ssize_t u, d, r, i, j, k, m, t, row0, xstep, ystep
    memset(zeros, 0, H * sizeof(real))
    for u in range(begin, end):
        d = u % D
        row0 = u // D * s.units.block
        m = min(s.units.block, n * s.units.rows - row0)
        t = T - 1 if d else 0
        xstep, ystep = D * GH, s.y.c
        for k in range(m):
            i = (row0 + k) // s.units.rows
            r = row0 + k - i * s.units.rows
            x[k] = <const real*>start(base, &s.x.place) + i * s.x.image + (r * T + t) * xstep + d * GH
            y[k] = <real*>start(base, &s.y.place) + i * s.y.image + (r * T + t) * ystep + d * H
            g[k] = scratch + k * GH
            reset[k] = other + k * H
            h[k] = zeros
            if s.has_z:
                h[k] = <const real*>start(base, &s.z.place) + i * s.z.image + r * s.z.c + d * H
            memcpy(cells + k * H, h[k] + D * H if s.has_z and p.kind == LSTM else zeros, H * sizeof(real))
        if d:
            xstep, ystep = -xstep, -ystep
        for j in range(T):
            hidden_product(m, h, H, <const real*>start(base, &p.weight) + d * p.padded * H,
                           <const real*>start(base, &p.bias) + d * p.padded, first, 0, g)
            if p.kind == GRU_RESET_FIRST:
                for k in range(m):
                    if real is float:
                        gru_reset(<const vf*>x[k], <const vf*>g[k], <const vf*>h[k], <vf*>reset[k], H)
                    else:
                        gru_reset(<const vd*>x[k], <const vd*>g[k], <const vd*>h[k], <vd*>reset[k], H)
                hidden_product(m, reset, H, <const real*>start(base, &p.weight_new) + d * p.padded_new * H,
                               <const real*>start(base, &p.bias_new) + d * p.padded_new, H, first, g)
            for k in range(m):
                if p.kind == LSTM:
                    if real is float:
                        lstm_gates(<const vf*>x[k], <const vf*>g[k], <vf*>(cells + k * H), <vf*>y[k], H)
                    else:
                        lstm_gates(<const vd*>x[k], <const vd*>g[k], <vd*>(cells + k * H), <vd*>y[k], H)
                    if p.cells:
                        memcpy(y[k] + D * H, cells + k * H, H * sizeof(real))
                elif p.kind == RNN:
                    if real is float:
                        add_rows(<const vf*>x[k], <const vf*>g[k], <vf*>y[k], H)
                    else:
                        add_rows(<const vd*>x[k], <const vd*>g[k], <vd*>y[k], H)
                    activate_run(<int>p.activation.kind, 0, 0, <const real*>y[k], y[k], H)
                elif real is float:
                    gru_gates(<const vf*>x[k], <const vf*>g[k], <const vf*>h[k], p.kind == GRU, <vf*>y[k], H)
                else:
                    gru_gates(<const vd*>x[k], <const vd*>g[k], <const vd*>h[k], p.kind == GRU, <vd*>y[k], H)
                h[k] = y[k]
                x[k] += xstep
                y[k] += ystep
