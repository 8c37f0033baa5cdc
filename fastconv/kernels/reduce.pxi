"""Reductions of an axis: sums, products, extremes, and where these stand.

Memory is (outer, size, inner). Where `inner` is 1 vectors lie along the sum, else across the columns. One order serves
both: REDUCE_VECTORS vectors at once, REDUCE_RUN rows of them into one total, so many totals into another, and twice
more (between the plain and the pairwise sum of N. J. Higham, "The Accuracy of Floating Point Summation", 1993): the
error grows with the sum of the four lengths, not with their product.
"""

cdef enum:
    REDUCE_VECTORS = 4              # enough to hide the latency of an addition
    REDUCE_RUN = 32
    REDUCE_COLUMN = 64              # columns of a unit: a multiple of REDUCE_VECTORS vectors of every level

cdef enum Reduction:
    NO_REDUCTION = 0
    REDUCE_SUM = 1
    REDUCE_MAGNITUDES = 2           # the sum of |x|
    REDUCE_SQUARES = 3              # of (x - shift)^2
    REDUCE_EXP = 4                  # of e^(x - shift)
    REDUCE_PROD = 5
    REDUCE_MAX = 6                  # NaN wins, as in PyTorch
    REDUCE_MIN = 7
    REDUCE_MAX_MAGNITUDE = 8
    REDUCTION_KINDS = 9

# As Python names them, in the enum's order.
REDUCTIONS = {
    name: number
    for number, name in enumerate((
        "none", "sum", "sum_magnitudes", "sum_squares", "sum_exp", "prod", "max", "min", "max_magnitude",
    ))
}


cdef inline vreal reduce_element(int kind, vreal x, vreal shift) noexcept nogil:
    """What of an element is joined."""
    if kind == REDUCE_MAGNITUDES or kind == REDUCE_MAX_MAGNITUDE:
        return v_absolute(x)
    if kind == REDUCE_SQUARES:
        return (x - shift) * (x - shift)
    if kind == REDUCE_EXP:
        return v_exp(x - shift)
    return x


cdef inline vreal reduce_neutral(int kind, vreal shift) noexcept nogil:
    """An element that changes nothing."""
    if kind == REDUCE_SQUARES:
        return shift
    if kind == REDUCE_PROD:
        return v_fill(shift, 1)
    if kind == REDUCE_EXP or kind == REDUCE_MAX:
        return v_fill(shift, -INFINITY)
    if kind == REDUCE_MIN:
        return v_fill(shift, INFINITY)
    return v_fill(shift, 0)


cdef inline vreal reduce_nothing(int kind, vreal like) noexcept nogil:
    """The total over no elements."""
    if kind == REDUCE_PROD or kind == REDUCE_MAX or kind == REDUCE_MIN:
        return reduce_neutral(kind, like)
    return v_fill(like, 0)


cdef inline vreal reduce_join(int kind, vreal x, vreal y) noexcept nogil:
    if kind == REDUCE_PROD:
        return x * y
    if kind == REDUCE_MAX or kind == REDUCE_MAX_MAGNITUDE:
        return v_nanmax(x, y)
    if kind == REDUCE_MIN:
        return v_where_nan(x, x, v_min(x, y))
    return x + y


cdef inline void reduce_cascade(int kind, int vectors, int part, const vreal* x, Py_ssize_t size, Py_ssize_t step,
                                const vreal* shift, vreal* total) noexcept nogil:
    """Join `size` rows, `step` elements apart, of `vectors` neighbouring vectors, or of the first `part` elements.

    shift, total: (vectors,) vectors
    """
    cdef vreal[REDUCE_VECTORS] low
    cdef vreal[REDUCE_VECTORS] middle
    cdef vreal[REDUCE_VECTORS] high
    cdef vreal[REDUCE_VECTORS] top
    cdef vreal v, nothing = reduce_nothing(kind, shift[0])
    cdef Py_ssize_t i = 0, k, end, runs = 0
    cdef int j, lanes = v_lanes(x)
    for j in range(vectors):
        middle[j] = nothing
        high[j] = nothing
        top[j] = nothing
    while i < size:
        end = min(size, i + REDUCE_RUN)
        for j in range(vectors):
            low[j] = nothing
        while i < end:
            k = i * step
            for j in range(vectors):
                v = v_get_else(x, k, part, reduce_neutral(kind, shift[0])) if part else v_get(x, k + j * lanes)
                low[j] = reduce_join(kind, reduce_element(kind, v, shift[j]), low[j])
            i += 1
        for j in range(vectors):
            middle[j] = reduce_join(kind, low[j], middle[j])
        runs += 1
        if runs % REDUCE_RUN == 0:
            for j in range(vectors):
                high[j] = reduce_join(kind, middle[j], high[j])
                middle[j] = nothing
        if runs % (REDUCE_RUN * REDUCE_RUN) == 0:
            for j in range(vectors):
                top[j] = reduce_join(kind, high[j], top[j])
                high[j] = nothing
    for j in range(vectors):
        total[j] = reduce_join(kind, reduce_join(kind, middle[j], high[j]), top[j])


cdef inline double reduce_lanes(int kind, vreal v) noexcept nogil:
    """The lanes of a vector joined, in one order."""
    cdef double product = 1
    cdef int j
    if kind == REDUCE_MAX or kind == REDUCE_MAX_MAGNITUDE:
        return v_top(v)
    if kind == REDUCE_MIN:
        return -v_top(-v)
    if kind == REDUCE_PROD:
        for j in range(v_lanes(&v)):
            product *= (<float*>&v)[j] if vreal is vf else (<double*>&v)[j]
        return product
    return v_sum(v)


cdef inline void reduce_vectors(int kind, bint row, int vectors, int part, const vreal* x, Py_ssize_t size,
                                Py_ssize_t step, const vreal* shift, vreal* total) noexcept nogil:
    """`size` neighbours, their total in every lane of total[0], or as many rows, as `reduce_cascade` takes them.

    shift, total: (REDUCE_VECTORS,) vectors
    """
    cdef int lanes = v_lanes(x)
    cdef Py_ssize_t k, whole
    cdef vreal v
    if not row:
        if vectors == REDUCE_VECTORS:
            reduce_cascade(kind, REDUCE_VECTORS, 0, x, size, step, shift, total)
        elif part == 0:
            reduce_cascade(kind, 1, 0, x, size, step, shift, total)
        else:
            reduce_cascade(kind, 1, part, x, size, step, shift, total)
        return
    whole = size // (REDUCE_VECTORS * lanes)
    reduce_cascade(kind, REDUCE_VECTORS, 0, x, whole, REDUCE_VECTORS * lanes, shift, total)
    k = whole * REDUCE_VECTORS * lanes
    while k + lanes <= size:
        total[0] = reduce_join(kind, reduce_element(kind, v_get(x, k), shift[0]), total[0])
        k += lanes
    if k < size:
        v = v_get_else(x, k, <int>(size - k), reduce_neutral(kind, shift[0]))
        total[1] = reduce_join(kind, reduce_element(kind, v, shift[0]), total[1])
    v = reduce_join(kind, reduce_join(kind, total[0], total[1]), reduce_join(kind, total[2], total[3]))
    total[0] = v_all(x, reduce_lanes(kind, v))


cdef inline void reduce_floats(int kind, bint row, int vectors, int part, const vf* x, Py_ssize_t size,
                               Py_ssize_t step, const vf* shift, vf* total) noexcept nogil:
    reduce_vectors(kind, row, vectors, part, x, size, step, shift, total)


cdef inline void reduce_doubles(int kind, bint row, int vectors, int part, const vd* x, Py_ssize_t size,
                                Py_ssize_t step, const vd* shift, vd* total) noexcept nogil:
    reduce_vectors(kind, row, vectors, part, x, size, step, shift, total)


ctypedef void (*reduce_floats_function)(int, bint, int, int, const vf*, Py_ssize_t, Py_ssize_t, const vf*,
                                        vf*) noexcept nogil
ctypedef void (*reduce_doubles_function)(int, bint, int, int, const vd*, Py_ssize_t, Py_ssize_t, const vd*,
                                         vd*) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_reduce_floats "FC_SWITCH_KIND" (int most, int kind, reduce_floats_function f, ...)
    void switch_reduce_doubles "FC_SWITCH_KIND" (int most, int kind, reduce_doubles_function f, ...)


cdef void reduce_pass(int kind, bint row, int vectors, int part, const vreal* x, Py_ssize_t size, Py_ssize_t step,
                      const vreal* shift, vreal* total) noexcept nogil:
    if vreal is vf:
        switch_reduce_floats(REDUCTION_KINDS - 1, kind, reduce_floats, row, vectors, part, x, size, step, shift, total)
    else:
        switch_reduce_doubles(REDUCTION_KINDS - 1, kind, reduce_doubles, row, vectors, part, x, size, step, shift,
                              total)


cdef inline vreal reduce_shift(int kind, vreal total, Py_ssize_t size) noexcept nogil:
    """The mean of a sum; a maximum, or 0 where that is infinite and would make NaN of a difference."""
    if kind == REDUCE_SUM:
        return total / v_fill(total, size)
    return v_where_nan(total - total, v_where_nan(total, total, v_fill(total, 0)), total)


cdef void reduce_some(const ReduceRecord* p, bint row, int vectors, int part, const vreal* x,
                      vreal* y) noexcept nogil:
    """One total, or those of some columns: of `vectors` vectors, or of `part` elements where that is not 0."""
    cdef vreal[REDUCE_VECTORS] shift
    cdef vreal[REDUCE_VECTORS] total
    cdef vreal v
    cdef int j, lanes = v_lanes(x)
    for j in range(REDUCE_VECTORS):
        shift[j] = v_all(x, 0)
    if p.shift != NO_REDUCTION:
        reduce_pass(<int>p.shift, row, vectors, part, x, p.size, p.inner, shift, total)
        for j in range(vectors):
            shift[j] = reduce_shift(<int>p.shift, total[j], p.size)
        if row:
            for j in range(1, REDUCE_VECTORS):
                shift[j] = shift[0]
    reduce_pass(<int>p.kind, row, vectors, part, x, p.size, p.inner, shift, total)
    for j in range(vectors):
        v = total[j] / v_all(x, p.divisor)
        if p.root:
            v = v_sqrt(v)
        if p.log:
            v = v_log(v) + shift[j]
        if part:
            v_put_n(y, 0, v, part)
        else:
            v_put(y, j * lanes, v)


cdef void reduce(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                 real* scratch) noexcept nogil:
    """x: (n, outer, size, inner) -> y: (n, outer, inner). record: ReduceRecord.

    A unit is `block` rows, or REDUCE_COLUMN columns of one outer index where `inner` is not 1.
    """
    cdef const ReduceRecord* p = <const ReduceRecord*>s.record
    cdef Py_ssize_t per = (p.inner + REDUCE_COLUMN - 1) // REDUCE_COLUMN
    cdef Py_ssize_t r, i, o, k, last
    cdef int lanes = FC_W if real is float else FC_D, columns
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        o = (r - i * s.units.rows) // per
        k = (r - i * s.units.rows - o * per) * REDUCE_COLUMN
        last = min(p.inner, k + REDUCE_COLUMN)
        x = <const real*>start(base, &s.x.place) + i * s.x.image + o * p.size * p.inner
        y = <real*>start(base, &s.y.place) + i * s.y.image + o * p.inner
        while k < last:
            columns = <int>(last - k)
            if p.inner > 1 and columns >= REDUCE_VECTORS * lanes:
                columns = REDUCE_VECTORS * lanes
            else:
                columns = min(columns, lanes)
            if real is float:
                reduce_some(p, p.inner == 1, max(1, columns // lanes), columns % lanes, <const vf*>(x + k),
                            <vf*>(y + k))
            else:
                reduce_some(p, p.inner == 1, max(1, columns // lanes), columns % lanes, <const vd*>(x + k),
                            <vd*>(y + k))
            k += columns


# --- where extremes stand -------------------------------------------------------------------------


cdef inline vreal beyond(bint least, vreal x, vreal best, vreal yes, vreal no) noexcept nogil:
    """`yes` where x takes the place of `best`: it is beyond it, or the first NaN."""
    cdef vreal result = v_where_nan(x, yes, v_where_lt(x, best, yes, no) if least else v_where_lt(best, x, yes, no))
    return v_where_nan(best, no, result)


cdef inline void arg_columns(bint least, int vectors, int part, const vreal* x, Py_ssize_t size, Py_ssize_t step,
                             vreal* best, vreal* at) noexcept nogil:
    """Of each column of `size` rows, `step` apart, the extreme, and the first row that has it. best, at: (vectors,)"""
    cdef Py_ssize_t i
    cdef int j, lanes = v_lanes(x)
    cdef vreal v, now
    for j in range(vectors):
        best[j] = v_get_else(x, 0, part, v_all(x, 0)) if part else v_get(x, j * lanes)
        at[j] = v_all(x, 0)
    for i in range(1, size):
        now = v_all(x, i)
        for j in range(vectors):
            v = v_get_else(x, i * step, part, v_all(x, 0)) if part else v_get(x, i * step + j * lanes)
            at[j] = beyond(least, v, best[j], now, at[j])
            best[j] = beyond(least, v, best[j], v, best[j])


cdef void arg_vectors(bint least, int vectors, int part, const vreal* x, Py_ssize_t size, Py_ssize_t step,
                      vreal* y) noexcept nogil:
    cdef vreal[REDUCE_VECTORS] best
    cdef vreal[REDUCE_VECTORS] at
    cdef int j
    if vectors == REDUCE_VECTORS:
        arg_columns(least, REDUCE_VECTORS, 0, x, size, step, best, at)
    elif part == 0:
        arg_columns(least, 1, 0, x, size, step, best, at)
    else:
        arg_columns(least, 1, part, x, size, step, best, at)
    for j in range(vectors):
        if part:
            v_put_n(y, 0, at[j], part)
        else:
            v_put(y, j * v_lanes(x), at[j])


cdef inline bint takes_place(bint least, real x, Py_ssize_t at, real best, Py_ssize_t place) noexcept nogil:
    """Whether x, which stands at `at`, is beyond `best` or equal and before it; NaN is beyond all."""
    if x != x or best != best:
        return x != x and (best == best or at < place)
    return (x < best if least else x > best) or (x == best and at < place)


cdef Py_ssize_t arg_row(bint least, const real* x, Py_ssize_t size) noexcept nogil:
    """The first of `size` neighbours that is extreme: a column for each lane, then these, then what fills no vector."""
    cdef vf best32, at32
    cdef vd best64, at64
    cdef int lanes = FC_W if real is float else FC_D
    cdef Py_ssize_t i, k, place = 0, whole = size // lanes
    cdef real best = x[0], v
    if whole > 0:
        if real is float:
            arg_columns(least, 1, 0, <const vf*>x, whole, lanes, &best32, &at32)
        else:
            arg_columns(least, 1, 0, <const vd*>x, whole, lanes, &best64, &at64)
        for i in range(lanes):
            if real is float:
                v, k = (<float*>&best32)[i], i + lanes * <Py_ssize_t>(<float*>&at32)[i]
            else:
                v, k = (<double*>&best64)[i], i + lanes * <Py_ssize_t>(<double*>&at64)[i]
            if takes_place(least, v, k, best, place):
                best, place = v, k
    for i in range(whole * lanes, size):
        if takes_place(least, x[i], i, best, place):
            best, place = x[i], i
    return place


cdef void arg_reduce(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                     real* scratch) noexcept nogil:
    """x: (n, outer, size, inner) -> y: (n, outer, inner), indices into `size`. record: ArgRecord. Units as of `reduce`.

    Of equal elements it is the first; NaN is beyond all others.
    """
    cdef const ArgRecord* p = <const ArgRecord*>s.record
    cdef Py_ssize_t per = (p.inner + REDUCE_COLUMN - 1) // REDUCE_COLUMN
    cdef Py_ssize_t r, i, o, k, last
    cdef int lanes = FC_W if real is float else FC_D, columns
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        o = (r - i * s.units.rows) // per
        k = (r - i * s.units.rows - o * per) * REDUCE_COLUMN
        last = min(p.inner, k + REDUCE_COLUMN)
        x = <const real*>start(base, &s.x.place) + i * s.x.image + o * p.size * p.inner
        y = <real*>start(base, &s.y.place) + i * s.y.image + o * p.inner
        if p.inner == 1:
            y[0] = <real>arg_row(p.least, x, p.size)
            continue
        while k < last:
            columns = <int>(last - k)
            columns = REDUCE_VECTORS * lanes if columns >= REDUCE_VECTORS * lanes else min(columns, lanes)
            if real is float:
                arg_vectors(p.least, max(1, columns // lanes), columns % lanes, <const vf*>(x + k), p.size, p.inner,
                            <vf*>(y + k))
            else:
                arg_vectors(p.least, max(1, columns // lanes), columns % lanes, <const vd*>(x + k), p.size, p.inner,
                            <vd*>(y + k))
            k += columns
