"""What is compiled for any CPU: what this one can do, so that asking is always safe; a checksum; the call of a model;
and the making of records, which take kilobytes of code each and are the same for every level.

One module, since opening another costs 0.2 ms of every start.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    /* The psABI levels by the features that tell them apart; libgcc's check includes the operating system's. */
    static const char* fc_level(void) {
    #if defined(__x86_64__)
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt")))
            return "x86-64";
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")))
            return "x86-64-v2";
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl")))
            return "x86-64-v3";
        return "x86-64-v4";
    #else
        return "generic";
    #endif
    }
    #if defined(__x86_64__)
    #include <cpuid.h>
    static void fc_cpuid(unsigned leaf, unsigned index, unsigned* out) {
        static unsigned most[2];        /* last leaf of either range; asked once: 4 us in a virtual machine */
        unsigned* last = most + (leaf >> 31);
        if (*last == 0)
            *last = __get_cpuid_max(leaf & 0x80000000u, 0);
        out[0] = out[1] = out[2] = out[3] = 0;
        if (*last >= leaf)
            __cpuid_count(leaf, index, out[0], out[1], out[2], out[3]);
    }
    #else
    static void fc_cpuid(unsigned leaf, unsigned index, unsigned* out) { out[0] = out[1] = out[2] = out[3] = 0; }
    #endif
    """
    const char* fc_level()
    void fc_cpuid(unsigned leaf, unsigned index, unsigned* out)


cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    static void fc_trim(void) { malloc_trim(0); }
    #else
    static void fc_trim(void) {}
    #endif
    """
    void fc_trim() nogil


def trim_memory():
    """Give freed memory back to the system, where the C library can be asked to."""
    with nogil:
        fc_trim()


def level():
    """The highest instruction-set level this CPU and its operating system support."""
    return (<bytes>fc_level()).decode()


def cpuid(unsigned leaf, unsigned index):
    """The registers (eax, ebx, ecx, edx) of a CPUID leaf; zeros where there is none."""
    cdef unsigned words[4]
    fc_cpuid(leaf, index, words)
    return words[0], words[1], words[2], words[3]


# CRC-32 (ISO 3309, APPNOTE 4.4.7), sixteen bytes at a time: "slicing", from Kounavis and Berry, "A Systematic Approach
# to Building High Performance Software-Based CRC Generators", 2005. zlib's own is a library more to open: 0.2 ms.
cdef enum:
    SLICES = 16
    POLYNOMIAL = 0xEDB88320

cdef uint32_t[SLICES][256] TABLE            # [k][byte]: the checksum of the byte and k zeros behind it


cdef void fill_table() noexcept:
    cdef uint32_t crc
    cdef int byte, k, _
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (<uint32_t>POLYNOMIAL if crc & 1 else 0)
        TABLE[0][byte] = crc
    for byte in range(256):
        for k in range(1, SLICES):
            TABLE[k][byte] = TABLE[k - 1][byte] >> 8 ^ TABLE[0][TABLE[k - 1][byte] & 0xFF]


cdef uint32_t checksum(uint32_t crc, const uint8_t* p, Py_ssize_t size) noexcept nogil:
    cdef const uint8_t* end = p + size
    while end - p >= SLICES:
        crc ^= p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24
        crc = (TABLE[15][crc & 0xFF] ^ TABLE[14][crc >> 8 & 0xFF] ^ TABLE[13][crc >> 16 & 0xFF] ^ TABLE[12][crc >> 24]
               ^ TABLE[11][p[4]] ^ TABLE[10][p[5]] ^ TABLE[9][p[6]] ^ TABLE[8][p[7]]
               ^ TABLE[7][p[8]] ^ TABLE[6][p[9]] ^ TABLE[5][p[10]] ^ TABLE[4][p[11]]
               ^ TABLE[3][p[12]] ^ TABLE[2][p[13]] ^ TABLE[1][p[14]] ^ TABLE[0][p[15]])
        p += SLICES
    while p < end:
        crc = crc >> 8 ^ TABLE[0][(crc ^ p[0]) & 0xFF]
        p += 1
    return crc


def crc32(data, uint32_t crc=0):
    """The checksum of zip files, as `zlib.crc32` gives it; data: anything with a buffer of bytes, C-contiguous."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            crc = ~checksum(~crc, <const uint8_t*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return crc


fill_table()


include "kernels/records.pxi"


cdef int refuse_unknown(str what, dict given, dict known) except -1:
    """ValueError where `given`, or a dict within it, has a key that `known`, made from the struct, has not."""
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{what} takes no {key!r}; it takes {', '.join(known) or 'nothing'}")
        if isinstance(value, dict):
            refuse_unknown(f"{what}.{key}", value, known[key])
    return 0


ctypedef fused Record:
    TileRecord
    PackedRecord
    BlasRecord
    DepthwiseRecord
    GroupedRecord
    PixelsRecord
    PointwiseRecord
    WinogradRecord
    PoolRecord
    UnaryRecord
    StridedRecord
    AffineRecord
    MatmulRecord
    ResampleRecord
    GridRecord
    NormRecord
    SoftmaxRecord
    ReduceRecord
    ArgRecord
    LineRecord
    OrderRecord
    RecurrentRecord
    ResponseRecord
    PadRecord
    BorderRecord
    PackRecord
    WinogradPackRecord

ctypedef int (*loader)(void* out, str kernel, dict given) except -1


cdef int load(Record* out, str kernel, dict given) except -1:
    """The struct at `out` from a dict with exactly its fields."""
    cdef Record record
    try:
        record = given
    except (ValueError, TypeError) as error:        # a field is missing, or of another type
        raise type(error)(f"{kernel}: {error}") from None
    refuse_unknown(kernel, given, record)
    out[0] = record
    return 0


cdef int load_none(void* out, str kernel, dict given) except -1:
    """For kernels whose views say it all."""
    refuse_unknown(kernel, given, {})
    return 0


cdef struct Loader:
    const char* kernel
    void* load                      # a `loader`
    Py_ssize_t size                 # of the record

cdef Loader[29] LOADERS = [
    Loader("copy", <void*>load_none, 0),
    Loader("zero_border", <void*>load[BorderRecord], sizeof(BorderRecord)),
    Loader("pad", <void*>load[PadRecord], sizeof(PadRecord)),
    Loader("pack", <void*>load[PackRecord], sizeof(PackRecord)),
    Loader("pack_winograd", <void*>load[WinogradPackRecord], sizeof(WinogradPackRecord)),
    Loader("conv_direct", <void*>load[TileRecord], sizeof(TileRecord)),
    Loader("linear", <void*>load[TileRecord], sizeof(TileRecord)),
    Loader("conv_packed", <void*>load[PackedRecord], sizeof(PackedRecord)),
    Loader("conv_im2col", <void*>load[BlasRecord], sizeof(BlasRecord)),
    Loader("conv_pixels", <void*>load[PixelsRecord], sizeof(PixelsRecord)),
    Loader("conv_pointwise", <void*>load[PointwiseRecord], sizeof(PointwiseRecord)),
    Loader("conv_winograd", <void*>load[WinogradRecord], sizeof(WinogradRecord)),
    Loader("depthwise", <void*>load[DepthwiseRecord], sizeof(DepthwiseRecord)),
    Loader("grouped", <void*>load[GroupedRecord], sizeof(GroupedRecord)),
    Loader("pool", <void*>load[PoolRecord], sizeof(PoolRecord)),
    Loader("unary", <void*>load[UnaryRecord], sizeof(UnaryRecord)),
    Loader("strided", <void*>load[StridedRecord], sizeof(StridedRecord)),
    Loader("affine", <void*>load[AffineRecord], sizeof(AffineRecord)),
    Loader("matmul", <void*>load[MatmulRecord], sizeof(MatmulRecord)),
    Loader("resample", <void*>load[ResampleRecord], sizeof(ResampleRecord)),
    Loader("sample_grid", <void*>load[GridRecord], sizeof(GridRecord)),
    Loader("norm", <void*>load[NormRecord], sizeof(NormRecord)),
    Loader("reduce", <void*>load[ReduceRecord], sizeof(ReduceRecord)),
    Loader("arg_reduce", <void*>load[ArgRecord], sizeof(ArgRecord)),
    Loader("running_sum", <void*>load[LineRecord], sizeof(LineRecord)),
    Loader("in_order", <void*>load[OrderRecord], sizeof(OrderRecord)),
    Loader("recurrent", <void*>load[RecurrentRecord], sizeof(RecurrentRecord)),
    Loader("local_response", <void*>load[ResponseRecord], sizeof(ResponseRecord)),
    Loader("softmax", <void*>load[SoftmaxRecord], sizeof(SoftmaxRecord)),
]


def make_record(str kernel, dict given):
    """The record of a kernel, as bytes, from a dict with exactly its fields."""
    cdef bytes name = kernel.encode()
    cdef bytes record
    cdef Py_ssize_t i
    for i in range(<Py_ssize_t>(sizeof(LOADERS) // sizeof(Loader))):
        if LOADERS[i].kernel == name:
            record = PyBytes_FromStringAndSize(NULL, LOADERS[i].size)
            (<loader>LOADERS[i].load)(<char*>record, kernel, given)
            return record
    raise ValueError(f"no kernel {kernel!r}")


cdef class Call:
    """`Model.__call__`, which as a Python function would cost 0.16 of the 7 microseconds of a LeNet; this costs 0.04.

    It calls `_run`, a Program's, and for what that does not take `_run_any`, which the subclass has. What several
    outputs are collected in is made by `_collect`, None where there is one.
    """
    cdef public object _run, _collect

    def __call__(self, x, *others):
        """Return the network's raw outputs.

        Parameters
        ----------
        x : (N, C, H, W) or (C, H, W)
            Of any real dtype and any strides, used as it is: nothing is scaled. C-contiguous
            float32 is not copied. Where the network has several inputs: a dict of such arrays by name, or
            one argument for each, in the order of `input_shapes`; all have as many images.

        Returns
        -------
        ndarray, float32, or fastconv.outputs.Outputs
            With a batch axis if ``x`` has one. Always fresh. Where the network has several outputs: a tuple of such
            arrays, which are also found by name, ``y["out"]``; the names are `output_names`.

        Raises
        ------
        fastconv.ShapeError
            An input does not have its shape of the model's `input_shapes`, or the batches differ.
        fastconv.errors.DTypeError
            An input does not hold real numbers.
        fastconv.errors.ArgumentError
            An input is missing, or there is none of a name that was given.
        """
        outputs = NotImplemented if others else self._run(x)
        if outputs is NotImplemented:       # all but the usual batch: C-contiguous and of the model's dtype
            return self._run_any(x, *others)
        return outputs if self._collect is None else self._collect(outputs)
