"""Activations: one table, each a formula in the vector vocabulary, and the exponential they stand on.

A new activation is a number and its name here, and a row in `activation`; every kernel then has it.
"""

cdef enum:
    FAR_ANGLE = 8192                # from here on sine and cosine of float are the C library's

cdef enum ActivationKind:
    ACT_NONE = 0
    ACT_RELU = 1
    ACT_HARDTANH = 2            # a: the least, b: the greatest value
    ACT_LEAKY_RELU = 3          # a: negative_slope
    ACT_SIGMOID = 4
    ACT_TANH = 5
    ACT_EXP = 6
    ACT_SILU = 7
    ACT_HARDSIGMOID = 8
    ACT_HARDSWISH = 9
    ACT_GELU = 10
    ACT_GELU_TANH = 11          # approximate='tanh'
    ACT_ELU = 12                # a: alpha; b: the scale of the input, which makes it celu
    ACT_SELU = 13
    ACT_SOFTPLUS = 14           # a: beta, b: threshold
    ACT_SOFTSIGN = 15
    ACT_MISH = 16
    ACT_LOGSIGMOID = 17
    ACT_ERF = 18
    ACT_LOG = 19
    ACT_SQRT = 20
    ACT_RSQRT = 21
    ACT_RECIPROCAL = 22
    ACT_ABS = 23
    ACT_FLOOR = 24
    ACT_CEIL = 25
    ACT_ROUND = 26
    ACT_TRUNC = 27
    ACT_SIGN = 28
    ACT_SIN = 29
    ACT_COS = 30
    ACT_POW = 31        # a: the exponent
    ACT_SQUARE = 32
    ACT_CUBE = 33
    ACT_ISNAN = 34
    ACT_LOGICAL_NOT = 35
    ACT_THRESHOLD = 36   # a: threshold, b: value
    ACT_HARDSHRINK = 37  # a: lambd
    ACT_SOFTSHRINK = 38  # a: lambd
    ACT_TANHSHRINK = 39
    ACT_KINDS = 40
    LAST_INLINE = ACT_LEAKY_RELU        # kinds up to here take an instruction or two, and stand in every kernel

# As Python names them, in the enum's order.
ACTIVATIONS = {
    name: number
    for number, name in enumerate((
        "none", "relu", "hardtanh", "leaky_relu", "sigmoid", "tanh", "exp", "silu", "hardsigmoid", "hardswish", "gelu",
        "gelu_tanh", "elu", "selu", "softplus", "softsign", "mish", "logsigmoid", "erf", "log", "sqrt", "rsqrt",
        "reciprocal", "abs", "floor", "ceil", "round", "trunc", "sign", "sin", "cos", "pow", "square", "cube", "isnan",
        "logical_not", "threshold", "hardshrink", "softshrink", "tanhshrink",
    ))
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
        return x / sigmoid_under(x)
    if kind == ACT_HARDSIGMOID:
        return sixth(x)
    if kind == ACT_HARDSWISH:
        return x * sixth(x)
    if kind == ACT_GELU:
        return v_gelu(x)
    if kind == ACT_GELU_TANH:   # 1 + tanh(y) is 2 / (1 + e^-2y); 2 sqrt(2 / pi)
        return x / sigmoid_under(v_fill(x, 1.5957691216057307) * v_fma(v_fill(x, 0.044715) * x * x, x, x))
    if kind == ACT_ELU:
        return v_where_lt(v_fill(x, 0), x, x, a * v_expm1(v_min(v_fill(x, 0), x * b)))
    if kind == ACT_SELU:        # alpha and scale of Klambauer et al., "Self-Normalizing Neural Networks", 2017
        return v_fill(x, 1.0507009873554804934193349852946) * v_where_lt(
            v_fill(x, 0), x, x, v_fill(x, 1.6732632423543772848170429916717) * v_expm1(v_min(v_fill(x, 0), x)))
    if kind == ACT_SOFTPLUS:
        return v_where_lt(b, x * a, x, v_softplus(x * a) / a)
    if kind == ACT_SOFTSIGN:
        return x / (v_fill(x, 1) + v_absolute(x))
    if kind == ACT_MISH:
        return v_mish(x)
    if kind == ACT_LOGSIGMOID:
        return -v_softplus(-x)
    if kind == ACT_ERF:
        return v_erf(x)
    if kind == ACT_LOG:
        return v_log(x)
    if kind == ACT_SQRT:
        return v_sqrt(x)
    if kind == ACT_RSQRT:
        return v_fill(x, 1) / v_sqrt(x)
    if kind == ACT_RECIPROCAL:
        return v_fill(x, 1) / x
    if kind == ACT_ABS:
        return v_absolute(x)
    if kind == ACT_FLOOR:
        return v_floor(x)
    if kind == ACT_CEIL:
        return -v_floor(-x)
    if kind == ACT_ROUND:
        return v_round(x)
    if kind == ACT_TRUNC:
        return v_copysign(v_floor(v_absolute(x)), x)
    if kind == ACT_SIGN:        # 0 for NaN, as in PyTorch
        return v_where_lt(v_fill(x, 0), x, v_fill(x, 1), v_where_lt(x, v_fill(x, 0), v_fill(x, -1), v_fill(x, 0)))
    if kind == ACT_SIN:
        return v_sin(x)
    if kind == ACT_COS:
        return v_cos(x)
    if kind == ACT_POW:
        return v_pow(x, a)
    if kind == ACT_SQUARE:
        return x * x
    if kind == ACT_CUBE:
        return x * x * x
    if kind == ACT_ISNAN:
        return v_where_nan(x, v_fill(x, 1), v_fill(x, 0))
    if kind == ACT_LOGICAL_NOT:
        return v_fill(x, 1) - v_truth(x)
    if kind == ACT_THRESHOLD:
        return v_where_nan(x, x, v_where_nan(a, x, v_where_lt(a, x, x, b)))
    if kind == ACT_HARDSHRINK:
        return v_where_lt(a, x, x, v_where_lt(x, -a, x, v_where_nan(x, x, v_fill(x, 0))))
    if kind == ACT_SOFTSHRINK:
        return v_where_lt(a, x, x - a, v_where_lt(x, -a, x + a, v_where_nan(x, x, v_fill(x, 0))))
    if kind == ACT_TANHSHRINK:
        return x - v_tanh(x)
    return v_fill(x, NAN)


cdef inline vany activate_cheap(int kind, vany x, vany a, vany b) noexcept nogil:
    """`activation` of a kind known only now, up to LAST_INLINE; x for the others, which `activate_run` does."""
    if kind == ACT_RELU:
        return activation(ACT_RELU, x, a, b)
    if kind == ACT_HARDTANH:
        return activation(ACT_HARDTANH, x, a, b)
    if kind == ACT_LEAKY_RELU:
        return activation(ACT_LEAKY_RELU, x, a, b)
    return x


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
    return v_fill(x, 1) / sigmoid_under(x)


cdef inline vany sigmoid_under(vany x) noexcept nogil:
    """1 + e^-x. Between the bounds 2^n is a normal number, and infinite at the upper one."""
    cdef vany n, low, high
    if vany is vd:
        low, high = v_fill(x, -708), v_fill(x, 710)
    else:
        low, high = v_fill(x, -87), v_fill(x, 89)
    x = reduced(v_max(low, v_min(high, -x)), &n)
    return v_fma(x + v_fill(x, 1), v_power2(n), v_fill(x, 1))


cdef inline vany v_tanh(vany x) noexcept nogil:
    cdef vany under
    x = tanh_over(x, &under)
    return x / under


cdef inline vany tanh_over(vany x, vany* under) noexcept nogil:
    """tanh(x) * under: 1 - e with the sign of x, of which `under` is 1 + e, where e = e^(-2|x|).

    1 - e is found without cancellation near 0. Beyond the bound e vanishes beside 1.
    """
    cdef vany n, m, s, one = v_fill(x, 1)
    m = reduced(v_max(v_fill(x, -60), v_absolute(x) * v_fill(x, -2)), &n)       # e = s + s * m
    s = v_power2(n)
    under[0] = v_fma(s, m, s + one)
    return v_copysign(v_fma(s, m, s - one), x)


cdef inline vany v_expm1(vany x) noexcept nogil:
    """e^x - 1 for x <= 0, without cancellation near 0. Below the bound e^x vanishes beside 1."""
    cdef vany n, m, s
    m = reduced(v_max(v_fill(x, -60), x), &n)           # e^x = s + s * m
    s = v_power2(n)
    return v_fma(s, m, s - v_fill(x, 1))


cdef inline vany log_polynomial(vany r) noexcept nogil:
    """log(1 + r) - r + r^2 / 2, for 1 + r between the roots of 1/2 and 2, as in Cephes' logf."""
    cdef vany y = v_fma(v_fill(r, 7.0376836292e-2), r, v_fill(r, -1.1514610310e-1))
    y = v_fma(y, r, v_fill(r, 1.1676998740e-1))
    y = v_fma(y, r, v_fill(r, -1.2420140846e-1))
    y = v_fma(y, r, v_fill(r, 1.4249322787e-1))
    y = v_fma(y, r, v_fill(r, -1.6668057665e-1))
    y = v_fma(y, r, v_fill(r, 2.0000714765e-1))
    y = v_fma(y, r, v_fill(r, -2.4999993993e-1))
    y = v_fma(y, r, v_fill(r, 3.3333331174e-1))
    return y * r * r * r


cdef inline vany v_log(vany x) noexcept nogil:
    """The natural logarithm: NaN below 0, -inf at 0 (and at denormals, which are flushed).

    x = f * 2^e with f between the roots of 1/2 and 2.
    """
    cdef vany e, r, y, one = v_fill(x, 1), zero = v_fill(x, 0), root = v_fill(x, 1.41421356237309504880)
    if vany is vd:
        return v_log_of(x)
    r = v_fraction(x)
    e = v_exponent(x) + v_where_lt(root, r, one, zero)
    r = r * v_where_lt(root, r, v_fill(x, 0.5), one) - one
    y = log_polynomial(r)
    y = v_fma(e, v_fill(x, -2.12194440e-4), y)
    y = v_fma(v_fill(x, -0.5) * r, r, y) + r
    y = v_fma(e, v_fill(x, 0.693359375), y)
    y = v_where_lt(x, v_fill(x, 1.17549435e-38), v_fill(x, -INFINITY), y)
    y = v_where_lt(x, zero, v_fill(x, NAN), y)
    y = v_where_lt(v_fill(x, 3.4028234e38), x, x, y)
    return v_where_nan(x, x, y)


cdef inline vany v_floor(vany x) noexcept nogil:
    """The largest whole number that is not above x."""
    cdef vany nearest = v_round(x)
    return v_where_lt(x, nearest, nearest - v_fill(x, 1), nearest)


cdef inline vany v_where_equal(vany a, vany b, vany x, vany y) noexcept nogil:
    """x where a == b, else y (for NaN, too)"""
    return v_where_nan(a, y, v_where_nan(b, y, v_where_lt(a, b, y, v_where_lt(b, a, y, x))))


cdef inline vany v_truth(vany x) noexcept nogil:
    """0 where x is 0, else 1; of NaN, too"""
    return v_where_equal(x, v_fill(x, 0), v_fill(x, 0), v_fill(x, 1))


cdef inline vany v_sin(vany x) noexcept nogil:
    """The sine: of float by polynomials, of double, and beyond FAR_ANGLE, by the C library.

    Largest error measured in float, over 5 million values up to 8192 and of v_cos as well: 9.3e-8, and 1.55 units of
    the last place where the result is above 0.001.
    """
    return v_sin_far(x, quarter_turns(x, v_fill(x, 0)), 0 if vany is vd else FAR_ANGLE)


cdef inline vany v_cos(vany x) noexcept nogil:
    """The cosine, as `v_sin`: the sine of a quarter turn more."""
    return v_cos_far(x, quarter_turns(x, v_fill(x, 1)), 0 if vany is vd else FAR_ANGLE)


cdef inline vany quarter_turns(vany x, vany more) noexcept nogil:
    """The sine of x and `more` quarter turns, for |x| < FAR_ANGLE, in float.

    x = q pi/2 + r, |r| <= pi/4; pi/2 is in three parts, of which q times the first two are exact. Parts and
    polynomials of the sine and the cosine are those of Cephes' sinf and cosf.
    """
    cdef vany q, r, z, s, c, half, turn, zero = v_fill(x, 0), one = v_fill(x, 1)
    if vany is vd:
        return x
    q = v_round(x * v_fill(x, 0.63661977236758134))
    r = v_fma(q, v_fill(x, -1.5703125), x)
    r = v_fma(q, v_fill(x, -4.837512969970703125e-4), r)
    r = v_fma(q, v_fill(x, -7.54978995489188216e-8), r)
    z = r * r
    s = v_fma(v_fill(x, -1.9515295891e-4), z, v_fill(x, 8.3321608736e-3))
    s = v_fma(s, z, v_fill(x, -1.6666654611e-1))
    s = v_fma(s * z, r, r)
    c = v_fma(v_fill(x, 2.443315711809948e-5), z, v_fill(x, -1.388731625493765e-3))
    c = v_fma(c, z, v_fill(x, 4.166664568298827e-2))
    c = v_fma(c * z, z, v_fma(v_fill(x, -0.5), z, one))
    q = q + more
    half = v_floor(q * v_fill(x, 0.5))                              # turns
    turn = half - v_fill(x, 2) * v_floor(half * v_fill(x, 0.5))     # 1 in the second half of a turn
    s = v_where_lt(v_fill(x, 0.5), q - half - half, c, s)
    return v_where_lt(zero, turn, -s, s)


cdef inline vany v_pow(vany x, vany a) noexcept nogil:
    """x^a, as the C library's pow; of double it is that. In float 2^(a * log2 |x|), with the sign of whole powers.

    |x| = f * 2^e as in `v_log`. a * e is exact in two parts, of which the whole number nearest to a * log2 |x| is
    taken, so that a large result is as close as a small one: the largest relative error measured is 1.3e-7 for |a| up
    to 2.5, 2.8e-7 up to 10, 2.3e-6 at 100. Denormals count as 0.
    """
    cdef vany m, f, e, r, y, part, t, rest, s, n, odd, whole, zero = v_fill(x, 0), one = v_fill(x, 1)
    cdef vany infinite = v_fill(x, INFINITY), above = v_fill(x, 3.4028234e38), size = v_absolute(a)
    if vany is vd:
        return v_pow_of(x, a)
    m = v_absolute(x)
    f = v_fraction(m)
    r = v_where_lt(v_fill(x, 1.41421356237309504880), f, one, zero)
    e = v_exponent(m) + r
    r = f * (one - v_fill(x, 0.5) * r) - one
    y = log_polynomial(r)
    part = v_fma(v_fill(x, -0.5) * r, r, y)            # log f = r + part
    part = v_fma(r, v_fill(x, 0.44269504088896341), part * v_fill(x, 1.44269504088896341)) + r
    t = a * e
    rest = v_fma(a, e, -t)
    s = t + a * part
    n = v_round(v_max(v_fill(x, -250), v_min(v_fill(x, 250), s)))
    y = v_scale2(v_exp(v_fma(a, part, (t - n) + rest) * v_fill(x, 0.69314718055994531)), n)
    y = v_where_lt(v_fill(x, 250), s, infinite, v_where_lt(s, v_fill(x, -250), zero, y))
    # where the formula does not hold: an infinite exponent, 0 and infinity
    y = v_where_lt(above, size, v_where_lt(one, m, v_where_lt(zero, a, infinite, zero),
                                           v_where_lt(m, one, v_where_lt(zero, a, zero, infinite), one)), y)
    y = v_where_lt(m, v_fill(x, 1.17549435e-38), v_where_lt(zero, a, zero, infinite), y)
    y = v_where_lt(above, m, v_where_lt(zero, a, infinite, zero), y)
    # negative bases: halves of whole exponents tell the odd ones
    whole = v_where_equal(v_round(a), a, one, zero)
    t = a * v_fill(x, 0.5)
    odd = whole * v_where_equal(v_round(t), t, zero, one)
    s = v_where_lt(m, v_fill(x, 1.17549435e-38), one, v_where_lt(above, m, one, whole))
    s = v_where_lt(zero, s, v_where_lt(zero, odd, -y, y), v_fill(x, NAN))
    y = v_where_lt(v_copysign(one, x), zero, s, y)
    y = v_where_nan(x, x, v_where_nan(a, a, y))
    return v_where_equal(a, zero, one, v_where_equal(x, one, one, y))


cdef inline vany v_softplus(vany x) noexcept nogil:
    """log(1 + e^x) = max(x, 0) + log(1 + t), t = e^-|x|; what 1 + t loses of t is made up for by t / ((1 + t) - 1)."""
    cdef vany t = v_exp(-v_absolute(x)), one = v_fill(x, 1), zero = v_fill(x, 0)
    cdef vany u = one + t
    return v_max(zero, x) + v_where_lt(one, u, v_log(u) * (t / (u - one)), t)


cdef inline vany v_mish(vany x) noexcept nogil:
    """x * tanh(softplus(x)) = x * w / (w + 2) with w = e^x * (e^x + 2), 1 in float where x is above the bound"""
    cdef vany e = v_exp(v_min(v_fill(x, 40), x)), two = v_fill(x, 2)
    cdef vany w = e * (e + two)
    return x * (w / (w + two))


cdef inline vany v_erf(vany x) noexcept nogil:
    """The error function: of float by polynomials, of double by the C library.

    Below 1, x * p(x^2); above, 1 - e^(-x^2) q(1 / (1 + x / 2)). Both are interpolated at Chebyshev's nodes with a
    relative error below 1.4e-9 of p and 1.2e-9 of 1 - erf. Beyond 4.2 the result rounds to 1.
    """
    cdef vany u, t, p, q, one = v_fill(x, 1)
    if vany is vd:
        return v_erf_of(x)
    u = x * x
    p = v_fma(v_fill(x, 7.882497122067988e-05), u, v_fill(x, -0.0008018854996699206))
    p = v_fma(p, u, v_fill(x, 0.00518931194316873))
    p = v_fma(p, u, v_fill(x, -0.02685432879634498))
    p = v_fma(p, u, v_fill(x, 0.11283597463495551))
    p = v_fma(p, u, v_fill(x, -0.3761262690358125))
    p = v_fma(p, u, v_fill(x, 1.1283791658815028)) * x
    u = v_min(v_fill(x, 4.2), v_absolute(x))
    t = one / v_fma(v_fill(x, 0.5), u, one)
    q = v_fma(v_fill(x, 0.11925904657489983), t, v_fill(x, -0.47088178382602863))
    q = v_fma(q, t, v_fill(x, 0.5627731091719468))
    q = v_fma(q, t, v_fill(x, -0.10317263189962023))
    q = v_fma(q, t, v_fill(x, 0.34756502612463047))
    q = v_fma(q, t, v_fill(x, 0.2597658118088562))
    q = v_fma(q, t, v_fill(x, 0.2848982124150541))
    q = v_fma(q, t, v_fill(x, -0.0001530647981525246))
    q = v_copysign(v_fma(-v_exp(-u * u), q, one), x)
    return v_where_lt(u, one, p, q)


cdef inline vany v_gelu(vany x) noexcept nogil:
    """x times the normal distribution's integral up to x: of float by polynomials, of double by the C library's erf.

    Up to -|x| that is t = e^(-x^2 / 2) q(1 / (1 + |x| / 4)), and up to |x| it is 1 - t. e^ is 2^n p(f), |f| <= 1/2.
    p and q are minimax: p has a relative error of 7.5e-8, q one of 6.5e-7 at most and an error of t below
    6.5e-8 min(1, 1 / |x|).
    At 13.25 the factor 2^n is 0.
    """
    cdef vany c, u, n, f, p, q, t, one = v_fill(x, 1)
    if vany is vd:
        return v_fill(x, 0.5) * x * (one + v_erf(x * v_fill(x, 0.70710678118654752440)))
    c = v_min(v_fill(x, 13.25), v_absolute(x))
    u = c * c
    n = v_round(u * v_fill(x, -0.72134752044448170))            # log2(e) / 2
    f = v_fma(u, v_fill(x, -0.72134752044448170), -n)
    p = v_fma(v_fill(x, 0.0013276473559034122), f, v_fill(x, 0.009675542498547213))
    p = v_fma(p, f, v_fill(x, 0.05550713279210565))
    p = v_fma(p, f, v_fill(x, 0.24022119702418415))
    p = v_fma(p, f, v_fill(x, 0.6931469670545811))
    p = v_fma(p, f, v_fill(x, 1.0000000716590443))
    t = one / v_fma(v_fill(x, 0.25), c, one)
    q = v_fma(v_fill(x, -0.0938892800234612), t, v_fill(x, 0.3546347935337337))
    q = v_fma(q, t, v_fill(x, -0.2970271672637317))
    q = v_fma(q, t, v_fill(x, 0.31761884276375074))
    q = v_fma(q, t, v_fill(x, -0.00032039775335857))
    q = v_fma(q, t, v_fill(x, 0.12198994358079396))
    q = v_fma(q, t, v_fill(x, 0.09683363879843288))
    q = v_fma(q, t, v_fill(x, 0.00015969146081357133))
    t = p * v_power2(n) * q
    return x * v_where_lt(x, v_fill(x, 0), t, one - t)


cdef inline vany sixth(vany x) noexcept nogil:
    """relu6(x + 3) / 6"""
    return v_min(v_fill(x, 6), v_max(v_fill(x, 0), x + v_fill(x, 3))) * v_fill(x, 0.16666666666666666)


cdef inline void activate_vectors(int kind, double a, double b, const vreal* x, vreal* y, Py_ssize_t n) noexcept nogil:
    """y = act(x) over n elements; y may be x. What is left at either end shares its code: there are many kinds."""
    cdef Py_ssize_t k = v_ahead(y, n), at = 0, part = k
    cdef int lanes = v_lanes(x)
    cdef vreal va = v_all(x, a), vb = v_all(x, b)
    while True:
        if part > 0:
            v_put_n(y, at, activation(kind, v_get_else(x, at, <int>part, va), va, vb), <int>part)
        if k == n:
            return
        while k + lanes <= n:
            v_put(y, k, activation(kind, v_get(x, k), va, vb))
            k += lanes
        at, part, k = k, n - k, n


cdef inline void activate_floats(int kind, double a, double b, const vf* x, vf* y, Py_ssize_t n) noexcept nogil:
    activate_vectors(kind, a, b, x, y, n)


cdef inline void activate_doubles(int kind, double a, double b, const vd* x, vd* y, Py_ssize_t n) noexcept nogil:
    activate_vectors(kind, a, b, x, y, n)


cdef inline void activate_short_rows(int kind, double a, double b, float** rows, Py_ssize_t m, Py_ssize_t shift,
                                     Py_ssize_t n) noexcept nogil:
    """rows[i][shift : shift + n] = act(of that) for m rows of a few vectors, which are not worth aligning."""
    cdef Py_ssize_t i, k
    cdef vf* y
    cdef vf va = v_set1(<float>a), vb = v_set1(<float>b)
    for i in range(m):
        y = <vf*>(rows[i] + shift)
        k = 0
        while k + FC_W <= n:
            v_put(y, k, activation(kind, v_get(<const vf*>y, k), va, vb))
            k += FC_W
        if k < n:
            v_put_n(y, k, activation(kind, v_get_else(<const vf*>y, k, <int>(n - k), va), va, vb), <int>(n - k))


ctypedef void (*floats_function)(int, double, double, const vf*, vf*, Py_ssize_t) noexcept nogil
ctypedef void (*doubles_function)(int, double, double, const vd*, vd*, Py_ssize_t) noexcept nogil

ctypedef void (*rows_function)(int, double, double, float**, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_rows "FC_SWITCH_KIND" (int most, int kind, rows_function f, ...)
    void switch_floats "FC_SWITCH_KIND" (int most, int kind, floats_function f, ...)
    void switch_doubles "FC_SWITCH_KIND" (int most, int kind, doubles_function f, ...)


cdef void activate_run(int kind, double a, double b, const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """y = act(x) over n elements; y may be x. What a kernel calls for rows it has just stored."""
    if real is float:
        switch_floats(ACT_KINDS - 1, kind, activate_floats, a, b, <const vf*>x, <vf*>y, n)
    else:
        switch_doubles(ACT_KINDS - 1, kind, activate_doubles, a, b, <const vd*>x, <vd*>y, n)


cdef void activate_rows(int kind, double a, double b, float** rows, Py_ssize_t m, Py_ssize_t shift,
                        Py_ssize_t n) noexcept nogil:
    """`activate_run` of elements [shift, shift + n) of m rows; the usual ones at once, for the size of the others."""
    cdef Py_ssize_t i
    if kind <= ACT_GELU:
        switch_rows(ACT_GELU, kind, activate_short_rows, a, b, rows, m, shift, n)
        return
    for i in range(m):
        activate_run(kind, a, b, <const float*>rows[i] + shift, rows[i] + shift, n)
