"""What is done to one element at a time, and softmax."""


cdef void unary(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                real* scratch) noexcept nogil:
    """y = act(x). record: UnaryRecord. A unit is `block` rows; y may be x."""
    cdef const Activation* p = &(<const UnaryRecord*>s.record).activation
    cdef Py_ssize_t r, i, j
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        for j in range(s.y.w):
            x = <const real*>start(base, &s.x.place) + element(&s.x, i, r - i * s.units.rows, j)
            y = <real*>start(base, &s.y.place) + element(&s.y, i, r - i * s.units.rows, j)
            activate_run(<int>p.kind, p.a, p.b, x, y, s.y.c)


cdef void add(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
              real* scratch) noexcept nogil:
    """y = act(x + z). record: AddRecord. A unit is `block` rows; y may be x or z."""
    cdef const Activation* p = &(<const AddRecord*>s.record).activation
    cdef Py_ssize_t r, i, j, k
    cdef const real* x
    cdef const real* z
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        for j in range(s.y.w):
            x = <const real*>start(base, &s.x.place) + element(&s.x, i, r - i * s.units.rows, j)
            z = <const real*>start(base, &s.z.place) + element(&s.z, i, r - i * s.units.rows, j)
            y = <real*>start(base, &s.y.place) + element(&s.y, i, r - i * s.units.rows, j)
            for k in range(s.y.c):
                y[k] = x[k] + z[k]
            activate_run(<int>p.kind, p.a, p.b, <const real*>y, y, s.y.c)


cdef void affine(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 real* scratch) noexcept nogil:
    """y = act(x * scale + shift) by channel: batch norm at inference. record: AffineRecord.

    A unit is `block` rows; y may be x.
    """
    cdef const AffineRecord* p = <const AffineRecord*>s.record
    cdef Py_ssize_t r, i, j, k
    cdef const real* scale = <const real*>start(base, &p.scale)
    cdef const real* shift = <const real*>start(base, &p.shift)
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        for j in range(s.y.w):
            x = <const real*>start(base, &s.x.place) + element(&s.x, i, r - i * s.units.rows, j)
            y = <real*>start(base, &s.y.place) + element(&s.y, i, r - i * s.units.rows, j)
            for k in range(s.y.c):
                y[k] = x[k] * scale[k] + shift[k]
            activate_run(<int>p.activation.kind, p.activation.a, p.activation.b, <const real*>y, y, s.y.c)


cdef void softmax(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                  real* scratch) noexcept nogil:
    """softmax or log_softmax over an axis of contiguous images. record: SoftmaxRecord. A unit is an image."""
    cdef const SoftmaxRecord* p = <const SoftmaxRecord*>s.record
    cdef Py_ssize_t i
    for i in range(begin, end):
        softmax_run(p.outer, p.size, p.inner, p.log, <const real*>start(base, &s.x.place) + i * s.x.image,
                    <real*>start(base, &s.y.place) + i * s.y.image)


cdef void softmax_run(Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, bint log_too, const real* x0,
                      real* y0) noexcept nogil:
    cdef Py_ssize_t o, k, j, step = inner
    cdef const real* x
    cdef real* y
    cdef real top, total
    for o in range(outer):
        for k in range(inner):
            x = x0 + o * size * step + k
            y = y0 + o * size * step + k
            top = <real>(-INFINITY)
            for j in range(size):
                top = x[j * step] if x[j * step] > top or x[j * step] != x[j * step] else top
            total = 0
            for j in range(size):
                if log_too:
                    y[j * step] = x[j * step] - top
                    total += expf(y[j * step]) if real is float else exp(y[j * step])
                else:
                    y[j * step] = expf(x[j * step] - top) if real is float else exp(x[j * step] - top)
                    total += y[j * step]
            if log_too:
                total = logf(total) if real is float else log(total)
            for j in range(size):
                y[j * step] = y[j * step] - total if log_too else y[j * step] / total
