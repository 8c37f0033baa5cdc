"""Program: the steps of a network, and the one call that runs them."""

cdef enum:
    MAX_INPUTS = 16
    MAX_OUTPUTS = 64
    MAX_SEGMENTS = 2
    MAX_AXES = 32                   # of an array, the batch among them: NumPy 1.26 has no more, nor has a Graph
    ALIGN = 64                      # bytes: a cache line and the widest vector

# A second thread is woken only for work that repays the waking: about 20 microseconds of arithmetic each.
# Measured, 2-core Zen 4, calls back to back: LeNet with 4 images 24 -> 17 us, with 8 images 47 -> 28 us.
cdef Py_ssize_t WORK_PER_THREAD = 1000000      # multiply-adds
# ...and a layer is shared out only when it is itself worth a fork and join (1 to 2 us).
cdef Py_ssize_t WORK_PER_LAYER = 100000

cdef struct Kernel:
    const char* name
    Py_ssize_t size                 # of the record
    void* run32
    void* run64                     # NULL: float32 only

# Every kernel that compile can name.
cdef Kernel[29] KERNELS = [
    Kernel("copy", 0, <void*>copy[float], <void*>copy[double]),
    Kernel("zero_border", sizeof(BorderRecord), <void*>zero_border[float], <void*>zero_border[double]),
    Kernel("pad", sizeof(PadRecord), <void*>pad[float], <void*>pad[double]),
    Kernel("pack", sizeof(PackRecord), <void*>pack[float], <void*>pack[double]),
    Kernel("pack_winograd", sizeof(WinogradPackRecord), <void*>pack_points, NULL),
    Kernel("conv_direct", sizeof(TileRecord), <void*>conv_direct, NULL),
    Kernel("linear", sizeof(TileRecord), <void*>linear, NULL),
    Kernel("conv_packed", sizeof(PackedRecord), <void*>conv_packed, NULL),
    Kernel("conv_im2col", sizeof(BlasRecord), <void*>conv_im2col[float], <void*>conv_im2col[double]),
    Kernel("conv_pixels", sizeof(PixelsRecord), <void*>conv_pixels, NULL),
    Kernel("conv_pointwise", sizeof(PointwiseRecord), <void*>conv_pointwise, NULL),
    Kernel("conv_winograd", sizeof(WinogradRecord), <void*>conv_winograd, NULL),
    Kernel("depthwise", sizeof(DepthwiseRecord), <void*>depthwise, NULL),
    Kernel("grouped", sizeof(GroupedRecord), <void*>grouped, NULL),
    Kernel("pool", sizeof(PoolRecord), <void*>pool[float], <void*>pool[double]),
    Kernel("unary", sizeof(UnaryRecord), <void*>unary[float], <void*>unary[double]),
    Kernel("strided", sizeof(StridedRecord), <void*>strided[float], <void*>strided[double]),
    Kernel("affine", sizeof(AffineRecord), <void*>affine[float], <void*>affine[double]),
    Kernel("matmul", sizeof(MatmulRecord), <void*>matmul[float], <void*>matmul[double]),
    Kernel("resample", sizeof(ResampleRecord), <void*>resample[float], <void*>resample[double]),
    Kernel("sample_grid", sizeof(GridRecord), <void*>sample_grid[float], <void*>sample_grid[double]),
    Kernel("norm", sizeof(NormRecord), <void*>norm[float], <void*>norm[double]),
    Kernel("reduce", sizeof(ReduceRecord), <void*>reduce[float], <void*>reduce[double]),
    Kernel("arg_reduce", sizeof(ArgRecord), <void*>arg_reduce[float], <void*>arg_reduce[double]),
    Kernel("running_sum", sizeof(LineRecord), <void*>running_sum[float], <void*>running_sum[double]),
    Kernel("in_order", sizeof(OrderRecord), <void*>in_order[float], <void*>in_order[double]),
    Kernel("recurrent", sizeof(RecurrentRecord), <void*>recurrent[float], <void*>recurrent[double]),
    Kernel("local_response", sizeof(ResponseRecord), <void*>local_response[float], <void*>local_response[double]),
    Kernel("softmax", sizeof(SoftmaxRecord), <void*>softmax[float], <void*>softmax[double]),
]


# Steps up to `end`, through which so many images go together.
cdef struct Segment:
    Py_ssize_t end
    Py_ssize_t images


cdef inline double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


cdef Py_ssize_t units(const Step* s, Py_ssize_t n) noexcept nogil:
    return (n * s.units.rows + s.units.block - 1) // s.units.block * s.units.parts


cdef void run_share(const Step* s, char** base, Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts,
                    char* scratch) noexcept nogil:
    """This thread's share of one step."""
    cdef Py_ssize_t u = units(s, n)
    cdef uint64_t state = fc_flush_denormals()
    (<kernel>s.run)(s, base, n, u * part // parts, u * (part + 1) // parts, scratch)
    fc_restore_denormals(state)


cdef class Workspace:
    """Memory that belongs to one call while it lasts: an arena for a chunk of images, and scratch."""
    cdef void* memory
    cdef char* start

    def __cinit__(self, size_t size):
        self.memory = calloc(size + ALIGN, 1)       # zeros: borders may never be zeroed again (compile/tensors.py)
        if self.memory == NULL:
            raise MemoryError(f"fastconv: no memory for a workspace of {size} bytes")
        self.start = <char*>((<uintptr_t>self.memory + ALIGN - 1) // ALIGN * ALIGN)

    def __dealloc__(self):
        free(self.memory)


cdef class Program:
    """A compiled network: immutable, shared by threads. Made by `fastconv.compile.compile_graph`.

    Parameters
    ----------
    steps : list of dict
        Of each step: `kernel`, `record` (exactly the fields of the kernel's struct, kernels/records.pxi), the views
        `x`, `y` and `z` (or None), `work`, `serial`, the units `alone` and `together`, and for people `node`
        and `label`.
    inputs : tuple of (shape, batched)
        Of each array that a call takes. A batched one has a batch axis in front of the shape.
    output_shapes : tuple of shapes
        Per image, without the batch axis.
    prologue : int
        The first so many steps are run once per call: what they make, in the space SHARED, is the same for all images.
    segments : list of (end, images)
        The steps up to `end` are gone through by so many images together on one thread; each segment by at least as
        many as the one before.
    arena, carried, scratch, shared : int
        Bytes: of a chunk's activations, of what an image carries from segment to segment, of each thread's scratch, of
        what the prologue makes.
    work : int
        Multiply-adds per image.
    keep : list
        Arrays whose addresses stand in the records.
    levels : callable or None
        Returns what a uint8 pixel of each channel becomes, float32 (channels, 256); called by the first `predict`.
        None where that does not apply.
    """
    cdef Step* _steps                               # (2, count): cut for an image alone, then for chunks
    cdef Segment _segments[MAX_SEGMENTS]
    cdef Py_ssize_t _segment_count, _images         # the images of the last segment's chunk
    cdef Py_ssize_t _count, _prologue, _arena, _carried, _scratch, _shared, _threads, _work
    cdef Py_ssize_t _inputs, _outputs
    cdef list _keep, _idle, _descriptions
    cdef readonly tuple inputs, output_shapes
    cdef bint _double, _serial
    cdef object _levels                             # the function, and what it has returned
    cdef cnp.ndarray _table
    cdef Py_ssize_t _input_sizes[MAX_INPUTS]        # bytes per image; 0 where there is no batch axis
    cdef int _input_ndims[MAX_INPUTS]
    cdef Py_ssize_t _output_sizes[MAX_OUTPUTS]      # bytes per image
    cdef int _output_ndims[MAX_OUTPUTS]
    cdef cnp.npy_intp* _dims                        # (inputs + outputs, MAX_AXES); -1 for the batch

    def __cinit__(self, list steps, tuple inputs, tuple output_shapes, *, Py_ssize_t prologue, list segments,
                  Py_ssize_t arena, Py_ssize_t carried, Py_ssize_t scratch, Py_ssize_t shared, Py_ssize_t threads,
                  Py_ssize_t work, bint double, list keep, levels=None):
        cdef Py_ssize_t i, itemsize = 8 if double else 4
        self._count = len(steps)
        self._steps = <Step*>calloc(max(self._count, 1), 2 * sizeof(Step))
        if self._steps == NULL:
            raise MemoryError("fastconv: no memory for a program")
        shapes = [*(shape for shape, _ in inputs), *output_shapes]
        if len(inputs) > MAX_INPUTS or len(output_shapes) > MAX_OUTPUTS or max(map(len, shapes)) >= MAX_AXES:
            raise ValueError(f"a program has at most {MAX_INPUTS} inputs and {MAX_OUTPUTS} outputs, "
                             f"and arrays of at most {MAX_AXES} axes")
        self.inputs, self.output_shapes = inputs, output_shapes
        if not 1 <= len(segments) <= MAX_SEGMENTS:
            raise ValueError(f"a program has 1 to {MAX_SEGMENTS} segments, got {len(segments)}")
        for i, (end, images) in enumerate(segments):
            if images < self._images:
                raise ValueError("a segment takes at least as many images as the one before")
            self._segments[i] = Segment(end, images)
            self._images = images
        self._segment_count = len(segments)
        self._prologue, self._threads, self._work = prologue, threads, work
        self._arena, self._scratch, self._shared = (whole(size, ALIGN) for size in (arena, scratch, shared))
        self._carried = carried
        self._double, self._levels, self._keep = double, levels, keep
        self._idle, self._descriptions = [], []
        self._serial = False
        self._inputs, self._outputs = len(inputs), len(output_shapes)
        self._dims = <cnp.npy_intp*>calloc(len(shapes) * MAX_AXES, sizeof(cnp.npy_intp))
        if self._dims == NULL:
            raise MemoryError("fastconv: no memory for a program")
        for i, (shape, batched) in enumerate(inputs):
            elements = self._set_dims(i, (-1, *shape) if batched else shape)
            self._input_sizes[i] = elements * itemsize if batched else 0
            self._input_ndims[i] = len(shape) + bool(batched)
        for i, shape in enumerate(output_shapes):
            self._output_sizes[i] = self._set_dims(self._inputs + i, (-1, *shape)) * itemsize
            self._output_ndims[i] = len(shape) + 1
        for i, spec in enumerate(steps):
            self._fill(&self._steps[i], spec)
            self._steps[self._count + i] = self._steps[i]
            self._steps[self._count + i].units = spec["together"]

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self._steps != NULL:
            for i in range(self._count):
                free(self._steps[i].record)
        free(self._steps)
        free(self._dims)

    cdef Py_ssize_t _set_dims(self, Py_ssize_t array, tuple shape) except -1:
        """Write down a shape; return its elements, the batch not counted."""
        cdef Py_ssize_t axis, elements = 1
        for axis, size in enumerate(shape):
            self._dims[array * MAX_AXES + axis] = size
            if size >= 0:
                elements *= size
        return elements

    cdef int _fill(self, Step* s, dict spec) except -1:
        cdef bytes record, name = spec["kernel"].encode()
        cdef const Kernel* k = NULL
        cdef Py_ssize_t i
        for i in range(<Py_ssize_t>(sizeof(KERNELS) // sizeof(Kernel))):
            if KERNELS[i].name == name:
                k = &KERNELS[i]
        s.run = NULL if k == NULL else k.run64 if self._double else k.run32
        if s.run == NULL:
            raise ValueError(f"no kernel {spec['kernel']!r} for {'float64' if self._double else 'float32'}")
        record = _make_record(spec["kernel"], spec["record"])
        if len(record) != k.size:
            raise ValueError(f"{spec['kernel']}: fastconv's modules are of different builds; install it again")
        s.record = malloc(max(1, k.size))
        if s.record == NULL:
            raise MemoryError("fastconv: no memory for a program")
        memcpy(s.record, <const char*>record, k.size)
        s.x, s.y = spec["x"], spec["y"]
        s.has_z = spec["z"] is not None
        if s.has_z:
            s.z = spec["z"]
        s.units = spec["alone"]
        s.work, s.serial, s.threads = spec["work"], spec["serial"], self._threads
        self._serial = self._serial or s.serial
        self._descriptions.append({"node": spec["node"], "kernel": spec["kernel"], "label": spec["label"]})
        return 0

    @property
    def threads(self):
        """Threads that a call may use."""
        return self._threads

    @property
    def steps(self):
        """What is run, in order: a dict of `node`, `kernel` and `label` for each step."""
        return [dict(d) for d in self._descriptions]

    @property
    def workspace_bytes(self):
        """Memory that one thread of a call works in; it is kept for the next call."""
        return self._workspace_size()

    cdef size_t _workspace_size(self) noexcept:
        """All that a call works in: up to `_shared_in`, what stands there, an image and its outputs for `predict`."""
        cdef size_t size = self._before_scratch() + self._scratch * self._threads + self._shared
        if self._levels is not None:
            size += whole(self._input_sizes[0], ALIGN) + self._output_sizes[0]
        return size

    cdef inline Py_ssize_t _before_scratch(self) noexcept nogil:
        """Bytes of the arena and of what all images of a chunk carry, with which a workspace begins."""
        return self._arena + self._carried * self._images

    cdef inline char* _shared_in(self, char* memory) noexcept nogil:
        """Where in a workspace stands what the prologue makes: behind the scratch of each thread."""
        return memory + self._before_scratch() + self._scratch * self._threads

    cdef Workspace _take(self):
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace(self._workspace_size())

    def __call__(self, *arrays):
        return self.run(arrays[0]) if len(arrays) == 1 else self.run_all(arrays)

    def run(self, x):
        """Outputs of a program with one input, (n, ...) or as `inputs` says; NotImplemented as for `run_all`."""
        cdef char* inputs[1]
        cdef cnp.npy_intp n = -1
        if self._inputs != 1 or not self._fits(0, x, &n):
            return NotImplemented
        inputs[0] = <char*>cnp.PyArray_DATA(<cnp.ndarray>x)
        return self._outputs_for(inputs, n)

    def run_all(self, tuple arrays):
        """Outputs for one array per input: C-contiguous and of the program's dtype. NotImplemented for anything else.

        Returns a fresh array, or a tuple of several.
        """
        cdef char* inputs[MAX_INPUTS]
        cdef cnp.npy_intp n = -1
        if not self._read(arrays, inputs, &n):
            return NotImplemented
        return self._outputs_for(inputs, n)

    cdef inline bint _read(self, tuple arrays, char** inputs, cnp.npy_intp* n) noexcept:
        """Whether the arrays can be read in place; sets where each begins, and n, their batch."""
        cdef Py_ssize_t i
        if len(arrays) != self._inputs:
            return False
        for i in range(self._inputs):
            if not self._fits(i, arrays[i], n):
                return False
            inputs[i] = <char*>cnp.PyArray_DATA(<cnp.ndarray>arrays[i])
        return True

    cdef inline bint _fits(self, Py_ssize_t i, x, cnp.npy_intp* n) noexcept:
        """Whether x can be read in place as input i; sets n, its batch. All batched inputs have the same."""
        cdef const cnp.npy_intp* dims = self._dims + i * MAX_AXES
        cdef int axis
        if not cnp.PyArray_CheckExact(x):
            return False
        if (cnp.PyArray_NDIM(<cnp.ndarray>x) != self._input_ndims[i]
                or cnp.PyArray_TYPE(<cnp.ndarray>x) != (cnp.NPY_DOUBLE if self._double else cnp.NPY_FLOAT)
                or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)):
            return False
        for axis in range(self._input_ndims[i]):
            if dims[axis] >= 0:
                if cnp.PyArray_DIMS(<cnp.ndarray>x)[axis] != dims[axis]:
                    return False
            elif n[0] < 0:
                n[0] = cnp.PyArray_DIMS(<cnp.ndarray>x)[axis]
            elif n[0] != cnp.PyArray_DIMS(<cnp.ndarray>x)[axis]:
                return False
        return True

    cdef object _outputs_for(self, char** inputs, cnp.npy_intp n):
        cdef char* outputs[MAX_OUTPUTS]
        cdef cnp.ndarray out
        cdef Py_ssize_t k
        cdef Workspace workspace
        if n < 0:                   # nothing has a batch axis
            n = 1
        results = None
        for k in range(self._outputs):
            out = self._empty(k, n)
            outputs[k] = <char*>cnp.PyArray_DATA(out)
            if k == 0:
                results = out
            elif k == 1:
                results = (results, out)
            else:
                results = (*results, out)
        if n > 0:
            workspace = self._take()
            self._execute(workspace, inputs, outputs, n, NULL)
            self._idle.append(workspace)
        return results

    cdef cnp.ndarray _empty(self, Py_ssize_t k, cnp.npy_intp n):
        """An array for output k of n images."""
        cdef cnp.npy_intp dims[MAX_AXES]
        memcpy(dims, self._dims + (self._inputs + k) * MAX_AXES, self._output_ndims[k] * sizeof(cnp.npy_intp))
        dims[0] = n
        return cnp.PyArray_EMPTY(self._output_ndims[k], dims, cnp.NPY_DOUBLE if self._double else cnp.NPY_FLOAT, 0)

    cdef int _execute(self, Workspace workspace, char** inputs, char** outputs, Py_ssize_t n,
                      double* seconds) except -1:
        """Run n images, in one of two ways: whole images per thread, or each layer shared out.

        This is the one place that says how many threads wake. seconds: as for `_run_images`, of the first thread.
        """
        cdef Py_ssize_t threads = min(self._threads, 1 + n * self._work // WORK_PER_THREAD)
        cdef bint whole_images = not self._serial and (threads == 1 or n % threads == 0 or n >= 4 * threads)
        cdef Py_ssize_t t
        cdef char* shared = self._shared_in(workspace.start)
        cdef list taken
        cdef char** memory
        cdef Workspace other
        if threads == 1 or not whole_images:    # one image of a small network: every 10 ns count
            with nogil:
                self._prepare(shared, inputs, workspace.start)
                self._run_images(workspace.start, shared, inputs, outputs, 0, n, threads, seconds)
            return 0
        taken = []
        memory = <char**>malloc(threads * sizeof(char*))
        if memory == NULL:
            raise MemoryError("fastconv: no memory for a call")
        try:
            memory[0] = workspace.start
            for t in range(1, threads):
                other = self._take()
                taken.append(other)
                memory[t] = other.start
            with nogil:
                self._prepare(shared, inputs, workspace.start)
                for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                    self._run_images(memory[t], shared, inputs, outputs, n * t // threads, n * (t + 1) // threads, 1,
                                     seconds if t == 0 else NULL)
        finally:
            free(memory)
            self._idle.extend(taken)
        return 0

    cdef void _prepare(self, char* shared, char** inputs, char* memory) noexcept nogil:
        """Run the prologue."""
        cdef char* base[MAX_INPUTS + MAX_OUTPUTS + CALLER]
        cdef Py_ssize_t k
        if self._prologue > 0:
            self._bases(base, memory, shared, inputs, NULL, 0, 0)
            for k in range(self._prologue):
                run_share(&self._steps[k], base, 1, 0, 1, memory + self._before_scratch())

    cdef void _run_images(self, char* memory, char* shared, char** inputs, char** outputs, Py_ssize_t begin,
                          Py_ssize_t end, Py_ssize_t threads, double* seconds) noexcept nogil:
        """Images [begin, end) through the whole network, a chunk at a time: of the last segment's images, and in each
        segment of its own.

        With several threads, the units of each layer are dealt out to them.
        seconds: one number per step to which the time of the step is added, or NULL.
        """
        cdef char* base[MAX_INPUTS + MAX_OUTPUTS + CALLER]
        cdef Py_ssize_t chunks = (end - begin + self._images - 1) // self._images
        cdef Py_ssize_t c, j, k, first, last, some, few, parts, at_step
        cdef const Segment* segment
        cdef uint64_t state = fc_flush_denormals()
        for c in range(chunks):
            first = begin + (end - begin) * c // chunks
            last = begin + (end - begin) * (c + 1) // chunks
            at_step = self._prologue
            for k in range(self._segment_count):
                segment = &self._segments[k]
                parts = (last - first + segment.images - 1) // segment.images
                for j in range(parts):
                    some = first + (last - first) * j // parts
                    few = first + (last - first) * (j + 1) // parts - some
                    self._bases(base, memory, shared, inputs, outputs, some, some - first)
                    self._run_steps(base, memory, at_step, segment.end, few, threads, seconds)
                at_step = segment.end
        fc_restore_denormals(state)

    cdef inline void _run_steps(self, char** base, char* memory, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t n,
                                Py_ssize_t threads, double* seconds) noexcept nogil:
        """Steps [begin, end) of a segment, for n images.

        A chunk's units are larger: several threads take them where there are enough for all.
        """
        cdef const Step* s
        cdef char* scratch = memory + self._before_scratch()
        cdef Py_ssize_t k, t, size = self._scratch
        cdef double started = 0
        for k in range(begin, end):
            s = &self._steps[self._count + k]
            if n == 1 or (threads > 1 and units(s, n) < 2 * threads):
                s = &self._steps[k]
            if seconds != NULL:
                started = now()
            if threads == 1:
                (<kernel>s.run)(s, base, n, 0, units(s, n), scratch)
            elif s.serial or n * s.work < WORK_PER_LAYER or units(s, n) < 2:
                run_share(s, base, n, 0, 1, scratch)
            else:
                for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                    run_share(s, base, n, t, threads, scratch + t * size)
            if seconds != NULL:
                seconds[k] += now() - started

    cdef inline void _bases(self, char** base, char* memory, char* shared, char** inputs, char** outputs,
                            Py_ssize_t first, Py_ssize_t behind) noexcept nogil:
        """Where each memory space begins, for the images from `first` on, which stands so far `behind` in its chunk.

        outputs: NULL in the prologue.
        """
        cdef Py_ssize_t k
        base[FIXED], base[ARENA], base[SHARED] = NULL, memory, shared
        base[CARRIED] = memory + self._arena + behind * self._carried
        for k in range(self._inputs):
            base[CALLER + k] = inputs[k] + first * self._input_sizes[k]
        if outputs != NULL:
            for k in range(self._outputs):
                base[CALLER + self._inputs + k] = outputs[k] + first * self._output_sizes[k]

    def profile(self, tuple arrays, int repeats=1):
        """Seconds that each step takes, aligned with `steps`: the medians of `repeats` runs.

        arrays: as for `run_all`. Where each thread takes whole images, the time is the first thread's.
        """
        cdef char* inputs[MAX_INPUTS]
        cdef char* outputs[MAX_OUTPUTS]
        cdef double* seconds
        cdef Py_ssize_t k
        cdef cnp.npy_intp n = -1
        cdef Workspace workspace
        if not self._read(arrays, inputs, &n):
            return NotImplemented
        if n < 0:
            n = 1
        workspace = self._take()
        results = [self._empty(k, n) for k in range(self._outputs)]
        for k in range(self._outputs):
            outputs[k] = <char*>cnp.PyArray_DATA(<cnp.ndarray>results[k])
        times = np.zeros((repeats, max(self._count, 1)))
        seconds = <double*>cnp.PyArray_DATA(<cnp.ndarray>times)
        for k in range(repeats):
            self._execute(workspace, inputs, outputs, n, seconds + k * max(self._count, 1))
        self._idle.append(workspace)
        return np.median(times, axis=0).tolist()[: self._count]

    cdef const float* _level_table(self) except NULL:
        """The table that `levels` makes, (channels, 256)."""
        cdef cnp.ndarray table
        with critical_section(self):            # without a GIL, two threads may ask first
            if self._table is None:
                table = self._levels()
                if (cnp.PyArray_TYPE(table) != cnp.NPY_FLOAT or not cnp.PyArray_ISCARRAY_RO(table)
                        or cnp.PyArray_SIZE(table) != 256 * self._dims[1]):
                    raise ValueError("levels must return float32 (channels, 256), C-contiguous")
                self._table = table
        return <const float*>cnp.PyArray_DATA(self._table)

    def predict(self, img):
        """Class of one uint8 image, (H, W) or (H, W, C) and C-contiguous; None where that is not what img is."""
        cdef cnp.ndarray image
        cdef float* x
        cdef float* y
        cdef const uint8_t* pixels
        cdef const float* levels
        cdef char* inputs[1]
        cdef char* outputs[1]
        cdef Py_ssize_t c, h, w, k, i, best
        cdef Workspace workspace
        if self._levels is None or not cnp.PyArray_CheckExact(img):
            return None
        image = <cnp.ndarray>img
        c, h, w = self._dims[1], self._dims[2], self._dims[3]
        if cnp.PyArray_TYPE(image) != cnp.NPY_UINT8 or not cnp.PyArray_ISCARRAY_RO(image):
            return None
        if not (cnp.PyArray_DIMS(image)[0] == h and cnp.PyArray_DIMS(image)[1] == w
                if cnp.PyArray_NDIM(image) == 2 and c == 1
                else cnp.PyArray_NDIM(image) == 3 and cnp.PyArray_DIMS(image)[0] == h
                and cnp.PyArray_DIMS(image)[1] == w and cnp.PyArray_DIMS(image)[2] == c):
            return None
        levels = self._level_table()
        pixels = <const uint8_t*>cnp.PyArray_DATA(image)
        workspace = self._take()
        inputs[0] = self._shared_in(workspace.start) + self._shared
        outputs[0] = inputs[0] + whole(self._input_sizes[0], ALIGN)
        x, y = <float*>inputs[0], <float*>outputs[0]
        with nogil:
            for k in range(c):
                for i in range(h * w):
                    x[k * h * w + i] = levels[256 * k + pixels[i * c + k]]
        self._execute(workspace, inputs, outputs, 1, NULL)
        with nogil:
            best = 0
            for k in range(self._output_sizes[0] // <Py_ssize_t>sizeof(float)):
                if y[k] > y[best] or (y[k] != y[k] and y[best] == y[best]):
                    best = k
        self._idle.append(workspace)
        return best
