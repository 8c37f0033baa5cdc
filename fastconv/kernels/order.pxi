"""Running sums, and elements in order, along an axis of memory (outer, size, inner). Units are those of `reduce`."""

cdef enum:
    FEW_IN_ORDER = 64               # up to here elements are put in their places one after the other


cdef void running_sum(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      real* scratch) noexcept nogil:
    """x: (n, outer, size, inner) -> y, of the same shape: sums up to each index, in double. record: LineRecord."""
    cdef const LineRecord* p = <const LineRecord*>s.record
    cdef Py_ssize_t per = (p.inner + REDUCE_COLUMN - 1) // REDUCE_COLUMN
    cdef Py_ssize_t r, i, j, k, o, columns, place
    cdef double[REDUCE_COLUMN] total
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        o = (r - i * s.units.rows) // per
        k = (r - i * s.units.rows - o * per) * REDUCE_COLUMN
        columns = min(<Py_ssize_t>REDUCE_COLUMN, p.inner - k)
        place = o * p.size * p.inner + k
        x = <const real*>start(base, &s.x.place) + i * s.x.image + place
        y = <real*>start(base, &s.y.place) + i * s.y.image + place
        for k in range(columns):
            total[k] = 0
        for j in range(p.size):
            for k in range(columns):
                total[k] += x[j * p.inner + k]
                y[j * p.inner + k] = <real>total[k]


cdef inline bint comes_before(bint least, real x, real y) noexcept nogil:
    """Whether x stands in front of y, which had the lower index; NaN is larger than all others."""
    if x != x or y != y:
        return y == y and not least if x != x else least and y != y
    return x < y if least else x > y


cdef void first_in_order(bint least, const real* x, Py_ssize_t size, Py_ssize_t step, Py_ssize_t k,
                         int32_t* order) noexcept nogil:
    """The indices of the first k of `size` elements in order. order: (k,); k <= FEW_IN_ORDER"""
    cdef Py_ssize_t i, j, count = 0
    cdef real v
    for i in range(size):
        v = x[i * step]
        if count == k and not comes_before(least, v, x[order[k - 1] * step]):
            continue
        count = min(k, count + 1)
        j = count - 1
        while j > 0 and comes_before(least, v, x[order[j - 1] * step]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = <int32_t>i


cdef int32_t* all_in_order(bint least, const real* x, Py_ssize_t size, Py_ssize_t step, int32_t* order,
                           int32_t* other) noexcept nogil:
    """The indices of all elements in order, by merging runs: in one of order and other, (size,) each."""
    cdef Py_ssize_t i, a, b, middle, end, k, run = 1
    cdef int32_t* swap
    for i in range(size):
        order[i] = <int32_t>i
    while run < size:
        i = 0
        while i < size:
            a, middle, end = i, min(size, i + run), min(size, i + 2 * run)
            b = middle
            for k in range(i, end):
                if a < middle and (b >= end or not comes_before(least, x[order[b] * step], x[order[a] * step])):
                    other[k] = order[a]
                    a += 1
                else:
                    other[k] = order[b]
                    b += 1
            i = end
        swap = order
        order = other
        other = swap
        run *= 2
    return order


cdef void in_order(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                   real* scratch) noexcept nogil:
    """x: (n, outer, size, inner) -> y: (n, outer, k, inner). record: OrderRecord.

    scratch: int32, (k,) for k <= FEW_IN_ORDER, else (2 * size,)
    """
    cdef const OrderRecord* p = <const OrderRecord*>s.record
    cdef Py_ssize_t per = (p.inner + REDUCE_COLUMN - 1) // REDUCE_COLUMN
    cdef Py_ssize_t r, i, j, k, o, last
    cdef int32_t* order
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        o = (r - i * s.units.rows) // per
        k = (r - i * s.units.rows - o * per) * REDUCE_COLUMN
        last = min(p.inner, k + REDUCE_COLUMN)
        while k < last:
            x = <const real*>start(base, &s.x.place) + i * s.x.image + o * p.size * p.inner + k
            y = <real*>start(base, &s.y.place) + i * s.y.image + o * p.k * p.inner + k
            order = <int32_t*>scratch
            if p.k <= FEW_IN_ORDER:
                first_in_order(p.least, x, p.size, p.inner, p.k, order)
            else:
                order = all_in_order(p.least, x, p.size, p.inner, order, order + p.size)
            for j in range(p.k):
                y[j * p.inner] = <real>order[j] if p.indices else x[order[j] * p.inner]
            k += 1
