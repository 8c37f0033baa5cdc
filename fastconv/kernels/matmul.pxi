"""Products of two activations: attention's."""

cdef enum:
    PACK_ROWS = 8                   # of a matrix at a time, so that it is read line after line


cdef void pack_columns(const float* b, Py_ssize_t step, Py_ssize_t k, Py_ssize_t n, float* out) noexcept nogil:
    """b: (k, n), rows a step apart -> panels of (k, FC_NR), and where one vector holds what is left, one of (k, FC_W).

    Zeros fill up.
    """
    cdef Py_ssize_t whole = n // FC_NR * FC_NR, row = 0, stop, first, j
    cdef int left = <int>(n - whole)
    cdef float* w
    while row < k:
        stop = min(row + PACK_ROWS, k)
        first = 0
        while first < whole:
            w = out + first * k + row * FC_NR
            for j in range(row, stop):
                v_store(w, v_load(b + j * step + first))
                v_store(w + FC_W, v_load(b + j * step + first + FC_W))
                w += FC_NR
            first += FC_NR
        row = stop
    w = out + whole * k
    if left > FC_W:
        for j in range(k):
            v_store(w, v_load(b + j * step + whole))
            v_store(w + FC_W, v_load_n(b + j * step + whole + FC_W, left - FC_W))
            w += FC_NR
    elif left:
        for j in range(k):
            v_store(w, v_load_n(b + j * step + whole, left))
            w += FC_W


cdef void panels_product(const float* x, Py_ssize_t x_step, const float* panel, float* out, Py_ssize_t y_step,
                         Py_ssize_t m, Py_ssize_t k, Py_ssize_t o) noexcept nogil:
    """y = x . z. x: (m, k) and y: (m, o), rows a step apart; z: (k, o) in panels"""
    cdef const float* a[TILES * MAX_M]
    cdef float* y[TILES * MAX_M]
    cdef Activation none
    cdef Ahead far = nothing_ahead()
    cdef Epilogue e
    cdef Py_ssize_t j, rows, portion, first = 0, nv, zero = 0
    none.kind = ACT_NONE
    none.a = none.b = 0
    e = epilogue(NULL, &none)
    while first < o:
        nv = FC_NV if o - first > FC_W else 1
        e.valid = <int>min(o - first - (nv - 1) * FC_W, FC_W)
        portion = rows_at_once(m, <int>nv)
        rows = 0
        for j in range(m):
            a[rows] = x + j * x_step
            y[rows] = out + j * y_step + first
            rows += 1
            if rows == portion:
                run_inline(rows, <int>nv, a, &zero, 1, k, panel, &e, NULL, y, &far)
                rows = 0
        run_inline(rows, <int>nv, a, &zero, 1, k, panel, &e, NULL, y, &far)
        panel += k * nv * FC_W
        first += FC_NR


cdef void matmul(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 real* scratch) noexcept nogil:
    """y = x . z for each pair of matrices of contiguous images. record: MatmulRecord.

    x: (n, count, m, k); z: (n, count, k, o); y: (n, count, m, o). A unit is one product.
    scratch: one z in panels for float; products of double go to BLAS, one at a time.
    """
    cdef const MatmulRecord* p = <const MatmulRecord*>s.record
    cdef Py_ssize_t u, i, t
    cdef const real* x
    cdef const real* z
    cdef real* out
    if s.serial:                    # BLAS shares out its own work
        begin, end = 0, n * p.count
    for u in range(begin, end):
        i = u // p.count
        t = u - i * p.count
        x = <const real*>start(base, &s.x.place) + i * s.x.image + t * p.m * p.k
        z = <const real*>start(base, &s.z.place) + i * s.z.image + t * p.k * p.o
        out = <real*>start(base, &s.y.place) + i * s.y.image + t * p.m * p.o
        if p.k == 0:                # an empty sum; BLAS refuses it
            memset(out, 0, p.m * p.o * sizeof(real))
        elif real is float:
            pack_columns(z, p.o, p.k, p.o, scratch)
            panels_product(x, p.k, scratch, out, p.o, p.m, p.k, p.o)
        else:
            gemm(p.m, p.o, p.k, x, z, p.o, out)
