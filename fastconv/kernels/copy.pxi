"""Moving activations: layout changes, padding, borders of zeros."""


cdef void transpose(Py_ssize_t rows, Py_ssize_t cols, const float* x, Py_ssize_t xstep, float* y,
                    Py_ssize_t ystep) noexcept nogil:
    """y[j, i] = x[i, j], a square of FC_P at a time. x: (rows, cols), y: (cols, rows), their rows a step apart.

    The last squares are moved back over what is done. Fewer rows than FC_P are stored as whole vectors too, where
    y's rows are adjacent: what spills over is written next. Nothing is read or written outside x and y.
    """
    cdef vp square[FC_P]
    cdef Py_ssize_t high = (rows + FC_P - 1) // FC_P, wide = (cols + FC_P - 1) // FC_P
    cdef Py_ssize_t a, b, jb, i, j, k
    cdef int lanes = <int>min(rows, FC_P)
    # Where y's rows lie far apart, squares go along them: a cache line is then filled at once, and not pushed out
    # half full by others of its set (32 channels of 32x32, which are 4 KB apart: 112 -> 60 us for 8 images).
    cdef bint along = ystep > xstep
    if cols < FC_P:
        for i in range(rows):
            for j in range(cols):
                y[j * ystep + i] = x[i * xstep + j]
        return
    if rows == ystep == 3:
        for jb in range(wide):
            j = min(jb * FC_P, cols - FC_P)
            p_store_three(y + 3 * j, p_load(x + j), p_load(x + xstep + j), p_load(x + 2 * xstep + j))
        return
    for a in range(wide if along else high):
        for b in range(high if along else wide):
            i = max(0, min((b if along else a) * FC_P, rows - FC_P))
            j = min((a if along else b) * FC_P, cols - FC_P)
            for k in range(FC_P):
                square[k] = p_load(x + (i + (k if k < lanes else 0)) * xstep + j)
            p_transpose(square)
            if lanes == FC_P or (ystep == rows and (cols - j - FC_P) * rows >= FC_P - rows):
                for k in range(FC_P):
                    p_store(y + (j + k) * ystep + i, square[k])
            else:
                for k in range(FC_P):
                    p_store_n(y + (j + k) * ystep + i, square[k], lanes)


cdef void copy(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
               real* scratch) noexcept nogil:
    """y[i, h, w, c] = x[i, h, w, c], each under its own strides. A unit is `block` rows."""
    cdef Py_ssize_t r, i, j, k
    cdef Py_ssize_t w = s.y.w, c = s.y.c, xp = s.x.pixel, xc = s.x.channel, yp = s.y.pixel, yc = s.y.channel
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        x = <const real*>start(base, &s.x.place) + element(&s.x, i, r - i * s.units.rows, 0)
        y = <real*>start(base, &s.y.place) + element(&s.y, i, r - i * s.units.rows, 0)
        if xc == yc == 1 and xp == yp == c:
            memcpy(y, x, w * c * sizeof(real))
        elif xc == yc == 1:
            for j in range(w):
                memcpy(y + j * yp, x + j * xp, c * sizeof(real))
        elif real is float and xp == yc == 1:
            transpose(c, w, x, xc, y, yp)
        elif real is float and xc == yp == 1:
            transpose(w, c, x, xp, y, yc)
        else:
            for k in range(c):
                for j in range(w):
                    y[j * yp + k * yc] = x[j * xp + k * xc]


cdef void zero_border(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      real* scratch) noexcept nogil:
    """Zeros around y, for the padding of the convolution that reads it. record: BorderRecord.

    A unit is one image. Rows are adjacent in memory, so what stands right of one row and left of the
    next is one run.
    """
    cdef const BorderRecord* p = <const BorderRecord*>s.record
    cdef Py_ssize_t i, k, r, h = s.y.h
    cdef Py_ssize_t planes = 1 if s.y.channel == 1 else s.y.c
    cdef Py_ssize_t before = p.top * s.y.row + p.left * s.y.pixel
    cdef Py_ssize_t inside = s.y.w * s.y.pixel
    cdef real* y
    for i in range(begin, end):
        for k in range(planes):
            y = <real*>start(base, &s.y.place) + element(&s.y, i, 0, 0) + k * s.y.channel
            memset(y - before, 0, before * sizeof(real))
            for r in range(h):
                memset(y + r * s.y.row + inside, 0,
                       ((p.left + p.right) if r + 1 < h else p.right) * s.y.pixel * sizeof(real))
            memset(y + h * s.y.row - p.left * s.y.pixel, 0, p.bottom * s.y.row * sizeof(real))


cdef void pad(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
              real* scratch) noexcept nogil:
    """y[i, h, w, c] = x[i, rows[h], columns[w], channels[c]], or `value` where an index is -1. record: PadRecord.

    The three index maps express every mode: constant, reflect, replicate, circular and cropping.
    """
    cdef const PadRecord* p = <const PadRecord*>s.record
    cdef Py_ssize_t r, i, j, k, oy, iy
    cdef const Py_ssize_t* rows = <const Py_ssize_t*>start(base, &p.rows)
    cdef const Py_ssize_t* columns = <const Py_ssize_t*>start(base, &p.columns)
    cdef const Py_ssize_t* channels = <const Py_ssize_t*>start(base, &p.channels)
    cdef real value = <real>p.value
    cdef const real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        oy = r - i * s.units.rows
        iy = rows[oy]
        for j in range(s.y.w):
            y = <real*>start(base, &s.y.place) + element(&s.y, i, oy, j)
            if iy < 0 or columns[j] < 0:
                for k in range(s.y.c):
                    y[k] = value
            else:
                x = <const real*>start(base, &s.x.place) + element(&s.x, i, iy, columns[j])
                for k in range(s.y.c):
                    y[k] = x[channels[k]] if channels[k] >= 0 else value
