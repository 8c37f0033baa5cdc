"""Arithmetic of two operands that broadcast, and copies in another order: y[...] = act(f(x[...], z[...])).

An operand has a step in memory for each axis of y: 0 where it is broadcast, any other number where its axes stand in
another order, where part of it is skipped, or where it runs backwards.
"""

cdef enum:
    STRIDED_AXES = 16               # at most, axes that could be joined counted as one
    STRIDED_RUN = 1024              # elements that stay in L1 until their activation

cdef enum ArithmeticKind:
    COPY = 0                        # of x; there is no z, and no activation
    ADD = 1
    SUB = 2
    MUL = 3
    DIV = 4
    MAXIMUM = 5                     # NaN on either side wins, as in PyTorch
    MINIMUM = 6
    POW = 7
    FMOD = 8                        # the sign of x
    REMAINDER = 9                   # the sign of z
    EQ = 10                         # these give 1 or 0
    NE = 11
    LT = 12
    LE = 13
    GT = 14
    GE = 15
    LOGICAL_AND = 16
    LOGICAL_OR = 17
    LOGICAL_XOR = 18
    PRELU = 19                      # x, times z where it is not above 0
    ARITHMETIC_KINDS = 20
    PUT_WHERE = 20                  # z where x is not 0; else y stays. No activation

# As Python names them, in the enum's order.
ARITHMETIC = {
    name: number
    for number, name in enumerate((
        "copy", "add", "sub", "mul", "div", "maximum", "minimum", "pow", "fmod", "remainder", "eq", "ne", "lt", "le",
        "gt", "ge", "logical_and", "logical_or", "logical_xor", "prelu", "put_where",
    ))
}

cdef struct Axis:
    Py_ssize_t size
    Py_ssize_t y                    # steps, in elements
    Py_ssize_t x
    Py_ssize_t z


cdef inline vreal arithmetic(int kind, vreal x, vreal z) noexcept nogil:
    cdef vreal r, zero = v_fill(x, 0), one = v_fill(x, 1)
    if kind == ADD:
        return x + z
    if kind == SUB:
        return x - z
    if kind == MUL:
        return x * z
    if kind == DIV:
        return x / z
    if kind == MAXIMUM:
        return v_nanmax(x, z)
    if kind == MINIMUM:
        return v_where_nan(x, x, v_min(x, z))
    if kind == POW:
        return v_pow(x, z)
    if kind == FMOD:
        return v_fmod_of(x, z)
    if kind == REMAINDER:
        r = v_fmod_of(x, z)
        return v_where_equal(r, zero, r, v_where_equal(v_where_lt(r, zero, one, zero), v_where_lt(z, zero, one, zero),
                                                       r, r + z))
    if kind == EQ:
        return v_where_equal(x, z, one, zero)
    if kind == NE:
        return v_where_equal(x, z, zero, one)
    if kind == LT:
        return v_where_lt(x, z, one, zero)
    if kind == LE:
        return v_where_lt(x, z, one, v_where_equal(x, z, one, zero))
    if kind == GT:
        return v_where_lt(z, x, one, zero)
    if kind == GE:
        return v_where_lt(z, x, one, v_where_equal(x, z, one, zero))
    if kind == LOGICAL_AND:
        return v_truth(x) * v_truth(z)
    if kind == LOGICAL_OR:
        return v_max(v_truth(x), v_truth(z))
    if kind == LOGICAL_XOR:
        return v_absolute(v_truth(x) - v_truth(z))
    if kind == PRELU:
        return v_where_lt(zero, x, x, x * z)
    return x


cdef inline vreal operand(bint whole, const vreal* x, Py_ssize_t k, vreal alike) noexcept nogil:
    """Elements k and on, or one element in all lanes."""
    return v_get(x, k) if whole else alike


cdef inline vreal operand_part(bint whole, const vreal* x, Py_ssize_t k, int part, vreal alike) noexcept nogil:
    return v_get_else(x, k, part, v_all(x, 1)) if whole else alike


cdef inline void arithmetic_vectors(int kind, bint z_runs, const vreal* x, const vreal* z, vreal* y, Py_ssize_t n,
                                    vreal zs) noexcept nogil:
    """y = f(x, z) over n elements; a z that does not run is the same for all: zs. y may be x or z."""
    cdef Py_ssize_t k = v_ahead(y, n), at = 0, part = k
    cdef int lanes = v_lanes(y)
    while True:
        if part > 0:
            v_put_n(y, at, arithmetic(kind, v_get_else(x, at, <int>part, v_all(x, 1)),
                                      operand_part(z_runs, z, at, <int>part, zs)), <int>part)
        if k == n:
            return
        while k + lanes <= n:
            v_put(y, k, arithmetic(kind, v_get(x, k), operand(z_runs, z, k, zs)))
            k += lanes
        at, part, k = k, n - k, n


cdef inline void arithmetic_floats(int kind, Py_ssize_t z_step, const float* x, const float* z, float* y,
                                   Py_ssize_t n) noexcept nogil:
    cdef const vf* b = <const vf*>z
    if z_step:
        arithmetic_vectors(kind, True, <const vf*>x, b, <vf*>y, n, v_all(b, z[0]))
    else:
        arithmetic_vectors(kind, False, <const vf*>x, b, <vf*>y, n, v_all(b, z[0]))


cdef inline void arithmetic_doubles(int kind, Py_ssize_t z_step, const double* x, const double* z, double* y,
                                    Py_ssize_t n) noexcept nogil:
    cdef const vd* b = <const vd*>z
    if z_step:
        arithmetic_vectors(kind, True, <const vd*>x, b, <vd*>y, n, v_all(b, z[0]))
    else:
        arithmetic_vectors(kind, False, <const vd*>x, b, <vd*>y, n, v_all(b, z[0]))


ctypedef void (*arithmetic_floats_function)(int, Py_ssize_t, const float*, const float*, float*,
                                            Py_ssize_t) noexcept nogil
ctypedef void (*arithmetic_doubles_function)(int, Py_ssize_t, const double*, const double*, double*,
                                             Py_ssize_t) noexcept nogil

cdef extern from "simd.h" nogil:
    void switch_arithmetic_floats "FC_SWITCH_KIND" (int most, int kind, arithmetic_floats_function f, ...)
    void switch_arithmetic_doubles "FC_SWITCH_KIND" (int most, int kind, arithmetic_doubles_function f, ...)


cdef void arithmetic_run(const StridedRecord* p, const Axis* a, const real* x, const real* z, real* y, Py_ssize_t n,
                         real* scratch) noexcept nogil:
    """n <= STRIDED_RUN elements of one axis. scratch: (3, STRIDED_RUN), for operands whose step is neither 0 nor 1"""
    cdef int kind = <int>p.kind
    cdef Py_ssize_t k
    cdef real* target = y if a.y == 1 else scratch + 2 * STRIDED_RUN
    cdef Py_ssize_t x_step = a.x, z_step = a.z
    if kind == COPY:
        if x_step == 1 and a.y == 1:
            memcpy(y, x, n * sizeof(real))
        elif x_step == -1 and a.y == 1:         # whole vectors, turned
            for k in range(n):
                y[k] = x[-k]
        else:
            for k in range(n):
                y[k * a.y] = x[k * x_step]
        return
    if kind == PUT_WHERE:
        for k in range(n):
            y[k * a.y] = z[k * z_step] if x[k * x_step] != 0 else y[k * a.y]
        return
    if x_step != 1:                 # 0, too: a loop of its own for each operation would cost 100 KB in all
        for k in range(n):
            scratch[k] = x[k * x_step]
        x = scratch
    if z_step != 0 and z_step != 1:
        for k in range(n):
            scratch[STRIDED_RUN + k] = z[k * z_step]
        z, z_step = scratch + STRIDED_RUN, 1
    if real is float:
        switch_arithmetic_floats(ARITHMETIC_KINDS - 1, kind, arithmetic_floats, z_step, x, z, target, n)
    else:
        switch_arithmetic_doubles(ARITHMETIC_KINDS - 1, kind, arithmetic_doubles, z_step, x, z, target, n)
    if p.activation.kind != ACT_NONE:
        activate_run(<int>p.activation.kind, p.activation.a, p.activation.b, <const real*>target, target, n)
    if a.y != 1:
        for k in range(n):
            y[k * a.y] = target[k]


cdef inline bint is_transpose(const StridedRecord* p, const Axis* axes) noexcept nogil:
    """Whether the last two of three axes or more are copied from (a, b) to (b, a), both dense in one of them."""
    return p.kind == COPY and p.count > 2 and axes[p.count - 1].y == 1 and axes[p.count - 2].x == 1


cdef void strided(const Step* s, char** base, Py_ssize_t n, Py_ssize_t begin, Py_ssize_t end,
                  real* scratch) noexcept nogil:
    """y = act(f(x, z)). record: StridedRecord. A unit is `block` indices of the outermost axis; y is neither x nor z.

    scratch: (3, STRIDED_RUN)
    """
    cdef const StridedRecord* p = <const StridedRecord*>s.record
    cdef const Axis* axes = <const Axis*>start(base, &p.axes)
    cdef const Axis* inner = axes + p.count - 1
    cdef bint squares = real is float and is_transpose(p, axes)
    cdef Py_ssize_t outer = p.count - 1 - squares           # axes that are gone through one index at a time
    cdef Py_ssize_t at[STRIDED_AXES]
    cdef Py_ssize_t r, i, k, axis, now, runs = 1
    cdef const real* x
    cdef const real* z
    cdef real* y
    for axis in range(1, outer):
        runs *= axes[axis].size
    for r in range(first_row(s, begin), last_row(s, n, end)):
        i = r // s.units.rows
        k = r - i * s.units.rows
        x = <const real*>start(base, &s.x.place) + i * s.x.image + k * axes[0].x
        y = <real*>start(base, &s.y.place) + i * s.y.image + k * axes[0].y
        z = x
        if s.has_z:
            z = <const real*>start(base, &s.z.place) + i * s.z.image + k * axes[0].z
        for axis in range(p.count):
            at[axis] = 0
        for k in range(runs):
            now = 0
            if real is float and squares:
                transpose(inner.size, inner[-1].size, x, inner.x, y, inner[-1].y)
                now = inner.size
            while now < inner.size:
                arithmetic_run(p, inner, x + now * inner.x, z + now * inner.z, y + now * inner.y,
                               min(<Py_ssize_t>STRIDED_RUN, inner.size - now), scratch)
                now += STRIDED_RUN
            axis = outer - 1                            # the next run
            while axis > 0:
                at[axis] += 1
                x += axes[axis].x
                y += axes[axis].y
                z += axes[axis].z
                if at[axis] < axes[axis].size:
                    break
                x -= at[axis] * axes[axis].x
                y -= at[axis] * axes[axis].y
                z -= at[axis] * axes[axis].z
                at[axis] = 0
                axis -= 1
