"""im2col: a block of output pixels as rows of a matrix, for BLAS and for the tile; unfold and fold."""

# cblas_sgemm and cblas_dgemm with 32-bit and with 64-bit integers
ctypedef void (*sgemm32)(int, int, int, int32_t, int32_t, int32_t, float, const float*, int32_t,
                         const float*, int32_t, float, float*, int32_t) noexcept nogil
ctypedef void (*sgemm64)(int, int, int, int64_t, int64_t, int64_t, float, const float*, int64_t,
                         const float*, int64_t, float, float*, int64_t) noexcept nogil
ctypedef void (*dgemm32)(int, int, int, int32_t, int32_t, int32_t, double, const double*, int32_t,
                         const double*, int32_t, double, double*, int32_t) noexcept nogil
ctypedef void (*dgemm64)(int, int, int, int64_t, int64_t, int64_t, double, const double*, int64_t,
                         const double*, int64_t, double, double*, int64_t) noexcept nogil

cdef enum:
    ROW_MAJOR = 101
    NO_TRANSPOSE = 111

cdef struct Blas:
    void* sgemm
    void* dgemm
    int bits                    # of its integers; 0: none bound

cdef Blas blas = Blas(NULL, NULL, 0)


def bind_blas(size_t sgemm, size_t dgemm, int bits):
    """Give the kernels the addresses of cblas_sgemm and cblas_dgemm; `bits` is the width of their integers."""
    blas.sgemm = <void*>sgemm
    blas.dgemm = <void*>dgemm
    blas.bits = bits


cdef void gemm(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const real* a, const real* b, Py_ssize_t ldb,
               real* c) noexcept nogil:
    """C := A.B, row-major. A: (m, k); B: (k, n), row stride ldb; C: (m, n)"""
    cdef Py_ssize_t i, j, t
    cdef real v
    if blas.bits == 64:
        if real is float:
            (<sgemm64>blas.sgemm)(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, m, n, k, 1, a, k, b, ldb, 0, c, n)
        else:
            (<dgemm64>blas.dgemm)(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, m, n, k, 1, a, k, b, ldb, 0, c, n)
    elif blas.bits == 32 and max(max(m, n), max(k, ldb)) < 0x7fffffff:
        if real is float:
            (<sgemm32>blas.sgemm)(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, <int32_t>m, <int32_t>n, <int32_t>k, 1,
                                  a, <int32_t>k, b, <int32_t>ldb, 0, c, <int32_t>n)
        else:
            (<dgemm32>blas.dgemm)(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, <int32_t>m, <int32_t>n, <int32_t>k, 1,
                                  a, <int32_t>k, b, <int32_t>ldb, 0, c, <int32_t>n)
    else:
        for i in range(m):
            memset(c + i * n, 0, n * sizeof(real))
            for t in range(k):
                v = a[i * k + t]
                for j in range(n):
                    c[i * n + j] += v * b[t * ldb + j]


cdef inline void im2col_row(const Step* s, const Window* p, char** base, Py_ssize_t r, Py_ssize_t group,
                            real* out) noexcept nogil:
    """One output row (counted over all images) as ow rows of K. out: (ow, kh, kw, c / groups)"""
    cdef Py_ssize_t i = r // s.units.rows
    cdef Py_ssize_t c = s.x.c // p.groups
    cdef Py_ssize_t iy, ix, ky, kx, ox
    cdef const real* image = <const real*>start(base, &s.x.place) + i * s.x.image
    cdef const real* x
    for ox in range(p.ow):
        for ky in range(p.kh):
            iy = (r - i * s.units.rows) * p.sh - p.top + ky * p.dh
            ix = ox * p.sw - p.left
            if iy < 0 or iy >= s.x.h:
                memset(out, 0, p.kw * c * sizeof(real))
                out += p.kw * c
            elif p.dw == 1 and s.x.pixel == c and ix >= 0 and ix + p.kw <= s.x.w:
                memcpy(out, image + iy * s.x.row + ix * s.x.pixel, p.kw * c * sizeof(real))
                out += p.kw * c
            else:
                x = image + iy * s.x.row + group * c
                for kx in range(p.kw):
                    if ix < 0 or ix >= s.x.w:
                        memset(out, 0, c * sizeof(real))
                    else:
                        memcpy(out, x + ix * s.x.pixel, c * sizeof(real))
                    out += c
                    ix += p.dw


cdef void conv_im2col(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      real* scratch) noexcept nogil:
    """Convolution or linear layer by cache-blocked im2col and BLAS: the plain path and the baseline.

    A block is at most `block` rows of one image: BLAS sums in another order for another number of rows, so
    products must not depend on the batch. record: BlasRecord; scratch: (block * ow, K) and
    (block * ow, channels / groups). BLAS keeps threads of its own, so this step is run whole by one caller
    (`begin` and `end` say nothing), and only the copying is shared out.
    """
    cdef const BlasRecord* p = <const BlasRecord*>s.record
    cdef Py_ssize_t u, r, row0, row1, g, i, j, q, pixels, oy, ox, rows = s.units.rows, ow = p.window.ow
    cdef Py_ssize_t blocks = (rows + s.units.block - 1) // s.units.block
    cdef Py_ssize_t K = p.window.kh * p.window.kw * (s.x.c // p.window.groups)
    cdef Py_ssize_t channels = p.channels // p.window.groups
    cdef real* product = scratch + s.units.block * ow * K
    cdef const real* weight = <const real*>start(base, &p.weight)
    cdef const real* bias = <const real*>start(base, &p.bias)
    cdef const real* z
    cdef real* y
    cdef real v
    for u in range(n * blocks):
        i = u // blocks
        row0 = i * rows + (u - i * blocks) * s.units.block          # counted over all images
        row1 = min(row0 + s.units.block, (i + 1) * rows)
        pixels = (row1 - row0) * ow
        for g in range(p.window.groups):
            if s.threads > 1:
                for r in prange(row0, row1, num_threads=s.threads, schedule="static"):
                    im2col_row(s, &p.window, base, r, g, scratch + (r - row0) * ow * K)
            else:
                for r in range(row0, row1):
                    im2col_row(s, &p.window, base, r, g, scratch + (r - row0) * ow * K)
            gemm(pixels, channels, K, <const real*>scratch, weight + g * K * channels, channels, product)
            for q in range(pixels):
                oy = row0 - i * rows + q // ow
                ox = q % ow
                y = <real*>start(base, &s.y.place) + element(&s.y, i, oy, ox) + g * channels
                z = <const real*>start(base, &s.z.place) + element(&s.z, i, oy, ox) + g * channels if s.has_z else NULL
                for j in range(channels):
                    v = product[q * channels + j] + bias[g * channels + j]
                    if z != NULL:
                        v = v + z[j]
                    y[j] = v
                if p.activation.kind != ACT_NONE:
                    activate_run(<int>p.activation.kind, p.activation.a, p.activation.b, <const real*>y, y, channels)


cdef struct SlidingBlock:
    Py_ssize_t kh
    Py_ssize_t kw
    Py_ssize_t dh                   # dilation
    Py_ssize_t dw
    Py_ssize_t top                  # padding
    Py_ssize_t left
    Py_ssize_t sh                   # stride
    Py_ssize_t sw
    Py_ssize_t h                    # of an image
    Py_ssize_t w
    Py_ssize_t oh                   # positions of the block
    Py_ssize_t ow


cdef inline Py_ssize_t begin_inside(Py_ssize_t shift, Py_ssize_t stride, Py_ssize_t count) noexcept nogil:
    """The first of `count` positions i whose i * stride + shift is not below 0; `count` where none is."""
    return 0 if shift >= 0 else min(count, (stride - 1 - shift) // stride)


cdef inline Py_ssize_t end_inside(Py_ssize_t shift, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t count
                                  ) noexcept nogil:
    """One past the last of `count` positions i whose i * stride + shift is below `size`."""
    return 0 if shift >= size else min(count, (size - shift + stride - 1) // stride)


cdef inline void move_vectors(bint add, const vreal* x, vreal* y, Py_ssize_t n) noexcept nogil:
    """y = x, or y + x, of n >= lanes elements: whole vectors, the last of which overlaps the one before."""
    cdef int lanes = v_lanes(x)
    cdef Py_ssize_t k = 0
    cdef vreal v = v_get(x, n - lanes)
    if add:
        v = v + v_get(y, n - lanes)         # before any of it is written
    while k + lanes < n:
        v_put(y, k, v_get(y, k) + v_get(x, k) if add else v_get(x, k))
        k += lanes
    v_put(y, n - lanes, v)


cdef inline void move_run(bint add, const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """y = x, or y + x, of n elements: runs of a row, too short to be worth a call of memcpy."""
    cdef Py_ssize_t k
    if real is float and n >= FC_W:
        move_vectors(add, <const vf*>x, <vf*>y, n)
    elif real is double and n >= FC_W // 2:
        move_vectors(add, <const vd*>x, <vd*>y, n)
    else:
        for k in range(n):
            y[k] = y[k] + x[k] if add else x[k]


cdef void unfold_tap(const real* x, const SlidingBlock* b, Py_ssize_t tap, real* out) noexcept nogil:
    """What one tap of one channel sees at every position of the block. x: (h, w); out: (oh, ow)"""
    cdef Py_ssize_t down = tap // b.kw * b.dh - b.top, right = tap % b.kw * b.dw - b.left
    cdef Py_ssize_t first = begin_inside(right, b.sw, b.ow), last = max(first, end_inside(right, b.sw, b.w, b.ow))
    cdef Py_ssize_t top = begin_inside(down, b.sh, b.oh), bottom = max(top, end_inside(down, b.sh, b.h, b.oh))
    cdef Py_ssize_t oy, ox, sw = b.sw
    cdef const real* row
    memset(out, 0, top * b.ow * sizeof(real))
    memset(out + bottom * b.ow, 0, (b.oh - bottom) * b.ow * sizeof(real))
    for oy in range(top, bottom):
        row = x + (oy * b.sh + down) * b.w + right
        for ox in range(first):
            out[oy * b.ow + ox] = 0
        if sw == 1:
            move_run(False, row + first, out + oy * b.ow + first, last - first)
        else:
            for ox in range(first, last):
                out[oy * b.ow + ox] = row[ox * sw]
        for ox in range(last, b.ow):
            out[oy * b.ow + ox] = 0


cdef void fold_plane(const real* columns, const SlidingBlock* b, real* out) noexcept nogil:
    """The sum of every tap's contribution to one channel. columns: (kh * kw, oh, ow); out: (h, w)"""
    cdef Py_ssize_t tap, oy, ox, down, right, first, last, sw = b.sw
    cdef const real* x
    cdef real* row
    memset(out, 0, b.h * b.w * sizeof(real))
    for tap in range(b.kh * b.kw):
        down, right = tap // b.kw * b.dh - b.top, tap % b.kw * b.dw - b.left
        first, last = begin_inside(right, b.sw, b.ow), end_inside(right, b.sw, b.w, b.ow)
        for oy in range(begin_inside(down, b.sh, b.oh), end_inside(down, b.sh, b.h, b.oh)):
            x = columns + (tap * b.oh + oy) * b.ow
            row = out + (oy * b.sh + down) * b.w + right
            if sw == 1:
                move_run(True, x + first, row + first, last - first)
            else:
                for ox in range(first, last):
                    row[ox * sw] += x[ox]


cdef void unfold_planes(const real* x, Py_ssize_t planes, const SlidingBlock* b, int threads, real* out) noexcept nogil:
    """x: (planes, h, w) -> out: (planes, kh * kw, oh * ow)"""
    cdef Py_ssize_t u, plane, tap, taps = b.kh * b.kw
    for u in prange(planes * taps, num_threads=threads, schedule="static"):
        plane = u // taps
        tap = u % taps
        unfold_tap(x + plane * b.h * b.w, b, tap, out + u * b.oh * b.ow)


cdef void fold_planes(const real* columns, Py_ssize_t planes, const SlidingBlock* b, int threads,
                      real* out) noexcept nogil:
    """columns: (planes, kh * kw, oh * ow) -> out: (planes, h, w)"""
    cdef Py_ssize_t plane
    for plane in prange(planes, num_threads=threads, schedule="static"):
        fold_plane(columns + plane * b.kh * b.kw * b.oh * b.ow, b, out + plane * b.h * b.w)


cdef SlidingBlock sliding_block(kernel, dilation, padding, stride, size, blocks) except *:
    """Every argument is a pair: (vertical, horizontal)."""
    return SlidingBlock(kernel[0], kernel[1], dilation[0], dilation[1], padding[0], padding[1], stride[0], stride[1],
                        size[0], size[1], blocks[0], blocks[1])


# Here and everywhere in this module plain pointers, not typed memoryviews: their support code is half a level's size
# and 0.2 ms of every start.

cdef int check_block_array(cnp.ndarray x, int ndim) except -1:
    """Refuse what is not float32 or float64, C-contiguous, of so many axes."""
    if cnp.PyArray_NDIM(x) != ndim or not contiguous(x):
        raise ValueError(f"needs a C-contiguous array of float32 or float64 with {ndim} axes")
    return 0


def unfold(cnp.ndarray x, kernel, dilation, padding, stride, blocks, int threads):
    """torch.nn.functional.unfold. x: (n, c, h, w) -> (n, c * kh * kw, oh * ow), blocks = (oh, ow)"""
    cdef SlidingBlock b
    cdef cnp.npy_intp dims[3]
    cdef cnp.ndarray out
    cdef Py_ssize_t planes
    check_block_array(x, 4)
    b = sliding_block(kernel, dilation, padding, stride, (cnp.PyArray_DIMS(x)[2], cnp.PyArray_DIMS(x)[3]), blocks)
    dims[0], dims[1], dims[2] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1] * b.kh * b.kw, b.oh * b.ow
    out = cnp.PyArray_EMPTY(3, dims, cnp.PyArray_TYPE(x), 0)
    planes = cnp.PyArray_DIMS(x)[0] * cnp.PyArray_DIMS(x)[1] if cnp.PyArray_SIZE(out) else 0
    threads = useful_threads(cnp.PyArray_SIZE(out), SHARE_GATHERING, threads)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            unfold_planes(<const float*>cnp.PyArray_DATA(x), planes, &b, threads, <float*>cnp.PyArray_DATA(out))
        else:
            unfold_planes(<const double*>cnp.PyArray_DATA(x), planes, &b, threads, <double*>cnp.PyArray_DATA(out))
    return out


def fold(cnp.ndarray x, output_size, kernel, dilation, padding, stride, blocks, int threads):
    """torch.nn.functional.fold. x: (n, c * kh * kw, oh * ow), blocks = (oh, ow) -> (n, c, *output_size)"""
    cdef SlidingBlock b
    cdef cnp.npy_intp dims[4]
    cdef cnp.ndarray out
    cdef Py_ssize_t planes
    check_block_array(x, 3)
    b = sliding_block(kernel, dilation, padding, stride, output_size, blocks)
    dims[0], dims[1], dims[2], dims[3] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1] // (b.kh * b.kw), b.h, b.w
    if cnp.PyArray_DIMS(x)[1] != dims[1] * b.kh * b.kw or cnp.PyArray_DIMS(x)[2] != b.oh * b.ow:
        raise ValueError("needs x: (n, c * kh * kw, oh * ow)")
    out = cnp.PyArray_EMPTY(4, dims, cnp.PyArray_TYPE(x), 0)
    planes = dims[0] * dims[1] if cnp.PyArray_SIZE(out) else 0
    threads = useful_threads(cnp.PyArray_SIZE(x), SHARE_GATHERING, threads)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            fold_planes(<const float*>cnp.PyArray_DATA(x), planes, &b, threads, <float*>cnp.PyArray_DATA(out))
        else:
            fold_planes(<const double*>cnp.PyArray_DATA(x), planes, &b, threads, <double*>cnp.PyArray_DATA(out))
    return out
