"""Moving activations: layout changes, padding, borders of zeros."""


cdef void copy(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
               real* scratch) noexcept nogil:
    """y[i, h, w, c] = x[i, h, w, c], each under its own strides. A unit is `block` rows."""
    cdef Py_ssize_t r, i, j, j0, b, k
    cdef Py_ssize_t w = s.y.w, c = s.y.c, xp = s.x.pixel, xc = s.x.channel, yp = s.y.pixel, yc = s.y.channel
    cdef real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        x = at(base, &s.x, i, r - i * s.rows, 0)
        y = at(base, &s.y, i, r - i * s.rows, 0)
        if xc == yc == 1:
            if xp == yp == c:
                memcpy(y, x, w * c * sizeof(real))
            else:
                for j in range(w):
                    memcpy(y + j * yp, x + j * xp, c * sizeof(real))
        else:
            for b in range((w + COPY_BLOCK - 1) // COPY_BLOCK):
                j0 = b * COPY_BLOCK
                for k in range(c):
                    for j in range(j0, min(w, j0 + COPY_BLOCK)):
                        y[j * yp + k * yc] = x[j * xp + k * xc]


cdef void zero_border(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      real* scratch) noexcept nogil:
    """Zeros around y, for the padding of the convolution that reads it. table: top, bottom, left, right.

    A unit is one image. Rows are adjacent in memory, so what lies right of one row and left of the
    next is one run.
    """
    cdef Py_ssize_t i, k, r, h = s.y.h
    cdef Py_ssize_t planes = 1 if s.y.channel == 1 else s.y.c
    cdef Py_ssize_t top = s.table[0], bottom = s.table[1], left = s.table[2], right = s.table[3]
    cdef Py_ssize_t before = top * s.y.row + left * s.y.pixel
    cdef Py_ssize_t inside = s.y.w * s.y.pixel
    cdef real* y
    for i in range(begin, end):
        for k in range(planes):
            y = at(base, &s.y, i, 0, 0) + k * s.y.channel
            memset(y - before, 0, before * sizeof(real))
            for r in range(h):
                memset(y + r * s.y.row + inside, 0,
                       ((left + right) if r + 1 < h else right) * s.y.pixel * sizeof(real))
            memset(y + h * s.y.row - left * s.y.pixel, 0, bottom * s.y.row * sizeof(real))


cdef void pad(const Step* s, real** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
              real* scratch) noexcept nogil:
    """y[i, h, w, c] = x[i, rows[h], cols[w], chans[c]], or `value` where an index is -1. table: rows, cols, chans.

    The three index maps express every mode: constant, reflect, replicate, circular and cropping.
    """
    cdef Py_ssize_t r, i, j, k, oy, iy
    cdef const Py_ssize_t* rows = s.table
    cdef const Py_ssize_t* cols = rows + s.y.h
    cdef const Py_ssize_t* chans = cols + s.y.w
    cdef real value = <real>s.value
    cdef real* x
    cdef real* y
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.rows
        oy = r - i * s.rows
        iy = rows[oy]
        for j in range(s.y.w):
            y = at(base, &s.y, i, oy, j)
            if iy < 0 or cols[j] < 0:
                for k in range(s.y.c):
                    y[k] = value
            else:
                x = at(base, &s.x, i, iy, cols[j])
                for k in range(s.y.c):
                    y[k] = x[chans[k]] if chans[k] >= 0 else value
