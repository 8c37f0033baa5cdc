"""What a kernel is told: views of activations and one flat record of parameters.

Every kernel has the signature

    kernel(step, base, n, begin, end, scratch)

and does units [begin, end) of its step for the n images of a group. Units never share a sum, so how
they are dealt out to threads cannot change a bit of the output. `base` holds the address of each
memory space: 0 the arena, 1 the caller's input, 2 and on the caller's outputs.
"""

ctypedef fused real:
    float
    double

# One activation (n, h, w, c): element (i, y, x, k) is at
# base[space] + offset + i*image + y*row + x*pixel + k*channel
cdef struct View:
    Py_ssize_t space
    Py_ssize_t offset
    Py_ssize_t image
    Py_ssize_t row
    Py_ssize_t pixel
    Py_ssize_t channel
    Py_ssize_t h
    Py_ssize_t w
    Py_ssize_t c

# epilogues; CLAMP is relu6 and hardtanh; SIGMOID and TANH run as steps of their own ("unary")
cdef enum Activation:
    NO_ACTIVATION = 0
    RELU = 1                    # a CLAMP from 0 to infinity
    CLAMP = 2
    LEAKY = 3
    SIGMOID = 4
    TANH = 5

cdef enum PoolKind:
    NO_POOL = 0
    MAX_POOL = 1
    AVG_POOL = 2

cdef struct Step:
    void* run                   # a kernel32 or a kernel64
    View x
    View y
    View z                      # the second operand of add and of a fused residual
    const void* weight          # packed for the kernel
    const void* bias            # one per output channel, padded with zeros to whole vectors
    const Py_ssize_t* table     # segments of a convolution, windows of a pool, index maps of a pad
    Py_ssize_t kh
    Py_ssize_t kw
    Py_ssize_t sh
    Py_ssize_t sw
    Py_ssize_t dh
    Py_ssize_t dw
    Py_ssize_t top              # padding before
    Py_ssize_t left
    Py_ssize_t groups
    Py_ssize_t out_channels
    Py_ssize_t oh               # size of the (unpooled) output
    Py_ssize_t ow
    Py_ssize_t threads          # for steps that share out their own work
    Py_ssize_t segments         # a tile row's K elements are `segments` runs of `length` floats
    Py_ssize_t length
    Py_ssize_t rows             # output rows per image, as units count them
    Py_ssize_t block            # rows per unit
    Py_ssize_t panels           # output-channel panels in all
    Py_ssize_t unit_panels      # units that a block of rows is cut into by channels
    Py_ssize_t work             # multiply-adds per image
    Py_ssize_t alone            # the step shares out its own work and must have one caller
    Py_ssize_t has_z
    Py_ssize_t pool             # a PoolKind fused behind the convolution, or the kind of a pool step
    Py_ssize_t pool_first       # the maximum commutes with the activation, and comes before it: fewer elements
    Py_ssize_t ph               # its window and stride
    Py_ssize_t pw
    Py_ssize_t psh
    Py_ssize_t psw
    Py_ssize_t activation
    Py_ssize_t axis_outer       # softmax: (outer, size, inner) of the axis
    Py_ssize_t axis_size
    Py_ssize_t axis_inner
    Py_ssize_t log              # log_softmax
    double low
    double high
    double slope
    double value                # pad's constant; avg_pool's divisor_override (0: none)

ctypedef void (*kernel32)(const Step*, float**, Py_ssize_t, Py_ssize_t, Py_ssize_t, float*) noexcept nogil
ctypedef void (*kernel64)(const Step*, double**, Py_ssize_t, Py_ssize_t, Py_ssize_t, double*) noexcept nogil


cdef inline real* at(real** base, const View* v, Py_ssize_t i, Py_ssize_t y, Py_ssize_t x) noexcept nogil:
    """Address of channel 0 of pixel (y, x) of image i."""
    return base[v.space] + v.offset + i * v.image + y * v.row + x * v.pixel


cdef inline Py_ssize_t first_row(const Step* s, Py_ssize_t unit) noexcept nogil:
    return unit * s.block


cdef inline Py_ssize_t last_row(const Step* s, Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    """One past the last row before `unit`; rows are counted over all n images."""
    return min(unit * s.block, n * s.rows)
