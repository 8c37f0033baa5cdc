"""The parameter record of each kernel family: the one place that says what a family is told.

../_base.pyx makes records from Python's dicts; it is compiled once, these structs with every level.
"""

# Where some memory of any type begins: base[space] + offset bytes.
cdef struct Place:
    Py_ssize_t space
    Py_ssize_t offset

cdef enum PoolKind:
    NO_POOL = 0
    MAX_POOL = 1
    AVG_POOL = 2

# An activation behind the kernel's own result, by its row in kernels/activation.pxi.
cdef struct Activation:
    Py_ssize_t kind
    double a                    # its parameters
    double b

# A pool fused behind a convolution: non-overlapping windows.
cdef struct FusedPool:
    Py_ssize_t kind             # a PoolKind
    Py_ssize_t kh
    Py_ssize_t kw
    Py_ssize_t sh
    Py_ssize_t sw
    bint first                  # the maximum commutes with bias and activation, and comes before them: fewer elements

# Convolution and linear layers on the register tile. A row's K elements are `segments` runs of `length` floats.
cdef struct TileRecord:
    Place weight                # panels of (K, FC_NR), order PANELS of pack.pxi
    Place bias                  # one per output channel, each group's padded with zeros to whole panels
    Place offsets               # of the segments, in elements, intp
    Py_ssize_t segments
    Py_ssize_t length
    Py_ssize_t panels           # of all groups together
    Py_ssize_t groups
    Py_ssize_t channels         # outputs, of all groups together
    Py_ssize_t sh               # stride
    Py_ssize_t sw
    Py_ssize_t oh               # the output before a fused pool
    Py_ssize_t ow
    FusedPool pool
    Activation activation

# What an im2col row is made of.
cdef struct Window:
    Py_ssize_t kh
    Py_ssize_t kw
    Py_ssize_t sh
    Py_ssize_t sw
    Py_ssize_t dh
    Py_ssize_t dw
    Py_ssize_t top              # padding before
    Py_ssize_t left
    Py_ssize_t groups
    Py_ssize_t ow

# im2col + tile: `tile.offsets` is not read.
cdef struct PackedRecord:
    Window window
    TileRecord tile

# im2col + BLAS.
cdef struct BlasRecord:
    Window window
    Place weight                # (groups, K, channels / groups)
    Place bias                  # (channels,)
    Py_ssize_t channels
    Activation activation

cdef struct DepthwiseRecord:
    Place weight                # (kh * kw, padded)
    Place bias                  # (padded,)
    Py_ssize_t padded           # channels, up to whole vectors
    Py_ssize_t kh
    Py_ssize_t kw
    Py_ssize_t sh
    Py_ssize_t sw
    Py_ssize_t dh
    Py_ssize_t dw
    Activation activation

# Groups of as many channels out as in, a fraction of a vector.
cdef struct GroupedRecord:
    Place weight                # (kh * kw, size, padded)
    Place bias                  # (padded,)
    Py_ssize_t size             # channels of a group
    Py_ssize_t padded           # channels, up to whole vectors
    Py_ssize_t kh
    Py_ssize_t kw
    Py_ssize_t sh
    Py_ssize_t sw
    Py_ssize_t dh
    Py_ssize_t dw
    Activation activation

# Few output channels, pixels in the lanes.
cdef struct PixelsRecord:
    Place weight                # (blocks of FC_PO channels, K, FC_PO)
    Place bias                  # (channels up to whole vectors,), the rest zeros
    Place offsets               # of the segments, in elements, intp
    Py_ssize_t segments
    Py_ssize_t length
    Py_ssize_t blocks           # computed whole, zeros included; channels beyond them one at a time
    Py_ssize_t channels
    Py_ssize_t sh
    Py_ssize_t ow
    FusedPool pool
    Activation activation

# 1x1 on planes: weight and bias as PyTorch has them.
cdef struct PointwiseRecord:
    Place weight                # (channels, inputs)
    Place bias                  # (channels,)
    Py_ssize_t inputs
    Py_ssize_t channels
    Activation activation

cdef struct WinogradRecord:
    Place weight                # (matrices, panels of (c, FC_NR))
    Place bias                  # (padded,)
    Py_ssize_t scheme           # a row of kernels/transforms.pxi
    Py_ssize_t wide             # tiles in a row of tiles
    Py_ssize_t padded           # output channels, up to whole panels
    Py_ssize_t panels
    Py_ssize_t channels
    Py_ssize_t oh
    Py_ssize_t ow
    FusedPool pool
    Activation activation

cdef struct PoolRecord:
    Py_ssize_t kind             # a PoolKind
    Place windows               # of the rows, then of the columns: (oh + ow, 3) intp
    Py_ssize_t dh               # dilation
    Py_ssize_t dw
    double divisor              # divisor_override; 0: the windows' own

cdef struct UnaryRecord:
    Activation activation

cdef struct StridedRecord:
    Py_ssize_t kind             # an ArithmeticKind
    Place axes                  # (count,) Axis of kernels/strided.pxi, the outermost first
    Py_ssize_t count            # at least 2
    Activation activation

cdef struct AffineRecord:
    Place scale                 # (c,)
    Place shift                 # (c,)
    Activation activation

# Of each image (count, m, k) times (count, k, o).
cdef struct MatmulRecord:
    Py_ssize_t count
    Py_ssize_t m
    Py_ssize_t k
    Py_ssize_t o

cdef enum:
    MAX_TAPS = 4                # of an interpolation, along one axis

cdef struct ResampleRecord:
    Place places                # of the rows, (oh, high) intp, then of the columns, (ow, wide)
    Place weights               # of the same
    Py_ssize_t high             # at most MAX_TAPS
    Py_ssize_t wide

cdef enum GridMode:
    NEAREST = 0
    BILINEAR = 1
    BICUBIC = 2

cdef enum GridPadding:
    ZEROS = 0
    EDGES = 1
    REFLECTION = 2

cdef struct GridRecord:
    Py_ssize_t mode             # a GridMode
    Py_ssize_t padding          # a GridPadding
    Py_ssize_t taps             # of the mode, along one axis
    double cubic                # parameter of Keys's kernel
    bint align_corners

cdef struct NormRecord:
    Place weight                # (inputs,), see `inner`
    Place bias
    Py_ssize_t size             # elements that are normalised together
    Py_ssize_t inner            # pixels of a channel, which has one weight; 0: the elements of a run have their own
    bint centred                # by the mean, too: not in RMS norm
    double eps
    Activation activation

cdef struct SoftmaxRecord:
    Py_ssize_t outer            # a contiguous image is (outer, size, inner)
    Py_ssize_t size
    Py_ssize_t inner
    bint log

# An image in memory is (outer, size, inner); `size` is reduced.
cdef struct ReduceRecord:
    Py_ssize_t size
    Py_ssize_t inner
    Py_ssize_t kind             # a Reduction
    Py_ssize_t shift            # the Reduction that what is subtracted from each element comes from, or NO_REDUCTION
    double divisor              # of the total, then:
    bint root                   # its square root
    bint log                    # its logarithm, and the shift again

cdef struct ArgRecord:
    Py_ssize_t size
    Py_ssize_t inner
    bint least                  # where the smallest stands, not the largest

# An image in memory is (outer, size, inner).
cdef struct LineRecord:
    Py_ssize_t size
    Py_ssize_t inner

# The first k of `size` elements, from the largest or the smallest on: themselves or their indices.
cdef struct OrderRecord:
    Py_ssize_t size
    Py_ssize_t inner
    Py_ssize_t k
    bint least
    bint indices

# A layer of gates * size channels in each direction.
cdef struct RecurrentRecord:
    Place weight                # of each direction: panels of (size, FC_NR); of double (size, channels)
    Place bias                  # of each direction: (padded,)
    Place weight_new            # of GRU_RESET_FIRST: what is multiplied by the hidden state that was reset
    Place bias_new
    Py_ssize_t channels         # of `weight`
    Py_ssize_t padded           # up to whole panels
    Py_ssize_t padded_new
    Py_ssize_t kind             # a RecurrentKind
    Py_ssize_t steps
    Py_ssize_t size             # of the hidden state
    Py_ssize_t gates
    bint cells                  # come out too
    Activation activation       # of RNN

# x / (k + alpha * mean of squares)^beta, over `size` channels.
cdef struct ResponseRecord:
    Py_ssize_t size
    double alpha
    double beta
    double k

cdef struct PadRecord:
    Place rows                  # input index of each output row, column and channel, intp; -1: the value
    Place columns
    Place channels
    double value

cdef struct BorderRecord:
    Py_ssize_t top
    Py_ssize_t bottom
    Py_ssize_t left
    Py_ssize_t right

# A weight (channels, per_group, taps) as the caller gave it -> the order that a kernel reads.
cdef struct PackRecord:
    Place weight
    Py_ssize_t groups
    Py_ssize_t channels         # of all groups together
    Py_ssize_t per_group        # input channels of one group
    Py_ssize_t taps
    Py_ssize_t order            # a PackOrder

# A weight (channels, inputs, 3, 3) as the caller gave it -> the matrices of a Winograd scheme.
cdef struct WinogradPackRecord:
    Place weight
    Py_ssize_t channels
    Py_ssize_t inputs
    Py_ssize_t scheme
