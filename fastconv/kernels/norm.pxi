"""Normalisation by an input's own mean and variance: layer, group, instance and RMS norm."""

cdef enum:
    NORM_BLOCK = 512                # elements whose sum is kept in float: a longer sum would lose digits


cdef double sum_of(const vreal* x, double mean, bint squares, Py_ssize_t n) noexcept nogil:
    """The sum of x, or of (x - mean)^2, of at most NORM_BLOCK elements."""
    cdef vreal v, total = v_all(x, 0), centre = v_all(x, mean)
    cdef Py_ssize_t k = 0
    cdef int lanes = v_lanes(x)
    while k + lanes <= n:
        v = v_get(x, k)
        if squares:
            v = v - centre
            total = v_fma(v, v, total)
        else:
            total = total + v
        k += lanes
    if k < n:
        if squares:
            v = v_get_else(x, k, <int>(n - k), centre) - centre
            total = v_fma(v, v, total)
        else:
            total = total + v_get_else(x, k, <int>(n - k), v_all(x, 0))
    return v_sum(total)


cdef double run_sum(const real* x, double mean, bint squares, Py_ssize_t n) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t k = 0
    while k < n:
        if real is float:
            total += sum_of(<const vf*>(x + k), mean, squares, min(<Py_ssize_t>NORM_BLOCK, n - k))
        else:
            total += sum_of(<const vd*>(x + k), mean, squares, min(<Py_ssize_t>NORM_BLOCK, n - k))
        k += NORM_BLOCK
    return total


cdef void normalise_vectors(const vreal* x, double mean, double factor, const vreal* weight, const vreal* bias,
                            vreal* y, Py_ssize_t n) noexcept nogil:
    """y = (x - mean) * factor * weight + bias over n elements, a weight each"""
    cdef vreal v, zero = v_all(x, 0), centre = v_all(x, mean), scale = v_all(x, factor)
    cdef Py_ssize_t k = 0
    cdef int part, lanes = v_lanes(x)
    while k + lanes <= n:
        v = (v_get(x, k) - centre) * scale
        v_put(y, k, v_fma(v, v_get(weight, k), v_get(bias, k)))
        k += lanes
    if k < n:
        part = <int>(n - k)
        v = (v_get_else(x, k, part, zero) - centre) * scale
        v_put_n(y, k, v_fma(v, v_get_else(weight, k, part, zero), v_get_else(bias, k, part, zero)), part)


cdef void norm(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
               real* scratch) noexcept nogil:
    """Each run of `size` elements of a contiguous image by its own mean and variance. record: NormRecord.

    A unit is `block` runs. x, y: (n, runs, size); weight, bias: one for each `inner` elements of an
    image, or, where `inner` is 0, for each element of a run.
    """
    cdef const NormRecord* p = <const NormRecord*>s.record
    cdef const real* weight = <const real*>start(base, &p.weight)
    cdef const real* bias = <const real*>start(base, &p.bias)
    cdef const real* x
    cdef real* y
    cdef double mean, factor, scale
    cdef Py_ssize_t r, i, k, c
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        k = r - i * s.units.rows
        x = <const real*>start(base, &s.x.place) + i * s.x.image + k * p.size
        y = <real*>start(base, &s.y.place) + i * s.y.image + k * p.size
        mean = run_sum(x, 0, False, p.size) / p.size if p.centred else 0
        factor = 1 / sqrt(run_sum(x, mean, True, p.size) / p.size + p.eps)
        if p.inner == 0:
            if real is float:
                normalise_vectors(<const vf*>x, mean, factor, <const vf*>weight, <const vf*>bias, <vf*>y, p.size)
            else:
                normalise_vectors(<const vd*>x, mean, factor, <const vd*>weight, <const vd*>bias, <vd*>y, p.size)
        else:
            for c in range(p.size // p.inner):
                scale = factor * weight[k * (p.size // p.inner) + c]
                affine_plane(x + c * p.inner, scale, bias[k * (p.size // p.inner) + c] - mean * scale,
                             y + c * p.inner, p.inner)
        if p.activation.kind != ACT_NONE:
            activate_run(<int>p.activation.kind, p.activation.a, p.activation.b, <const real*>y, y, p.size)


cdef void response_vectors(const ResponseRecord* p, const vreal* x, vreal* squares, vreal* y,
                           Py_ssize_t c) noexcept nogil:
    """The c channels of a pixel. squares: (c + size - 1,), of which the first and the last are zeros"""
    cdef Py_ssize_t k = 0, j
    cdef int lanes = v_lanes(x), part
    cdef vreal v, total, zero = v_all(x, 0), scale = v_all(x, p.alpha / p.size)
    cdef vreal beta = v_all(x, p.beta), base = v_all(x, p.k)
    while k < c:
        part = <int>min(<Py_ssize_t>lanes, c - k)
        v = v_get(x, k) if part == lanes else v_get_else(x, k, part, zero)
        put_part(squares, p.size // 2 + k, v * v, part)
        k += lanes
    k = 0
    while k < c:
        part = <int>min(<Py_ssize_t>lanes, c - k)
        total = zero
        for j in range(p.size):
            total = total + (v_get(squares, k + j) if part == lanes else v_get_else(squares, k + j, part, zero))
        v = v_get(x, k) if part == lanes else v_get_else(x, k, part, zero)
        put_part(y, k, v / v_pow(v_fma(total, scale, base), beta), part)
        k += lanes


cdef void local_response(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                         real* scratch) noexcept nogil:
    """Each channel divided by a power of the mean square of its neighbours. record: ResponseRecord.

    A unit is `block` rows. scratch: (c + size - 1,)
    """
    cdef const ResponseRecord* p = <const ResponseRecord*>s.record
    cdef const real* x
    cdef real* y
    cdef Py_ssize_t r, i, j
    memset(scratch, 0, (s.y.c + p.size - 1) * sizeof(real))
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        for j in range(s.y.w):
            x = <const real*>start(base, &s.x.place) + element(&s.x, i, r - i * s.units.rows, j)
            y = <real*>start(base, &s.y.place) + element(&s.y, i, r - i * s.units.rows, j)
            if real is float:
                response_vectors(p, <const vf*>x, <vf*>scratch, <vf*>y, s.y.c)
            else:
                response_vectors(p, <const vd*>x, <vd*>scratch, <vd*>y, s.y.c)
