"""What is done to one element at a time, and softmax.

The loops know arrays and lengths only; what knows steps stands at the end. A tail that fills no vector goes through
the same vector formula, so the bits of an element do not depend on where it stands.
"""

cdef enum:
    SOFTMAX_COLUMN = 1024           # elements of `inner` that softmax takes at once: a multiple of all widths


cdef void affine_channel_vectors(int kind, double a, double b, const vreal* x, const vreal* scale, const vreal* shift,
                                 vreal* y, Py_ssize_t c) noexcept nogil:
    """y = act(x * scale + shift) over the c channels of one pixel; y may be x."""
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(x)
    cdef vreal v, va = v_all(x, a), vb = v_all(x, b)
    while k + lanes <= c:
        v = v_fma(v_get(x, k), v_get(scale, k), v_get(shift, k))
        v_put(y, k, activate_cheap(kind, v, va, vb))
        k += lanes
    if k < c:
        part = <int>(c - k)
        v = v_fma(v_get_else(x, k, part, va), v_get_else(scale, k, part, va), v_get_else(shift, k, part, va))
        v_put_n(y, k, activate_cheap(kind, v, va, vb), part)


cdef void affine_channels(int kind, double a, double b, const real* x, const real* scale, const real* shift, real* y,
                          Py_ssize_t c) noexcept nogil:
    """y = act(x * scale + shift) over the c channels of one pixel; y may be x."""
    if real is float:
        affine_channel_vectors(kind, a, b, <const vf*>x, <const vf*>scale, <const vf*>shift, <vf*>y, c)
    else:
        affine_channel_vectors(kind, a, b, <const vd*>x, <const vd*>scale, <const vd*>shift, <vd*>y, c)
    if kind > LAST_INLINE:
        activate_run(kind, a, b, <const real*>y, y, c)


cdef void affine_plane_vectors(const vreal* x, double scale, double shift, vreal* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k = v_ahead(y, n)
    cdef int lanes = v_lanes(x)
    cdef vreal a = v_all(x, scale), b = v_all(x, shift)
    if k > 0:
        v_put_n(y, 0, v_fma(v_get_else(x, 0, <int>k, a), a, b), <int>k)
    while k + lanes <= n:
        v_put(y, k, v_fma(v_get(x, k), a, b))
        k += lanes
    if k < n:
        v_put_n(y, k, v_fma(v_get_else(x, k, <int>(n - k), a), a, b), <int>(n - k))


cdef void affine_plane(const real* x, double scale, double shift, real* y, Py_ssize_t n) noexcept nogil:
    """y = x * scale + shift over the n elements of one channel; scale and shift are rounded to x's precision."""
    if real is float:
        affine_plane_vectors(<const vf*>x, scale, shift, <vf*>y, n)
    else:
        affine_plane_vectors(<const vd*>x, scale, shift, <vd*>y, n)


cdef void softmax_row(bint logarithm, const vreal* x, vreal* y, Py_ssize_t n) noexcept nogil:
    """softmax or log_softmax of n neighbouring elements; y may be x. Vectors lie along the sum."""
    cdef Py_ssize_t i, k, whole
    cdef int lanes = v_lanes(x), part
    cdef vreal v, top, total, least = v_all(x, -INFINITY)
    whole = n // lanes * lanes
    part = <int>(n - whole)
    v = least
    for i in range(whole // lanes):
        k = i * lanes
        v = v_nanmax(v_get(x, k), v)
    if part > 0:
        v = v_nanmax(v_get_else(x, whole, part, least), v)
    top = v_all(x, v_top(v))
    total = v_all(x, 0)
    for i in range(whole // lanes):
        k = i * lanes
        v = v_exp(v_get(x, k) - top)
        total = total + v
        if not logarithm:
            v_put(y, k, v)
    if part > 0:
        v = v_exp(v_get_else(x, whole, part, least) - top)      # 0 in the lanes beyond n
        total = total + v
        if not logarithm:
            v_put_n(y, whole, v, part)
    if logarithm:
        total = v_all(x, log(v_sum(total)))
        for i in range(whole // lanes):
            k = i * lanes
            v_put(y, k, (v_get(x, k) - top) - total)
        if part > 0:
            v_put_n(y, whole, (v_get_else(x, whole, part, top) - top) - total, part)
    else:
        total = v_all(x, 1 / v_sum(total))
        for i in range(whole // lanes):
            k = i * lanes
            v_put(y, k, v_get(y, k) * total)
        if part > 0:
            v_put_n(y, whole, v_get_else(y, whole, part, total) * total, part)


cdef void softmax_columns(bint logarithm, const vreal* x, vreal* y, Py_ssize_t size, Py_ssize_t inner,
                          Py_ssize_t n) noexcept nogil:
    """softmax or log_softmax over the first axis of (size, inner), of its first n columns, at most SOFTMAX_COLUMN.

    Vectors lie across the columns; a thousand columns at once stay in cache from the maximum to the division, and
    read a page more than once before they leave it. y may be x.
    """
    cdef double[SOFTMAX_COLUMN] top_memory
    cdef double[SOFTMAX_COLUMN] total_memory
    cdef vreal* top = <vreal*>&top_memory[0]            # of floats only the first half is used
    cdef vreal* total = <vreal*>&total_memory[0]
    cdef Py_ssize_t i, j, k, row
    cdef int part, lanes = v_lanes(x)
    cdef Py_ssize_t vectors = (n + lanes - 1) // lanes
    cdef vreal v, zero = v_all(x, 0), least = v_all(x, -INFINITY)
    for i in range(vectors):
        k = i * lanes
        v_put(top, k, least)
        v_put(total, k, zero)
    for j in range(size):
        row = j * inner
        for i in range(vectors):
            k = i * lanes
            part = <int>(n - k)
            v = v_get(x, row + k) if part >= lanes else v_get_else(x, row + k, part, zero)
            v_put(top, k, v_nanmax(v, v_get(top, k)))
    for j in range(size):
        row = j * inner
        for i in range(vectors):
            k = i * lanes
            part = <int>(n - k)
            v = v_get(x, row + k) if part >= lanes else v_get_else(x, row + k, part, zero)
            v = v_exp(v - v_get(top, k))
            v_put(total, k, v_get(total, k) + v)
            if not logarithm:
                put_part(y, row + k, v, part)
    for k in range(n):
        if vreal is vf:
            (<float*>total)[k] = logf((<float*>total)[k]) if logarithm else 1 / (<float*>total)[k]
        else:
            (<double*>total)[k] = log((<double*>total)[k]) if logarithm else 1 / (<double*>total)[k]
    for j in range(size):
        row = j * inner
        for i in range(vectors):
            k = i * lanes
            part = <int>(n - k)
            if logarithm:
                v = v_get(x, row + k) if part >= lanes else v_get_else(x, row + k, part, zero)
                v = (v - v_get(top, k)) - v_get(total, k)
            else:
                v = v_get(y, row + k) if part >= lanes else v_get_else(y, row + k, part, zero)
                v = v * v_get(total, k)
            put_part(y, row + k, v, part)


cdef inline void put_part(vreal* y, Py_ssize_t k, vreal v, int part) noexcept nogil:
    """Store all of v, or its first `part` elements where those are fewer."""
    if part >= v_lanes(y):
        v_put(y, k, v)
    else:
        v_put_n(y, k, v, part)


cdef void softmax_rows(bint logarithm, const real* x, real* y, Py_ssize_t size, Py_ssize_t inner,
                       Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """softmax or log_softmax over the middle axis of (outer, size, inner), units [begin, end); y may be x.

    A unit is `softmax_units(inner)`'s: SOFTMAX_COLUMN columns of one outer index, or all of a row where inner is 1.
    """
    cdef Py_ssize_t u, o, first, offset, per = softmax_units(inner)
    if inner == 1:
        for u in range(begin, end):
            if real is float:
                softmax_row(logarithm, <const vf*>(x + u * size), <vf*>(y + u * size), size)
            else:
                softmax_row(logarithm, <const vd*>(x + u * size), <vd*>(y + u * size), size)
        return
    for u in range(begin, end):
        o = u // per
        first = (u - o * per) * SOFTMAX_COLUMN
        offset = o * size * inner + first
        if real is float:
            softmax_columns(logarithm, <const vf*>(x + offset), <vf*>(y + offset), size, inner,
                            min(<Py_ssize_t>SOFTMAX_COLUMN, inner - first))
        else:
            softmax_columns(logarithm, <const vd*>(x + offset), <vd*>(y + offset), size, inner,
                            min(<Py_ssize_t>SOFTMAX_COLUMN, inner - first))


cdef inline Py_ssize_t softmax_units(Py_ssize_t inner) noexcept nogil:
    """Units that the columns of one outer index are cut into."""
    return (inner + SOFTMAX_COLUMN - 1) // SOFTMAX_COLUMN


# --- steps ----------------------------------------------------------------------------------------


cdef void unary(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                real* scratch) noexcept nogil:
    """y = act(x). record: UnaryRecord. A unit is `block` rows; y may be x."""
    cdef const Activation* p = &(<const UnaryRecord*>s.record).activation
    cdef Py_ssize_t r, i, j
    cdef bint dense = s.x.pixel == s.y.c and s.y.pixel == s.y.c
    cdef Py_ssize_t runs = 1 if dense else s.y.w, length = s.y.w * s.y.c if dense else s.y.c
    cdef const real* x = <const real*>start(base, &s.x.place)
    cdef real* y = <real*>start(base, &s.y.place)
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        for j in range(runs):
            activate_run(<int>p.kind, p.a, p.b, x + element(&s.x, i, r - i * s.units.rows, j),
                         y + element(&s.y, i, r - i * s.units.rows, j), length)


cdef void affine(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 real* scratch) noexcept nogil:
    """y = act(x * scale + shift) by channel: batch norm at inference. record: AffineRecord.

    A unit is `block` rows; y may be x.
    """
    cdef const AffineRecord* p = <const AffineRecord*>s.record
    cdef const Activation* a = &p.activation
    cdef Py_ssize_t r, i, j
    cdef const real* x = <const real*>start(base, &s.x.place)
    cdef real* y = <real*>start(base, &s.y.place)
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        for j in range(s.y.w):
            affine_channels(<int>a.kind, a.a, a.b, x + element(&s.x, i, r - i * s.units.rows, j),
                            <const real*>start(base, &p.scale), <const real*>start(base, &p.shift),
                            y + element(&s.y, i, r - i * s.units.rows, j), s.y.c)


cdef void softmax(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                  real* scratch) noexcept nogil:
    """softmax or log_softmax over an axis of contiguous images. record: SoftmaxRecord.

    A row, of which a unit is `block`, is one of the p.outer indices before the axis; y may be x.
    """
    cdef const SoftmaxRecord* p = <const SoftmaxRecord*>s.record
    cdef Py_ssize_t r, i, k, per = softmax_units(p.inner)
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        k = r - i * s.units.rows
        softmax_rows(p.log, <const real*>start(base, &s.x.place) + i * s.x.image,
                     <real*>start(base, &s.y.place) + i * s.y.image, p.size, p.inner, k * per, (k + 1) * per)
