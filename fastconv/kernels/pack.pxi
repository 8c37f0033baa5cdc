"""Weights in the order the kernels read them: when a network is compiled, or as a step where they come with the call.

A weight is (O, I, taps) as PyTorch has it, O of all groups together. Every order is blocks of output channels, each
(K, width) with K = taps * I: a transposition, by squares of FC_P.
"""

cdef enum PackOrder:
    PANELS = 0                  # the tile's: width FC_NR, or FC_W where so few are left in a group; K = (taps, I)
    COLUMNS = 1                 # BLAS's: width all channels of a group; K = (taps, I)
    LANES = 2                   # depthwise's: one block of O up to whole vectors; K = taps
    PIXELS = 3                  # the pixel kernel's: width FC_PO; K = (I, taps), as it is


cdef inline Py_ssize_t pack_row(Py_ssize_t k, Py_ssize_t inputs, Py_ssize_t taps) noexcept nogil:
    """Where element k = (i, tap) of a filter goes: to (tap, i)."""
    return k % taps * inputs + k // taps


cdef void pack_block(const real* w, Py_ssize_t count, Py_ssize_t inputs, Py_ssize_t taps, Py_ssize_t width,
                     real* out) noexcept nogil:
    """out[pack_row(k), o] = w[o, k], zero from `count` channels on. w: (count, inputs * taps); out: (K, width)"""
    cdef Py_ssize_t K = inputs * taps
    cdef Py_ssize_t o, k, j, done = 0
    cdef vp square[FC_P]
    if count < width:
        memset(out, 0, K * width * sizeof(real))
    if real is float:
        while done + FC_P <= count:
            k = 0
            while k + FC_P <= K:
                for j in range(FC_P):
                    square[j] = p_load(w + (done + j) * K + k)
                p_transpose(square)
                for j in range(FC_P):
                    p_store(out + pack_row(k + j, inputs, taps) * width + done, square[j])
                k += FC_P
            for k in range(k, K):
                for j in range(FC_P):
                    out[pack_row(k, inputs, taps) * width + done + j] = w[(done + j) * K + k]
            done += FC_P
    for k in range(K):
        j = pack_row(k, inputs, taps)
        for o in range(done, count):
            out[j * width + o] = w[o * K + k]


cdef inline Py_ssize_t whole(Py_ssize_t n, Py_ssize_t width) noexcept nogil:
    """n, up to a multiple of width."""
    return (n + width - 1) // width * width


cdef inline Py_ssize_t block_width(Py_ssize_t order, Py_ssize_t channels, Py_ssize_t first) noexcept nogil:
    """Width of the block that begins at channel `first` of a group of `channels`."""
    if order == PANELS:
        return FC_NR if channels - first > FC_W else FC_W
    if order == COLUMNS:
        return channels
    return whole(channels, FC_W) if order == LANES else FC_PO


cdef Py_ssize_t packed_channels(Py_ssize_t order, Py_ssize_t channels) noexcept nogil:
    """Channels of one group with the zeros that fill up its blocks."""
    cdef Py_ssize_t first = 0
    while first < channels:
        first += block_width(order, channels, first)
    return first


cdef void pack_weight(const PackRecord* p, const real* w, real* out) noexcept nogil:
    """Every block of every group. w: (O, I, taps); out: (groups, blocks of (K, width))"""
    cdef Py_ssize_t channels = p.channels // p.groups, K = p.per_group * p.taps
    cdef Py_ssize_t inputs = K if p.order == PIXELS else p.per_group
    cdef Py_ssize_t g, first, width
    for g in range(p.groups):
        first = 0
        while first < channels:
            width = block_width(p.order, channels, first)
            pack_block(w + first * K, min(width, channels - first), inputs, K // inputs if inputs else 1, width, out)
            out += K * width
            first += width
        w += channels * K


cdef Py_ssize_t winograd_matrices(Py_ssize_t scheme) noexcept nogil:
    """How many matrices of weights a scheme has."""
    return (WINOGRAD_SIZES[scheme].own + 1) * (WINOGRAD_SIZES[scheme].own + 1)


cdef void transform_weight(const WinogradPackRecord* p, const float* w, float* out, float* scratch) noexcept nogil:
    """G g G^T of every filter, channels in the lanes. w: (O, I, 3, 3); out: (matrices, panels of (I, FC_NR))

    scratch: (9, I, FC_NR)
    """
    cdef Py_ssize_t matrix = packed_channels(PANELS, p.channels) * p.inputs, first = 0, k, width
    while first < p.channels:
        width = block_width(PANELS, p.channels, first)
        pack_block(w + first * p.inputs * 9, min(width, p.channels - first), p.inputs, 9, width, scratch)
        for k in range(p.inputs * width // FC_W):
            if p.scheme == F2:
                transform_filters_2(scratch + k * FC_W, p.inputs * width, out + k * FC_W, matrix)
            else:
                transform_filters(<int>p.scheme, scratch + k * FC_W, p.inputs * width, out + k * FC_W, matrix)
        out += p.inputs * width
        first += width


cdef void pack(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
               real* scratch) noexcept nogil:
    """`pack_weight` as a step, for weights that come with the call. y: where to; record: PackRecord."""
    cdef const PackRecord* p = <const PackRecord*>s.record
    pack_weight(p, <const real*>start(base, &p.weight), <real*>start(base, &s.y.place))


cdef void pack_points(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                      char* scratch) noexcept nogil:
    """`transform_weight` as a step, for weights that come with the call. y: where to; record: WinogradPackRecord."""
    cdef const WinogradPackRecord* p = <const WinogradPackRecord*>s.record
    transform_weight(p, <const float*>start(base, &p.weight), <float*>start(base, &s.y.place), <float*>scratch)


cdef object aligned(Py_ssize_t size, dtype):
    """An array of `size` elements whose data begins on a cache line: a vector load that straddles lines costs two."""
    itemsize = dtype.itemsize
    raw = np.empty(size * itemsize + ALIGN, np.uint8)
    offset = ALIGN - <uintptr_t>cnp.PyArray_DATA(raw) % ALIGN
    return raw[offset : offset + size * itemsize].view(dtype)


def packed_size(Py_ssize_t order, Py_ssize_t groups, Py_ssize_t channels, Py_ssize_t k):
    """Elements that a weight (groups * channels, k) takes in a PackOrder."""
    return groups * packed_channels(order, channels) * k


def pack_array(Py_ssize_t order, Py_ssize_t groups, cnp.ndarray weight):
    """Return a C-contiguous weight, (O, I, taps), in a PackOrder: a flat array, aligned to a cache line."""
    cdef PackRecord p
    cdef cnp.ndarray out
    cdef void* w = cnp.PyArray_DATA(weight)
    cdef void* packed
    cdef bint wide = cnp.PyArray_TYPE(weight) == cnp.NPY_DOUBLE
    p.groups, p.order = groups, order
    p.channels, p.per_group, p.taps = (<object>weight).shape
    out = aligned(packed_size(order, groups, p.channels // groups, p.per_group * p.taps), weight.dtype)
    packed = cnp.PyArray_DATA(out)
    with nogil:
        if wide:
            pack_weight(&p, <const double*>w, <double*>packed)
        else:
            pack_weight(&p, <const float*>w, <float*>packed)
    return out


def winograd_size(int scheme, Py_ssize_t channels, Py_ssize_t inputs):
    """Elements that a weight (channels, inputs, 3, 3) takes as one of the WINOGRAD schemes reads it."""
    return winograd_matrices(scheme) * packed_channels(PANELS, channels) * inputs


def pack_winograd(int scheme, cnp.ndarray weight):
    """Return a C-contiguous float32 weight, (O, I, 3, 3), as one of the WINOGRAD schemes reads it: flat, aligned."""
    cdef WinogradPackRecord p
    cdef cnp.ndarray out, scratch
    cdef const float* w = <const float*>cnp.PyArray_DATA(weight)
    p.scheme = scheme
    p.channels, p.inputs = (<object>weight).shape[:2]
    out = aligned(winograd_size(scheme, p.channels, p.inputs), weight.dtype)
    scratch = aligned(9 * p.inputs * FC_NR, weight.dtype)
    with nogil:
        transform_weight(&p, w, <float*>cnp.PyArray_DATA(out), <float*>cnp.PyArray_DATA(scratch))
    return out
