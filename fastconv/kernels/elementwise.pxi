"""What is done to one element at a time, and softmax."""


cdef void unary(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                real* scratch) noexcept nogil:
    """y = act(x). A unit is `block` rows; y may be x."""
    cdef Py_ssize_t r, i, j, k
    cdef real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        for j in range(s.y.w):
            x = at(base, &s.x, i, r - i * s.rows, j)
            y = at(base, &s.y, i, r - i * s.rows, j)
            if s.activation == RELU or s.activation == CLAMP:
                clamp(x, y, s.y.c, <real>s.low, <real>s.high)
            else:
                for k in range(s.y.c):
                    y[k] = apply(x[k], s)


cdef inline void clamp(const real* x, real* y, Py_ssize_t c, real low, real high) noexcept nogil:
    """y = min(max(x, low), high), NaN kept"""
    cdef Py_ssize_t k
    cdef real v
    for k in range(c):
        v = x[k]
        v = low if v < low else v
        y[k] = high if v > high else v


cdef void add(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
              real* scratch) noexcept nogil:
    """y = act(x + z). A unit is `block` rows; y may be x or z."""
    cdef Py_ssize_t r, i, j, k
    cdef real* x
    cdef real* z
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        for j in range(s.y.w):
            x = at(base, &s.x, i, r - i * s.rows, j)
            z = at(base, &s.z, i, r - i * s.rows, j)
            y = at(base, &s.y, i, r - i * s.rows, j)
            for k in range(s.y.c):
                y[k] = x[k] + z[k]
            activate_row(y, s)


cdef inline void activate_row(real* y, const Step* s) noexcept nogil:
    """y = act(y) over the channels of one pixel."""
    cdef Py_ssize_t k
    if s.activation == RELU or s.activation == CLAMP:
        clamp(y, y, s.y.c, <real>s.low, <real>s.high)
    elif s.activation != NO_ACTIVATION:
        for k in range(s.y.c):
            y[k] = apply(y[k], s)


cdef void affine(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 real* scratch) noexcept nogil:
    """y = act(x * weight + bias) by channel: batch norm at inference. A unit is `block` rows; y may be x."""
    cdef Py_ssize_t r, i, j, k
    cdef const real* scale = <const real*>s.weight
    cdef const real* shift = <const real*>s.bias
    cdef real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        for j in range(s.y.w):
            x = at(base, &s.x, i, r - i * s.rows, j)
            y = at(base, &s.y, i, r - i * s.rows, j)
            for k in range(s.y.c):
                y[k] = x[k] * scale[k] + shift[k]
            activate_row(y, s)


cdef void softmax(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                  real* scratch) noexcept nogil:
    """softmax or log_softmax over an axis of compact images (axis_outer, axis_size, axis_inner). A unit is an image."""
    cdef Py_ssize_t i, o, k, j, size = s.axis_size, step = s.axis_inner
    cdef real* x
    cdef real* y
    cdef real top, total
    for i in range(begin, end):
        for o in range(s.axis_outer):
            for k in range(s.axis_inner):
                x = at(base, &s.x, i, 0, 0) + o * size * step + k
                y = at(base, &s.y, i, 0, 0) + o * size * step + k
                top = <real>(-INFINITY)
                for j in range(size):
                    top = x[j * step] if x[j * step] > top or x[j * step] != x[j * step] else top
                total = 0
                for j in range(size):
                    if s.log:
                        y[j * step] = x[j * step] - top
                        total += expf(y[j * step]) if real is float else exp(y[j * step])
                    else:
                        y[j * step] = expf(x[j * step] - top) if real is float else exp(x[j * step] - top)
                        total += y[j * step]
                if s.log:
                    total = logf(total) if real is float else log(total)
                for j in range(size):
                    y[j * step] = y[j * step] - total if s.log else y[j * step] / total
