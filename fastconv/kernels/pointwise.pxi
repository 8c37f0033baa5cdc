"""1x1 convolution on planes: x and y in PyTorch's order, pixels in the lanes, and nothing transposed.

y[o, p] = sum over i of w[o, i] * x[i, p] is the register tile with the caller's own weight as its rows, and
neighbouring pixels, copied once to (K, FC_NR), where else the weights stand.
"""

cdef enum:
    POINTWISE_FLOATS = 16384        # of x that are copied at once: runs of whole lines, which then stay in L2


cdef void copy_pixels(const float* x, Py_ssize_t plane, Py_ssize_t K, Py_ssize_t pixels, float* out) noexcept nogil:
    """x: (K, pixels), rows a plane apart; out: panels of (K, FC_NR), the last of (K, FC_W) where that is enough.

    Panels begin `odd_lines` apart: 64 inputs' would be 4 KB apart at AVX2, and the copy took a fifth of the layer.
    """
    cdef Py_ssize_t k, p, whole = pixels // FC_NR * FC_NR, left = pixels - whole, panel = odd_lines(K * FC_NR)
    cdef float* last = out + pixels // FC_NR * panel
    cdef const float* row
    cdef float* y
    for k in range(K):
        row = x + k * plane
        y = out + k * FC_NR
        p = 0
        while p < whole:
            v_store(y, v_load(row + p))
            v_store(y + FC_W, v_load(row + p + FC_W))
            y += panel
            p += FC_NR
        if left > FC_W:
            v_store(y, v_load(row + p))
            v_store(y + FC_W, v_load_n(row + p + FC_W, <int>left - FC_W))
        elif left > 0:
            v_store(last + k * FC_W, v_load_n(row + p, <int>left))


cdef void pointwise_panel(const PointwiseRecord* p, const float* w, const float* columns, int pixels,
                          const float* biases, float* y, Py_ssize_t plane) noexcept nogil:
    """y[o, j] = act(w[o] . columns[:, j] + bias[o]) for 1..FC_NR pixels j of every channel o.

    w: (channels, K); columns: (K, FC_NR or FC_W); biases: (channels, FC_NR), each in all lanes; y: (channels, plane)
    """
    cdef const float* a[TILES * MAX_M]
    cdef const float* z[TILES * MAX_M]
    cdef float* rows[TILES * MAX_M]
    cdef Epilogue e = epilogue(NULL, &p.activation)
    cdef Ahead far = nothing_ahead()
    cdef int nv = FC_NV if pixels > FC_W else 1
    cdef Py_ssize_t portion = rows_at_once(p.channels, nv)
    cdef Py_ssize_t o, m = 0, zero = 0
    e.valid = pixels - (nv - 1) * FC_W
    for o in range(p.channels):
        a[m] = w + o * p.inputs
        z[m] = biases + o * FC_NR
        rows[m] = y + o * plane
        m += 1
        if m == portion:
            run_rows(m, nv, a, &zero, 1, p.inputs, columns, &e, z, rows, &far)
            m = 0
    run_rows(m, nv, a, &zero, 1, p.inputs, columns, &e, z, rows, &far)


cdef void conv_pointwise(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                         char* scratch) noexcept nogil:
    """1x1 convolution, stride 1. x: (n, K, h, w); y: (n, channels, h, w); both planes without a border.

    record: PointwiseRecord. A unit is `block` panels of FC_NR pixels; scratch: (channels, FC_NR) and
    panels of (K, FC_NR), `odd_lines` apart.
    """
    cdef const PointwiseRecord* p = <const PointwiseRecord*>s.record
    cdef const float* w = <const float*>start(base, &p.weight)
    cdef const float* bias = <const float*>start(base, &p.bias)
    cdef Py_ssize_t K = p.inputs, plane = s.y.h * s.y.w, panels = s.units.rows
    cdef Py_ssize_t most = max(1, POINTWISE_FLOATS // (K * FC_NR)), last = last_row(s, n, end)
    cdef Py_ssize_t r, i, o, j, first, count, pixels
    cdef float* biases = <float*>scratch
    cdef float* columns = biases + p.channels * FC_NR
    for o in range(p.channels):
        for j in range(FC_NV):
            v_store(biases + o * FC_NR + j * FC_W, v_set1(bias[o]))
    r = first_row(s, begin)
    while r < last:
        i = r // panels
        first = r - i * panels                  # panel of the image
        count = min(min(most, panels - first), last - r)
        pixels = min(count * FC_NR, plane - first * FC_NR)
        copy_pixels(at(base, &s.x, i, 0, 0) + first * FC_NR, s.x.channel, K, pixels, columns)
        for j in range(count):
            pointwise_panel(p, w, columns + j * odd_lines(K * FC_NR), <int>min(<Py_ssize_t>FC_NR, pixels - j * FC_NR),
                            biases, at(base, &s.y, i, 0, 0) + (first + j) * FC_NR, s.y.channel)
        r += count
