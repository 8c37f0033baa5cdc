"""The vector vocabulary of `simd.h`, as Cython sees it.

`vf`, `vd` and `vp` are declared as numbers so that Cython writes plain C arithmetic on them; C sees vectors. Each is a
different kind of number (`vp` holds floats, as `vf` does), or fused types could not tell them apart.

A kernel for one precision holds float* and uses v_load and v_store. One for both is written on `vreal`: its arrays
are vreal*, the address of elements, which v_get(x, k) and v_put(y, k, v) read and write from element k on.
"""
from libc.stdint cimport uint64_t, uintptr_t

cdef extern from "simd.h" nogil:
    ctypedef float vf
    ctypedef double vd
    ctypedef long double vp
    enum:
        FC_W
        FC_P
        FC_D
        FC_MR
        FC_MR1
        FC_PO
        FC_PV
        FC_REGISTERS
    const char* FC_LEVEL

    const float* fc_hide(const float* p) noexcept
    vf v_load(const float* p) noexcept
    void v_prefetch(const float* p) noexcept
    void v_prefetch_l2(const float* p) noexcept
    bint fc_rare(bint condition) noexcept
    vf v_load_n(const float* p, int n) noexcept
    void v_store(float* p, vf v) noexcept
    void v_store_n(float* p, vf v, int n) noexcept
    vf v_set1(float x) noexcept
    vf v_spread(vf v, int n, int j) noexcept

    vp p_load(const float* p) noexcept
    void p_store(float* p, vp v) noexcept
    void p_store_half(float* p, vp v) noexcept
    vp p_set1(float x) noexcept
    vp p_even(vp a, vp b) noexcept
    vp p_odd(vp a, vp b) noexcept
    void p_transpose(vp* r) noexcept
    void p_store_three(float* p, vp a, vp b, vp c) noexcept
    void p_store_n(float* p, vp v, int n) noexcept
    vp p_fma "fc_fma"(vp a, vp b, vp c) noexcept
    vp p_max "fc_max"(vp a, vp b) noexcept
    vp p_min "fc_min"(vp a, vp b) noexcept
    vp p_nanmax "fc_nanmax"(vp a, vp b) noexcept
    vp p_leaky "fc_leaky"(vp x, vp slope) noexcept

    uint64_t fc_flush_denormals() noexcept
    void fc_restore_denormals(uint64_t state) noexcept

ctypedef fused vreal:               # one vector of a level's registers
    vf
    vd

ctypedef fused vany:                # and of the pixel kernel
    vf
    vd
    vp

cdef enum:
    LONG_RUN = 1024                 # elements that repay a partial vector in front, so that the others are aligned

# Macros that fit any vector. Cython cannot say that the result has an argument's type: the functions below do.
cdef extern from "simd.h" nogil:
    int fc_lanes(const void* x) noexcept
    double fc_all(const void* x, double c) noexcept
    double fc_fill(double like, double c) noexcept
    double fc_get(const void* x, Py_ssize_t k) noexcept
    double fc_get_else(const void* x, Py_ssize_t k, int n, double other) noexcept
    void fc_put(void* y, Py_ssize_t k, double v) noexcept
    void fc_put_n(void* y, Py_ssize_t k, double v, int n) noexcept
    double fc_fma(double a, double b, double c) noexcept
    double fc_max(double a, double b) noexcept
    double fc_min(double a, double b) noexcept
    double fc_nanmax(double a, double b) noexcept
    double fc_where_lt(double a, double b, double x, double y) noexcept
    double fc_where_nan(double a, double x, double y) noexcept
    double fc_absolute(double x) noexcept
    double fc_copysign(double x, double s) noexcept
    double fc_sqrt(double x) noexcept
    double fc_fraction(double x) noexcept
    double fc_exponent(double x) noexcept
    double fc_erf_of(double x) noexcept
    double fc_log_of(double x) noexcept
    double fc_pow_of(double x, double a) noexcept
    double fc_fmod_of(double x, double z) noexcept
    double fc_sin_far(double x, double near, double d) noexcept
    double fc_cos_far(double x, double near, double d) noexcept
    double fc_round(double x) noexcept
    double fc_scale2(double x, double n) noexcept
    double fc_power2(double n) noexcept
    double fc_leaky(double x, double slope) noexcept
    double fc_sum(double v) noexcept
    double fc_top(double v) noexcept


cdef inline int v_lanes(const vreal* x) noexcept nogil:
    """lanes of the vectors that x is read in"""
    return fc_lanes(x)


cdef inline int v_ahead(const vreal* y, Py_ssize_t n) noexcept nogil:
    """Elements of y to do first, fewer than lanes, so that whole vectors then begin at multiples of their size.

    NumPy's large arrays begin 16 bytes behind a cache line: every vector of 64 bytes would straddle two. Where n is
    small it is not worth a partial vector.
    """
    cdef int lanes = fc_lanes(y)
    if n < LONG_RUN:
        return 0
    return <int>(-<uintptr_t>y % sizeof(vreal)) * lanes // <int>sizeof(vreal)


cdef inline vreal v_all(const vreal* x, double c) noexcept nogil:
    """c in every lane of such a vector"""
    return fc_all(x, c)


cdef inline vany v_fill(vany like, double c) noexcept nogil:
    """c in every lane of a vector like `like`"""
    return fc_fill(like, c)


cdef inline vreal v_get(const vreal* x, Py_ssize_t k) noexcept nogil:
    return fc_get(x, k)


cdef inline vreal v_get_else(const vreal* x, Py_ssize_t k, int n, vreal other) noexcept nogil:
    """the first n elements, 1..lanes - 1, and behind them the lanes of `other`"""
    return fc_get_else(x, k, n, other)


cdef inline void v_put(vreal* y, Py_ssize_t k, vreal v) noexcept nogil:
    fc_put(y, k, v)


cdef inline void v_put_n(vreal* y, Py_ssize_t k, vreal v, int n) noexcept nogil:
    fc_put_n(y, k, v, n)


cdef inline vany v_fma(vany a, vany b, vany c) noexcept nogil:
    return fc_fma(a, b, c)


cdef inline vany v_max(vany a, vany b) noexcept nogil:
    """b where either is NaN"""
    return fc_max(a, b)


cdef inline vany v_min(vany a, vany b) noexcept nogil:
    """b where either is NaN"""
    return fc_min(a, b)


cdef inline vany v_nanmax(vany a, vany b) noexcept nogil:
    """max that a NaN on either side wins, as in PyTorch's max_pool2d"""
    return fc_nanmax(a, b)


cdef inline vany v_where_lt(vany a, vany b, vany x, vany y) noexcept nogil:
    """x where a < b, else y (for NaN, too)"""
    return fc_where_lt(a, b, x, y)


cdef inline vany v_where_nan(vany a, vany x, vany y) noexcept nogil:
    return fc_where_nan(a, x, y)


cdef inline vany v_absolute(vany x) noexcept nogil:
    return fc_absolute(x)


cdef inline vany v_copysign(vany x, vany s) noexcept nogil:
    return fc_copysign(x, s)


cdef inline vany v_sqrt(vany x) noexcept nogil:
    return fc_sqrt(x)


cdef inline vany v_fraction(vany x) noexcept nogil:
    """in [1, 2), of a normal x > 0: x = v_fraction(x) * 2^v_exponent(x)"""
    return fc_fraction(x)


cdef inline vany v_exponent(vany x) noexcept nogil:
    return fc_exponent(x)


cdef inline vany v_erf_of(vany x) noexcept nogil:
    """the C library's erf, lane by lane"""
    return fc_erf_of(x)


cdef inline vany v_log_of(vany x) noexcept nogil:
    """the C library's log, lane by lane"""
    return fc_log_of(x)


cdef inline vany v_pow_of(vany x, vany a) noexcept nogil:
    """the C library's pow, lane by lane"""
    return fc_pow_of(x, a)


cdef inline vany v_fmod_of(vany x, vany z) noexcept nogil:
    """the C library's fmod, lane by lane"""
    return fc_fmod_of(x, z)


cdef inline vany v_sin_far(vany x, vany near, double d) noexcept nogil:
    """`near` where |x| < d, else the C library's sine"""
    return fc_sin_far(x, near, d)


cdef inline vany v_cos_far(vany x, vany near, double d) noexcept nogil:
    """`near` where |x| < d, else the C library's cosine"""
    return fc_cos_far(x, near, d)


cdef inline vany v_round(vany x) noexcept nogil:
    """to the nearest whole number, halves to the even"""
    return fc_round(x)


cdef inline vany v_scale2(vany x, vany n) noexcept nogil:
    """x * 2^n for a whole n up to twice the exponents' range: to infinity and to zero where that is the result"""
    return fc_scale2(x, n)


cdef inline vany v_power2(vany n) noexcept nogil:
    """2^n for a whole n, where that is a normal number; one below their range 0, one above it infinite"""
    return fc_power2(n)


cdef inline vany v_leaky(vany x, vany slope) noexcept nogil:
    """x where it is above 0, else x * slope"""
    return fc_leaky(x, slope)


cdef inline double v_sum(vreal v) noexcept nogil:
    """of all lanes, in pairs"""
    return fc_sum(v)


cdef inline double v_top(vreal v) noexcept nogil:
    """the largest lane, or NaN"""
    return fc_top(v)
