# distutils: language = c
"""The typed kernels and the loop that runs them.

One source, compiled once per instruction-set level (setup.py); `machine.cpu.kernels()` picks the module. What
stands where:

    step.pxi         what a kernel is told: views, how its work is cut, the signature
    records.pxi      the parameters of each family of kernels
    activation.pxi   the table of activations, and exp
    copy.pxi         layouts, padding
    tile.pxi         the register tile every matrix product runs on
    im2col.pxi       im2col blocks, BLAS, unfold and fold
    conv.pxi         convolution and linear layers on the tile, depthwise
    grouped.pxi      groups of few channels
    pixels.pxi       first layers: few channels, pixels in the lanes
    pointwise.pxi    1x1 convolution on the caller's planes
    transforms.pxi   Winograd's transforms, a scheme each
    winograd.pxi     3x3 layers with fewer multiplications
    pool.pxi         pooling
    elementwise.pxi  activations, batch norm, softmax
    matmul.pxi       products of two activations
    resize.pxi       interpolation, images sampled at computed places
    norm.pxi         layer, group and RMS norm
    order.pxi        running sums, elements in order
    recurrent.pxi    LSTM, GRU and plain recurrent layers
    reduce.pxi       sums, products and extremes over an axis, and where they stand
    strided.pxi      arithmetic of two operands that broadcast, copies in another order
    flat.pxi         the same on the caller's memory, for fastconv.functional
    pack.pxi         weights in the order the kernels read them
    program.pxi      Program: one call, one release of the GIL, a flat loop over steps
    planes.pxi       what runs on the caller's planes: global means, what is not finite, padding
    linear_rows.pxi  linear layers whose weights come with the call
    entry.pxi        OneOp: the compiled entry of fastconv.functional, and what it remembers
    broadcast.pxi    arithmetic, choices and copies on the caller's memory, of arrays that broadcast
    products.pxi     matrix products and attention of its arrays
    gradient.pxi     gradients, for fastconv.grad: of weights, pooling, activations, norms
    measure.pxi      what only benchmarks run: the FMA peak, a product by BLAS alone

Kernels are specialised by constant arguments, so `cdef inline` must really inline: setup.py defines
CYTHON_INLINE as always_inline for this module.
"""
from cython cimport critical_section
from cython.parallel cimport prange
cimport numpy as cnp
from libc.math cimport INFINITY, NAN, fabs, floor, log, logf, rint, sqrt, trunc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import numpy as np

from fastconv._base import make_record as _make_record

from fastconv.kernels.openmp cimport fc_openmp, fc_pause_threads
from fastconv.kernels.simd cimport (
    FC_D, FC_LEVEL, FC_MR, FC_MR1, FC_P, FC_PO, FC_PV, FC_REGISTERS, FC_W,
    fc_flush_denormals, fc_hide, fc_rare, fc_restore_denormals,
    p_even, p_fma, p_load, p_nanmax, p_odd, p_set1, p_store, p_store_half,
    p_store_n, p_store_three, p_transpose,
    v_absolute, v_ahead, v_all, v_copysign, v_cos_far, v_erf_of, v_exponent, v_fill, v_fma, v_fmod_of, v_fraction,
    v_get, v_get_else, v_lanes, v_leaky, v_load, v_load_n, v_log_of, v_max, v_min, v_nanmax, v_pow_of, v_power2,
    v_prefetch, v_prefetch_l2, v_put, v_put_n, v_round, v_scale2, v_set1, v_sin_far, v_spread, v_sqrt,
    v_store, v_store_n, v_sum, v_top, v_where_lt, v_where_nan,
    vany, vd, vf, vp, vreal,
)

cnp.import_array()

include "records.pxi"
include "step.pxi"
include "activation.pxi"
include "copy.pxi"
include "im2col.pxi"
include "tile.pxi"
include "conv.pxi"
include "grouped.pxi"
include "pixels.pxi"
include "pointwise.pxi"
include "matmul.pxi"
include "transforms.pxi"
include "winograd.pxi"
include "pool.pxi"
include "elementwise.pxi"
include "strided.pxi"
include "norm.pxi"
include "reduce.pxi"
include "order.pxi"
include "recurrent.pxi"
include "resize.pxi"
include "flat.pxi"
include "pack.pxi"
include "program.pxi"
include "planes.pxi"
include "linear_rows.pxi"
include "entry.pxi"
include "broadcast.pxi"
include "products.pxi"
include "gradient.pxi"
include "measure.pxi"

# What compile and show_config are told of this module. Widths are in floats.
LEVEL = (<bytes>FC_LEVEL).decode()
VECTOR = FC_W
NR = FC_NR
MR = FC_MR
REGISTERS = FC_REGISTERS
PIXEL_CHANNELS = FC_PO
PIXEL_VECTOR = FC_P
PANELS_AT_ONCE = WIDE
FEW_TILES_AT_ONCE = FEW_TILES
POINTWISE_AT_ONCE = POINTWISE_FLOATS
OPENMP = fc_openmp()
INPUTS_AT_MOST = MAX_INPUTS
OUTPUTS_AT_MOST = MAX_OUTPUTS
STRIDED_AXES_AT_MOST = STRIDED_AXES
REDUCE_COLUMNS = REDUCE_COLUMN
MOST_PLACED = FEW_IN_ORDER
STRIDED_FLOATS = 3 * STRIDED_RUN
INLINE_ACTIVATIONS = frozenset(name for name, kind in ACTIVATIONS.items() if kind <= LAST_INLINE)
SPACES = {"fixed": FIXED, "arena": ARENA, "shared": SHARED, "carried": CARRIED, "caller": CALLER}
GRID_MODES = {"nearest": NEAREST, "bilinear": BILINEAR, "bicubic": BICUBIC}
GRID_PADDINGS = {"zeros": ZEROS, "border": EDGES, "reflection": REFLECTION}
RECURRENT = {"lstm": LSTM, "gru": GRU, "gru_reset_first": GRU_RESET_FIRST, "rnn": RNN}
POOLS = {"none": NO_POOL, "max": MAX_POOL, "avg": AVG_POOL}
PACK_ORDERS = {"panels": PANELS, "columns": COLUMNS, "lanes": LANES, "pixels": PIXELS}
WINOGRAD = tuple(WINOGRAD_SIZES[i] for i in range(SCHEMES))


def address(cnp.ndarray array):
    """Where an array's data begins."""
    return <size_t>cnp.PyArray_DATA(array)


def pause_threads():
    """Free this thread's OpenMP workers; called before a fork, for the child's sake."""
    fc_pause_threads()
