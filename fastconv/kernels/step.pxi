"""What a kernel is told: views of activations, how its work is cut, and the record of its family.

Every kernel has the signature

    kernel(step, base, n, begin, end, scratch)

and does units [begin, end) of its step for the n images of a chunk. Units never share a sum, so how they are dealt
out to threads cannot change a bit of the output. `base` holds the address of each memory space.

A record is a plain struct. Python gives it as a dict with exactly its fields (kernels/records.pxi, ../_base.pyx).
"""

ctypedef fused real:
    float
    double

# Memory spaces.
cdef enum:
    FIXED = 0                   # base is NULL: an offset is an address, of what was packed at compile time
    ARENA = 1                   # activations of the chunk
    SHARED = 2                  # made once per call, from inputs that have no batch axis
    CARRIED = 3                 # activations that one segment hands to a later one, of all of that one's images
    CALLER = 4                  # the inputs, one space each, then the outputs

# One activation (n, h, w, c): element (i, y, x, k) stands at i*image + y*row + x*pixel + k*channel, in elements behind
# `place`.
cdef struct View:
    Place place
    Py_ssize_t image
    Py_ssize_t row
    Py_ssize_t pixel
    Py_ssize_t channel
    Py_ssize_t h
    Py_ssize_t w
    Py_ssize_t c

# How a step is cut, for an image alone or for a chunk: a unit is `block` rows of output, of one of `parts` parts of the
# channels.
cdef struct Units:
    Py_ssize_t rows             # output rows per image
    Py_ssize_t block
    Py_ssize_t parts

cdef struct Step:
    void* run                   # a `kernel`
    void* record                # of its family
    View x
    View y
    View z                      # a second operand: of an addition, or the residual of a convolution
    bint has_z
    Units units
    Py_ssize_t work             # multiply-adds per image
    bint serial                 # the step shares out its own work and must have one caller
    Py_ssize_t threads          # ...among so many threads

ctypedef void (*kernel)(const Step*, char**, Py_ssize_t, Py_ssize_t, Py_ssize_t, char*) noexcept nogil


cdef inline char* start(char** base, const Place* p) noexcept nogil:
    return base[p.space] + p.offset


cdef inline Py_ssize_t element(const View* v, Py_ssize_t i, Py_ssize_t y, Py_ssize_t x) noexcept nogil:
    """Where channel 0 of pixel (y, x) of image i stands, in elements."""
    return i * v.image + y * v.row + x * v.pixel


cdef inline float* at(char** base, const View* v, Py_ssize_t i, Py_ssize_t y, Py_ssize_t x) noexcept nogil:
    """Address of channel 0 of pixel (y, x) of image i, of an activation in float32."""
    return <float*>start(base, &v.place) + element(v, i, y, x)


cdef inline Py_ssize_t first_row(const Step* s, Py_ssize_t unit) noexcept nogil:
    return unit * s.units.block


cdef inline Py_ssize_t last_row(const Step* s, Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    """One past the last row before `unit`; rows are counted over all n images."""
    return min(unit * s.units.block, n * s.units.rows)
