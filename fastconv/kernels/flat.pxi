"""Operators on the caller's memory in its own order, for `fastconv.functional`: one call in C, no layout changed.

Each takes exactly an ndarray, aligned, of native float32 or float64, and returns a fresh array; for any other the
answer is NotImplemented and nothing was computed. Denormals are flushed, as in a Program.
"""
from cpython.ref cimport PyObject

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, PyObject* dtype, int subok)

cdef enum:
    # Elements for each thread that is woken, by what an element costs.
    SHARE_COPYING = 1 << 16             # relu and its like: memory is the limit
    SHARE_GATHERING = 1 << 15           # copied one at a time
    SHARE_COMPUTING = 1 << 14           # an exponential each
    PAGE = 4096                         # bytes: threads divide between pages


cdef inline bint taken(x) noexcept:
    """Whether x is what these functions take, but for its order."""
    cdef int dtype
    if not cnp.PyArray_CheckExact(x):
        return False
    dtype = cnp.PyArray_TYPE(<cnp.ndarray>x)
    return ((dtype == cnp.NPY_FLOAT or dtype == cnp.NPY_DOUBLE) and cnp.PyArray_ISALIGNED(<cnp.ndarray>x)
            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>x))


cdef inline bint contiguous(x) noexcept:
    """Whether x is `taken` and C-contiguous."""
    return taken(x) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>x)


cdef bint dense(cnp.ndarray x) noexcept:
    """Whether the elements of x fill a block of memory, in any order of axes."""
    cdef int axis, ndim = cnp.PyArray_NDIM(x)
    cdef cnp.npy_intp expected = cnp.PyArray_ITEMSIZE(x)
    cdef uint64_t seen = 0, bit
    cdef bint found = True
    if cnp.PyArray_IS_C_CONTIGUOUS(x) or cnp.PyArray_IS_F_CONTIGUOUS(x):        # an empty array is both
        return True
    while found:                    # the axis of the next larger stride
        found = False
        for axis in range(ndim):
            bit = <uint64_t>1 << axis
            if (not seen & bit and cnp.PyArray_DIMS(x)[axis] > 1 and cnp.PyArray_STRIDES(x)[axis] == expected):
                expected *= cnp.PyArray_DIMS(x)[axis]
                seen |= bit
                found = True
                break
    return expected == cnp.PyArray_ITEMSIZE(x) * cnp.PyArray_SIZE(x)


cdef inline int useful_threads(Py_ssize_t n, Py_ssize_t share, int threads) noexcept nogil:
    """As many threads as have at least a `share` of n elements each."""
    return <int>max(1, min(<Py_ssize_t>threads, n // share))


cdef void activate_share(int kind, double a, double b, const real* x, real* y, Py_ssize_t n, int part,
                         int parts) noexcept nogil:
    """One thread's part of n elements, cut at pages."""
    cdef Py_ssize_t page = PAGE // sizeof(real)
    cdef Py_ssize_t pages = (n + page - 1) // page
    cdef Py_ssize_t begin = pages * part // parts * page, end = min(n, pages * (part + 1) // parts * page)
    cdef uint64_t state = fc_flush_denormals()
    activate_run(kind, a, b, x + begin, y + begin, end - begin)
    fc_restore_denormals(state)


cdef void activate_flat(int kind, double a, double b, const real* x, real* y, Py_ssize_t n,
                        int threads) noexcept nogil:
    cdef int part
    if threads == 1:
        activate_share(kind, a, b, x, y, n, 0, 1)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            activate_share(kind, a, b, x, y, n, part, threads)


def elementwise(int kind, x, double a, double b, int threads):
    """act(x) for an activation of ACTIVATIONS with its parameters, for x dense in any order of axes.

    Returns an array of x's shape and order of axes.
    """
    cdef cnp.ndarray array, y
    cdef void* source
    cdef void* target
    cdef Py_ssize_t n
    cdef int useful
    if not 0 <= kind < ACT_KINDS:
        raise ValueError(f"fastconv: no activation has the number {kind}; ACTIVATIONS names them")
    if not taken(x) or not dense(<cnp.ndarray>x):
        return NotImplemented
    array = <cnp.ndarray>x
    y = PyArray_NewLikeArray(array, cnp.NPY_KEEPORDER, NULL, 0)
    n = cnp.PyArray_SIZE(array)
    source = cnp.PyArray_DATA(array)
    target = cnp.PyArray_DATA(y)
    useful = useful_threads(n, SHARE_COMPUTING if kind >= ACT_SIGMOID else SHARE_COPYING, threads)
    if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT:
        with nogil:
            activate_flat(kind, a, b, <const float*>source, <float*>target, n, useful)
    else:
        with nogil:
            activate_flat(kind, a, b, <const double*>source, <double*>target, n, useful)
    return y


cdef void normalise_share(const real* x, const real* mean, const real* var, const real* weight, const real* bias,
                          double eps, real* y, Py_ssize_t c, Py_ssize_t inner, Py_ssize_t begin,
                          Py_ssize_t end) noexcept nogil:
    """y = x * scale + shift on the planes [begin, end) of (n * c, inner); weight and bias may be NULL."""
    cdef Py_ssize_t plane, k
    cdef double scale, shift
    cdef uint64_t state = fc_flush_denormals()
    for plane in range(begin, end):
        k = plane % c
        scale = (weight[k] if weight != NULL else 1.) / sqrt(<double>var[k] + eps)
        shift = (bias[k] if bias != NULL else 0.) - mean[k] * scale
        affine_plane(x + plane * inner, scale, shift, y + plane * inner, inner)
    fc_restore_denormals(state)


cdef void normalise_flat(const real* x, const real* mean, const real* var, const real* weight, const real* bias,
                         double eps, real* y, Py_ssize_t planes, Py_ssize_t c, Py_ssize_t inner,
                         int threads) noexcept nogil:
    cdef int part
    if threads == 1:
        normalise_share(x, mean, var, weight, bias, eps, y, c, inner, 0, planes)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            normalise_share(x, mean, var, weight, bias, eps, y, c, inner, planes * part // threads,
                            planes * (part + 1) // threads)


cdef inline bint per_channel(v, int dtype, cnp.npy_intp c) noexcept:
    """Whether v is a contiguous array (c,) of this dtype."""
    return (contiguous(v) and cnp.PyArray_TYPE(<cnp.ndarray>v) == dtype and cnp.PyArray_NDIM(<cnp.ndarray>v) == 1
            and cnp.PyArray_DIMS(<cnp.ndarray>v)[0] == c)


cdef inline void* data_or_null(v) noexcept:
    return NULL if v is None else cnp.PyArray_DATA(<cnp.ndarray>v)


def batch_norm(x, mean, var, weight, bias, double eps, int threads):
    """(x - mean) / sqrt(var + eps) * weight + bias for x (n, c, ...), C-contiguous; weight and bias may be None.

    It is computed as x * scale + shift, both found in double and then rounded to x's precision.
    """
    cdef cnp.ndarray array, y
    cdef int dtype, useful
    cdef Py_ssize_t n, c, planes, inner
    cdef void* source
    cdef void* target
    cdef void* m
    cdef void* v
    cdef void* w
    cdef void* b
    if not contiguous(x) or cnp.PyArray_NDIM(<cnp.ndarray>x) < 2:
        return NotImplemented
    array = <cnp.ndarray>x
    dtype = cnp.PyArray_TYPE(array)
    c = cnp.PyArray_DIMS(array)[1]
    if not (per_channel(mean, dtype, c) and per_channel(var, dtype, c)
            and (weight is None or per_channel(weight, dtype, c)) and (bias is None or per_channel(bias, dtype, c))):
        return NotImplemented
    y = PyArray_NewLikeArray(array, cnp.NPY_CORDER, NULL, 0)
    n = cnp.PyArray_SIZE(array)
    if n == 0:
        return y
    planes = cnp.PyArray_DIMS(array)[0] * c
    inner = n // planes
    source, target = cnp.PyArray_DATA(array), cnp.PyArray_DATA(y)
    m, v, w, b = data_or_null(mean), data_or_null(var), data_or_null(weight), data_or_null(bias)
    useful = useful_threads(n, SHARE_COPYING, threads)
    if dtype == cnp.NPY_FLOAT:
        with nogil:
            normalise_flat(<const float*>source, <const float*>m, <const float*>v, <const float*>w, <const float*>b,
                           eps, <float*>target, planes, c, inner, useful)
    else:
        with nogil:
            normalise_flat(<const double*>source, <const double*>m, <const double*>v, <const double*>w,
                           <const double*>b, eps, <double*>target, planes, c, inner, useful)
    return y


cdef void softmax_share(bint logarithm, const real* x, real* y, Py_ssize_t size, Py_ssize_t inner, Py_ssize_t begin,
                        Py_ssize_t end) noexcept nogil:
    cdef uint64_t state = fc_flush_denormals()
    softmax_rows(logarithm, x, y, size, inner, begin, end)
    fc_restore_denormals(state)


cdef void softmax_flat(bint logarithm, const real* x, real* y, Py_ssize_t size, Py_ssize_t inner, Py_ssize_t units,
                       int threads) noexcept nogil:
    cdef int part
    if threads == 1:
        softmax_share(logarithm, x, y, size, inner, 0, units)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            softmax_share(logarithm, x, y, size, inner, units * part // threads, units * (part + 1) // threads)


def softmax_axis(x, int axis, bint log, int threads):
    """softmax, or log_softmax where `log`, over one axis of x, C-contiguous and of rank 1 or more."""
    cdef cnp.ndarray array, y
    cdef int i, ndim, useful
    cdef Py_ssize_t n, size, inner = 1
    cdef void* source
    cdef void* target
    if not contiguous(x):
        return NotImplemented
    array = <cnp.ndarray>x
    ndim = cnp.PyArray_NDIM(array)
    if not -ndim <= axis < ndim:
        return NotImplemented
    axis += ndim if axis < 0 else 0
    y = PyArray_NewLikeArray(array, cnp.NPY_CORDER, NULL, 0)
    n = cnp.PyArray_SIZE(array)
    if n == 0:
        return y
    size = cnp.PyArray_DIMS(array)[axis]
    for i in range(axis + 1, ndim):
        inner *= cnp.PyArray_DIMS(array)[i]
    source, target = cnp.PyArray_DATA(array), cnp.PyArray_DATA(y)
    useful = useful_threads(n, SHARE_COMPUTING, threads)
    if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT:
        with nogil:
            softmax_flat(log, <const float*>source, <float*>target, size, inner,
                         n // (size * inner) * softmax_units(inner), useful)
    else:
        with nogil:
            softmax_flat(log, <const double*>source, <double*>target, size, inner,
                         n // (size * inner) * softmax_units(inner), useful)
    return y
