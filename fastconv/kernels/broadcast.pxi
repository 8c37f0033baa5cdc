"""Arithmetic that broadcasts, choices and copies on the caller's memory, in any order of axes: `fastconv.functional`.

    y[...] = f(x[...], z[...]), or x[...] where c[...] is true and z[...] where it is not

Sizes and steps come from the arrays themselves, so nothing is compiled or remembered. Neighbouring axes that all
operands walk as one are joined; along the innermost one the kinds of strided.pxi run.
"""

cdef enum:
    BROADCAST_OPERANDS = 3
    BROADCAST_LONG = 1 << 16        # elements of one run where nothing has to be gathered first
    JOIN_ALONE = 1 << 16            # bytes of a result from which on the GIL is released
    JOIN_AXES = 64                  # NumPy's most

# What a caller may give as a Python number.
cdef enum:
    NUMBER_X = 1
    NUMBER_Z = 2

cdef struct Walk:
    StridedRecord record            # of its kind alone, for `arithmetic_run`
    bint choose
    bint truths                     # y holds bytes, 1 or 0
    bint squares                    # the first two axes are copied from (a, b) to (b, a)
    int count
    Axis axes[MAX_AXES]             # the innermost first; steps in elements
    Py_ssize_t c[MAX_AXES]          # steps of the condition, in bytes
    Py_ssize_t length               # of one run along the innermost axis
    Py_ssize_t chunks               # runs that cover it


cdef void walk_run(const Walk* w, const real* x, const real* z, const uint8_t* c, real* y, uint8_t* truths,
                   Py_ssize_t n, real* scratch) noexcept nogil:
    """n elements along the innermost axis. scratch: (4, STRIDED_RUN), its last row also taken as bytes"""
    cdef Axis axis = w.axes[0]
    cdef Py_ssize_t k
    cdef uint8_t* bytes = <uint8_t*>(scratch + 3 * STRIDED_RUN)
    if w.choose:
        if axis.x != 1:
            for k in range(n):
                scratch[k] = x[k * axis.x]
            x = scratch
        if axis.z != 1:
            for k in range(n):
                scratch[STRIDED_RUN + k] = z[k * axis.z]
            z = scratch + STRIDED_RUN
        if w.c[0] != 1:
            for k in range(n):
                bytes[k] = c[k * w.c[0]]
            c = bytes
        for k in range(n):
            y[k] = x[k] if c[k] else z[k]
    elif w.truths:
        axis.y = 1
        arithmetic_run(&w.record, &axis, x, z, scratch + 3 * STRIDED_RUN, n, scratch)
        for k in range(n):
            truths[k] = scratch[3 * STRIDED_RUN + k] != 0
    else:
        arithmetic_run(&w.record, &axis, x, z, y, n, scratch)


cdef void copy_rows(Py_ssize_t rows, Py_ssize_t n, const real* x, Py_ssize_t x_row, Py_ssize_t x_step, real* y,
                    Py_ssize_t y_row) noexcept nogil:
    """y[i, k] = x[i, k], rows x_row and y_row apart, elements of x x_step apart, of y adjacent."""
    cdef Py_ssize_t i, k
    for i in range(rows):
        if x_step == 1:
            memcpy(y, x, n * sizeof(real))
        elif x_step == -1:              # whole vectors, turned
            for k in range(n):
                y[k] = x[-k]
        else:
            for k in range(n):
                y[k] = x[k * x_step]
        x += x_row
        y += y_row


cdef void walk_share(const Walk* w, const real* x, const real* z, const uint8_t* c, real* y, uint8_t* truths,
                     Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Runs [begin, end) of all, counted along the innermost axis first."""
    cdef double[4 * STRIDED_RUN] memory
    cdef Py_ssize_t at[MAX_AXES]
    cdef Py_ssize_t u = begin, k, rows = 1, r = begin // w.chunks, chunk = begin - r * w.chunks
    cdef Py_ssize_t xo = 0, yo = 0, zo = 0, co = 0
    cdef int axis, outer = 2 if w.squares else 1
    cdef uint64_t state = 0
    cdef bint flush = not (w.truths or w.choose or w.record.kind == COPY)   # those tell a denormal from 0
    # Runs may be a dozen elements, which take less time than a call for each.
    cdef bint copies = w.record.kind == COPY and not w.choose and not w.squares and w.chunks == 1 and w.count > 1
    for axis in range(outer, w.count):
        at[axis] = r % w.axes[axis].size
        r //= w.axes[axis].size
        xo += at[axis] * w.axes[axis].x
        yo += at[axis] * w.axes[axis].y
        zo += at[axis] * w.axes[axis].z
        co += at[axis] * w.c[axis]
    if flush:
        state = fc_flush_denormals()
    while u < end:
        if copies:
            rows = min(end - u, w.axes[1].size - at[1])
            copy_rows(rows, w.axes[0].size, x + xo, w.axes[1].x, w.axes[0].x, y + yo, w.axes[1].y)
        elif real is float and w.squares:
            transpose(w.axes[0].size, w.axes[1].size, x + xo, w.axes[0].x, y + yo, w.axes[1].y)
        else:
            k = chunk * w.length
            walk_run(w, x + xo + k * w.axes[0].x, z + zo + k * w.axes[0].z, c + co + k * w.c[0], y + yo + k,
                     truths + yo + k, min(w.length, w.axes[0].size - k), <real*>&memory[0])
        u += rows
        chunk += 1
        if chunk == w.chunks:
            chunk = 0
            axis = outer
            k = rows
            while axis < w.count:
                at[axis] += k
                xo += k * w.axes[axis].x
                yo += k * w.axes[axis].y
                zo += k * w.axes[axis].z
                co += k * w.c[axis]
                k = 1
                if at[axis] < w.axes[axis].size:
                    break
                xo -= at[axis] * w.axes[axis].x
                yo -= at[axis] * w.axes[axis].y
                zo -= at[axis] * w.axes[axis].z
                co -= at[axis] * w.c[axis]
                at[axis] = 0
                axis += 1
    if flush:
        fc_restore_denormals(state)


cdef void walk_all(const Walk* w, const real* x, const real* z, const uint8_t* c, void* y, Py_ssize_t units,
                   int threads) noexcept nogil:
    cdef int part
    if threads == 1:
        walk_share(w, x, z, c, <real*>y, <uint8_t*>y, 0, units)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            walk_share(w, x, z, c, <real*>y, <uint8_t*>y, units * part // threads, units * (part + 1) // threads)


cdef void lay_out(Walk* w, int ndim, const cnp.npy_intp* dims, Py_ssize_t[MAX_AXES]* steps) noexcept:
    """Fill in the axes from the steps of x, z and c along `ndim` axes of these sizes."""
    cdef int i
    cdef Py_ssize_t y = 1, size
    cdef Axis* last
    w.count = 0
    for i in range(ndim - 1, -1, -1):
        size = dims[i]
        if size == 1:
            continue
        last = &w.axes[w.count - 1]
        if (w.count > 0 and steps[0][i] == last.size * last.x and steps[1][i] == last.size * last.z
                and steps[2][i] == last.size * w.c[w.count - 1]):
            last.size *= size
        else:
            w.axes[w.count] = Axis(size, y, steps[0][i], steps[1][i])
            w.c[w.count] = steps[2][i]
            w.count += 1
        y *= size
    if w.count == 0:
        w.axes[0] = Axis(1, 1, 1, 1)
        w.c[0] = 1
        w.count = 1


cdef void square_off(Walk* w) noexcept:
    """Bring an axis that is dense in x beside the one that is dense in y, for `transpose`."""
    cdef int i, k
    cdef Axis found
    for i in range(1, w.count):
        if w.axes[i].x == 1 and w.axes[i].size > 1:
            found = w.axes[i]
            for k in range(i, 1, -1):
                w.axes[k] = w.axes[k - 1]
            w.axes[1] = found
            w.squares = True
            return


def broadcast(int kind, int numbers, bint truths, x, z, condition, int threads):
    """f(x, z) for a kind of ARITHMETIC; with a condition, x where it is true, else z; a copy of x where z is None.

    x and z are arrays of one type, and of any strides, or, where `numbers` has their bit, Python numbers; the condition
    is an array of bools. The result is C-contiguous, of that type, or of bools with `truths`.
    """
    cdef cnp.ndarray array, y
    cdef cnp.npy_intp dims[MAX_AXES]
    cdef Py_ssize_t steps[BROADCAST_OPERANDS][MAX_AXES]
    cdef const void* data[BROADCAST_OPERANDS]
    cdef double doubles[2]
    cdef float floats[2]
    cdef tuple operands = (x, z, condition)
    cdef int i, axis, at, ndim = 0, dtype = -1, overflow = 0, useful
    cdef Py_ssize_t n, units, size, item
    cdef Walk w
    if not 0 <= kind < ARITHMETIC_KINDS:
        raise ValueError(f"fastconv: no arithmetic has the number {kind}; ARITHMETIC names them")
    for i in range(BROADCAST_OPERANDS):
        value = operands[i]
        data[i] = NULL
        if cnp.PyArray_CheckExact(value):
            array = <cnp.ndarray>value
            if i == 2:
                if cnp.PyArray_TYPE(array) != cnp.NPY_BOOL:
                    return NotImplemented
            elif not taken(value) or (dtype >= 0 and cnp.PyArray_TYPE(array) != dtype):
                return NotImplemented
            else:
                dtype = cnp.PyArray_TYPE(array)
            ndim = max(ndim, cnp.PyArray_NDIM(array))
            data[i] = cnp.PyArray_DATA(array)
        elif i < 2 and numbers & (NUMBER_X if i == 0 else NUMBER_Z):
            if type(value) is float:
                doubles[i] = value
            elif type(value) is int:
                doubles[i] = <double>PyLong_AsLongLongAndOverflow(value, &overflow)
                if overflow:
                    return NotImplemented
            else:
                return NotImplemented
            floats[i] = <float>doubles[i]
        elif i == 0 or value is not None:
            return NotImplemented
    if dtype < 0 or ndim > MAX_AXES or (z is None and kind != COPY):
        return NotImplemented
    item = sizeof(float) if dtype == cnp.NPY_FLOAT else sizeof(double)
    for axis in range(ndim):
        dims[axis] = 1
    for i in range(BROADCAST_OPERANDS):
        for axis in range(ndim):
            steps[i][axis] = 0
        if data[i] == NULL:
            if i < 2:
                data[i] = <void*>&floats[i] if dtype == cnp.NPY_FLOAT else <void*>&doubles[i]
            continue
        array = <cnp.ndarray>operands[i]
        for axis in range(cnp.PyArray_NDIM(array)):
            at = axis + ndim - cnp.PyArray_NDIM(array)
            size = cnp.PyArray_DIMS(array)[axis]
            if size != 1:
                if dims[at] != 1 and dims[at] != size:
                    return NotImplemented
                dims[at] = size
                steps[i][at] = cnp.PyArray_STRIDES(array)[axis] // (item if i < 2 else 1)
    y = cnp.PyArray_EMPTY(ndim, dims, cnp.NPY_BOOL if truths else dtype, 0)
    n = cnp.PyArray_SIZE(y)
    if n == 0:
        return y
    memset(&w, 0, sizeof(w))
    w.record.kind, w.truths, w.choose = kind, truths, condition is not None
    lay_out(&w, ndim, dims, steps)
    if kind == COPY and not w.choose and dtype == cnp.NPY_FLOAT and w.axes[0].x != 1:
        square_off(&w)
    w.chunks = 1
    units = n // w.axes[0].size
    if w.squares:
        units //= w.axes[1].size
    else:
        w.length = BROADCAST_LONG
        if w.truths or (w.axes[0].x != 1 and kind != COPY) or w.choose or not 0 <= w.axes[0].z <= 1:
            w.length = STRIDED_RUN
        w.chunks = (w.axes[0].size + w.length - 1) // w.length
        units *= w.chunks
    useful = <int>min(<Py_ssize_t>useful_threads(
        n, SHARE_COMPUTING if POW <= kind <= REMAINDER else SHARE_COPYING, threads), units)
    if dtype == cnp.NPY_FLOAT:
        with nogil:
            walk_all(&w, <const float*>data[0], <const float*>data[1], <const uint8_t*>data[2],
                     cnp.PyArray_DATA(y), units, useful)
    else:
        with nogil:
            walk_all(&w, <const double*>data[0], <const double*>data[1], <const uint8_t*>data[2],
                     cnp.PyArray_DATA(y), units, useful)
    return y


cdef void join_rows(char* y, Py_ssize_t row, const char* x, Py_ssize_t run, Py_ssize_t outer) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(outer):
        memcpy(y + i * row, x + i * run, run)


def join(tuple arrays, tuple shape, Py_ssize_t outer):
    """Arrays side by side: each is (outer, its own length), the result (outer, all of them) as `shape`.

    They are contiguous, of one type; together they have as many elements as `shape`.
    """
    cdef cnp.npy_intp dims[JOIN_AXES]
    cdef cnp.ndarray y, x
    cdef int axis, ndim = <int>len(shape)
    cdef Py_ssize_t row, run, nbytes
    cdef char* to
    cdef const char* data
    if ndim > JOIN_AXES:
        raise ValueError(f"fastconv: an array has at most {JOIN_AXES} axes, not {ndim}")
    for axis in range(ndim):
        dims[axis] = shape[axis]
    y = cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(<cnp.ndarray>arrays[0]), 0)
    nbytes = cnp.PyArray_NBYTES(y)
    if nbytes == 0:
        return y
    row = nbytes // outer
    to = <char*>cnp.PyArray_DATA(y)
    for array in arrays:
        x = <cnp.ndarray>array
        run, data = cnp.PyArray_NBYTES(x) // outer, <const char*>cnp.PyArray_DATA(x)
        if nbytes < JOIN_ALONE:
            join_rows(to, row, data, run, outer)
        else:
            with nogil:
                join_rows(to, row, data, run, outer)
        to += run
    return y
