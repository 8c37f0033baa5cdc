"""The table of activations: what each kind computes."""

cdef enum ActivationKind:
    NO_ACTIVATION = 0
    RELU = 1
    HARDTANH = 2                    # a, b: the limits
    LEAKY_RELU = 3                  # a: the slope
    LAST_INLINE = 3                 # kinds up to here take one or two instructions
    SIGMOID = 4
    TANH = 5

ACTIVATIONS = {"none": NO_ACTIVATION, "relu": RELU, "hardtanh": HARDTANH, "leaky_relu": LEAKY_RELU,
               "sigmoid": SIGMOID, "tanh": TANH}


cdef void activate_run(int kind, double a, double b, const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """y = act(x), n elements; y may be x."""
    cdef Py_ssize_t k
    cdef real v, low = <real>a, high = <real>b
    for k in range(n):
        v = x[k]
        if kind == RELU:
            v = 0 if v < 0 else v
        elif kind == HARDTANH:
            v = low if v < low else v
            v = high if v > high else v
        elif kind == LEAKY_RELU:
            v = v if v > 0 else v * low
        elif kind == SIGMOID:
            v = 1 / (1 + (expf(-v) if real is float else exp(-v)))
        elif kind == TANH:
            v = tanhf(v) if real is float else tanh(v)
        y[k] = v
