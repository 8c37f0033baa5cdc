"""Activations: one table, each a formula in the vector vocabulary, and the exponential they stand on.

A new activation is a number and its name here, and a row in `activation`; every kernel then has it.
"""

cdef enum ActivationKind:
    ACT_NONE = 0
    ACT_RELU = 1
    ACT_HARDTANH = 2            # a: the least, b: the greatest value
    ACT_LEAKY_RELU = 3          # a: negative_slope
    ACT_SIGMOID = 4
    ACT_TANH = 5
    ACT_EXP = 6                 # no network's activation, but a row like the others
    ACT_SILU = 7
    ACT_KINDS = 8
    LAST_INLINE = ACT_LEAKY_RELU        # kinds up to here take an instruction or two, and stand in every kernel

# As Python names them, in the enum's order.
ACTIVATIONS = {
    name: number
    for number, name in enumerate(("none", "relu", "hardtanh", "leaky_relu", "sigmoid", "tanh", "exp", "silu"))
}


cdef inline vany activation(int kind, vany x, vany a, vany b) noexcept nogil:
    """act(x) with the parameters a and b, in every lane. An unknown kind gives NaN, never x."""
    if kind == ACT_NONE:
        return x
    if kind == ACT_RELU:
        return v_max(v_fill(x, 0), x)
    if kind == ACT_HARDTANH:
        return v_min(b, v_max(a, x))
    if kind == ACT_LEAKY_RELU:
        return v_leaky(x, a)
    if kind == ACT_SIGMOID:
        return v_sigmoid(x)
    if kind == ACT_TANH:
        return v_tanh(x)
    if kind == ACT_EXP:
        return v_exp(x)
    if kind == ACT_SILU:
        return x / (v_fill(x, 1) + v_exp(-x))
    return v_fill(x, NAN)


cdef inline vany reduced(vany x, vany* n) noexcept nogil:
    """exp(r) - 1, where x = n * ln 2 + r and n is whole: |r| <= ln(2) / 2. x: within the range that exp clamps to.

    n * ln 2 is subtracted in two parts, of which the first is exact (W. J. Cody and W. Waite, Software Manual for the
    Elementary Functions, 1980; the parts are those of Cephes' expf and fdlibm's exp). exp(r) - 1 is r + r^2 q(r);
    q interpolates (minimax for float) with a relative error of exp(r) below 3.1e-9 and 1.7e-17.
    """
    cdef vany r, q
    n[0] = v_round(x * v_fill(x, 1.4426950408889634))
    if vany is vd:
        r = v_fma(n[0], v_fill(x, -6.93147180369123816490e-01), x)
        r = v_fma(n[0], v_fill(x, -1.90821492927058770002e-10), r)
        q = v_fma(v_fill(x, 2.510038549551032e-08), r, v_fill(x, 2.7620088445409746e-07))
        q = v_fma(q, r, v_fill(x, 2.7557268459997064e-06))
        q = v_fma(q, r, v_fill(x, 2.4801521295954376e-05))
        q = v_fma(q, r, v_fill(x, 0.00019841269863053618))
        q = v_fma(q, r, v_fill(x, 0.0013888888917213717))
        q = v_fma(q, r, v_fill(x, 0.008333333333330062))
        q = v_fma(q, r, v_fill(x, 0.04166666666662413))
        q = v_fma(q, r, v_fill(x, 0.16666666666666669))
        q = v_fma(q, r, v_fill(x, 0.5000000000000001))
    else:
        r = v_fma(n[0], v_fill(x, -0.693359375), x)
        r = v_fma(n[0], v_fill(x, 2.12194440e-4), r)
        q = v_fma(v_fill(x, 0.001381459878757596), r, v_fill(x, 0.008368716575205326))
        q = v_fma(q, r, v_fill(x, 0.04166838899254799))
        q = v_fma(q, r, v_fill(x, 0.1666652113199234))
        q = v_fma(q, r, v_fill(x, 0.4999999403953552))
    return v_fma(r * r, q, r)


cdef inline vany v_exp(vany x) noexcept nogil:
    """e^x, to infinity and (denormals are flushed) to 0 where that is the result; NaN stays NaN.

    The bounds lie beyond the first overflow and the last denormal. Largest error measured over 5 million values, at the
    worst level: 1.07 units of the last place; of sigmoid 2.43, of tanh 2.14.
    """
    cdef vany n, low, high
    if vany is vd:
        low, high = v_fill(x, -746), v_fill(x, 710)
    else:
        low, high = v_fill(x, -104), v_fill(x, 89)
    x = reduced(v_max(low, v_min(high, x)), &n)
    return v_scale2(x + v_fill(x, 1), n)


cdef inline vany v_sigmoid(vany x) noexcept nogil:
    """1 / (1 + e^-x)"""
    return v_fill(x, 1) / (v_fill(x, 1) + v_exp(-x))


cdef inline vany v_tanh(vany x) noexcept nogil:
    """(1 - e) / (1 + e) with the sign of x, where e = e^(-2|x|); 1 - e is found without cancellation near 0.

    Beyond the bound e vanishes beside 1.
    """
    cdef vany n, m, s, one = v_fill(x, 1)
    m = reduced(v_max(v_fill(x, -60), v_absolute(x) * v_fill(x, -2)), &n)       # e = s + s * m
    s = v_scale2(one, n)
    return v_copysign(v_fma(s, m, s - one) / v_fma(s, m, s + one), x)


cdef void activate_vectors(int kind, double a, double b, const vreal* x, vreal* y, Py_ssize_t n) noexcept nogil:
    """y = act(x) over n elements; y may be x."""
    cdef Py_ssize_t k = v_ahead(y, n)
    cdef int lanes = v_lanes(x)
    cdef vreal va = v_all(x, a), vb = v_all(x, b)
    if k > 0:
        v_put_n(y, 0, activation(kind, v_get_else(x, 0, <int>k, va), va, vb), <int>k)
    while k + lanes <= n:
        v_put(y, k, activation(kind, v_get(x, k), va, vb))
        k += lanes
    if k < n:
        v_put_n(y, k, activation(kind, v_get_else(x, k, <int>(n - k), va), va, vb), <int>(n - k))


cdef void activate_run(int kind, double a, double b, const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """y = act(x) over n elements; y may be x. What a kernel calls for rows it has just stored."""
    if real is float:
        activate_vectors(kind, a, b, <const vf*>x, <vf*>y, n)
    else:
        activate_vectors(kind, a, b, <const vd*>x, <vd*>y, n)
