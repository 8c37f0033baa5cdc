"""Program: the steps of a network, and the one call that runs them."""

cdef enum:
    MAX_OUTPUTS = 64
    MAX_AXES = 32                   # of an array, the batch among them: NumPy 1.26 has no more, nor has a Graph
    ALIGN = 64                      # bytes: a cache line and the widest vector

# A second thread is woken only for work that repays the waking: about 20 microseconds of arithmetic each.
# Measured, 2-core Zen 4, calls back to back: LeNet with 4 images 24 -> 17 us, with 8 images 47 -> 28 us.
cdef Py_ssize_t WORK_PER_THREAD = 1000000      # multiply-adds
# ...and a layer is shared out only when it is itself worth a fork and join (1 to 2 us).
cdef Py_ssize_t WORK_PER_LAYER = 100000

cdef struct Kernel:
    const char* name
    void* run32
    void* run64                     # NULL: float32 only

# Every kernel that compile.py can name.
cdef Kernel[15] KERNELS = [
    Kernel("copy", <void*>copy[float], <void*>copy[double]),
    Kernel("zero_border", <void*>zero_border[float], <void*>zero_border[double]),
    Kernel("pad", <void*>pad[float], <void*>pad[double]),
    Kernel("conv_direct", <void*>conv_direct, NULL),
    Kernel("linear", <void*>linear, NULL),
    Kernel("conv_packed", <void*>conv_packed, NULL),
    Kernel("conv_im2col", <void*>conv_im2col[float], <void*>conv_im2col[double]),
    Kernel("conv_pixels", <void*>conv_pixels, NULL),
    Kernel("conv_winograd", <void*>conv_winograd, NULL),
    Kernel("depthwise", <void*>depthwise, NULL),
    Kernel("pool", <void*>pool[float], <void*>pool[double]),
    Kernel("unary", <void*>unary[float], <void*>unary[double]),
    Kernel("add", <void*>add[float], <void*>add[double]),
    Kernel("affine", <void*>affine[float], <void*>affine[double]),
    Kernel("softmax", <void*>softmax[float], <void*>softmax[double]),
]


cdef inline double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


cdef Py_ssize_t units(const Step* s, Py_ssize_t n) noexcept nogil:
    return (n * s.rows + s.block - 1) // s.block * s.unit_panels


cdef void run_steps(const Step* steps, Py_ssize_t count, real** base, Py_ssize_t n, real* scratch) noexcept nogil:
    """The flat loop: every step in turn for n images, on this thread."""
    cdef Py_ssize_t k
    cdef const Step* s
    for k in range(count):
        s = &steps[k]
        if real is float:
            (<kernel32>s.run)(s, base, n, 0, units(s, n), scratch)
        else:
            (<kernel64>s.run)(s, base, n, 0, units(s, n), scratch)


cdef void run_share(const Step* s, real** base, Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts,
                    real* scratch) noexcept nogil:
    """This thread's share of one step."""
    cdef Py_ssize_t u = units(s, n)
    cdef uint64_t state = fc_flush_denormals()
    if real is float:
        (<kernel32>s.run)(s, base, n, u * part // parts, u * (part + 1) // parts, scratch)
    else:
        (<kernel64>s.run)(s, base, n, u * part // parts, u * (part + 1) // parts, scratch)
    fc_restore_denormals(state)


cdef class Workspace:
    """Memory that belongs to one call while it lasts: an arena for a group of images, and scratch."""
    cdef void* memory
    cdef char* start

    def __cinit__(self, size_t size):
        self.memory = calloc(size + ALIGN, 1)       # zeros: borders may never be zeroed again (plan.lay_out)
        if self.memory == NULL:
            raise MemoryError(f"fastconv: no memory for a workspace of {size} bytes")
        self.start = <char*>((<uintptr_t>self.memory + ALIGN - 1) // ALIGN * ALIGN)

    def __dealloc__(self):
        free(self.memory)


cdef View view_of(spec) except *:
    cdef View v
    if spec is None:
        memset(&v, 0, sizeof(View))
        return v
    v.space, v.offset, v.image, v.row, v.pixel, v.channel, v.h, v.w, v.c = spec
    return v


cdef class Program:
    """A compiled network: immutable, shared by threads. Made by `fastconv.compile.compile_graph`.

    Parameters
    ----------
    steps : list of dict
        Kernel name, views, packed weights and parameters of each step; see kernels/step.pxi.
    input_shape, output_shapes
        Shapes per image, without the batch axis.
    group : int
        Images that go through the network together on one thread.
    arena, scratch : int
        Elements per group, and per thread.
    work : int
        Multiply-adds per image.
    levels : ndarray of float32 (channels, 256) or None
        What a uint8 pixel of each channel becomes; None where `predict` does not apply.
    """
    cdef Step* _steps
    cdef Py_ssize_t _count, _group, _arena, _scratch, _threads, _work
    cdef Py_ssize_t _input_size, _input_ndim, _outputs
    cdef cnp.npy_intp _input_shape[MAX_AXES]
    cdef list _keep, _idle, _descriptions
    cdef readonly tuple input_shape, output_shapes
    cdef bint _double, _alone
    cdef object _levels
    cdef Py_ssize_t _output_sizes[MAX_OUTPUTS]
    cdef int _output_ndims[MAX_OUTPUTS]
    cdef cnp.npy_intp* _output_dims                 # (outputs, MAX_AXES), the first for the batch

    def __cinit__(self, list steps, tuple input_shape, tuple output_shapes, *, Py_ssize_t group, Py_ssize_t arena,
                  Py_ssize_t scratch, Py_ssize_t threads, Py_ssize_t work, bint double, levels=None):
        cdef Py_ssize_t i
        self._count = len(steps)
        self._steps = <Step*>calloc(max(self._count, 1), sizeof(Step))
        if self._steps == NULL:
            raise MemoryError("fastconv: no memory for a program")
        if len(output_shapes) > MAX_OUTPUTS or max(map(len, (input_shape, *output_shapes))) >= MAX_AXES:
            raise ValueError(f"a program has at most {MAX_OUTPUTS} outputs, and arrays of at most {MAX_AXES} axes")
        self.input_shape, self.output_shapes = input_shape, output_shapes
        self._group, self._arena, self._scratch = group, arena, scratch
        self._threads, self._work, self._double = threads, work, double
        self._keep, self._idle, self._descriptions = [], [], []
        self._levels = levels
        self._alone = False
        self._outputs = len(output_shapes)
        self._input_ndim = len(input_shape) + 1
        self._input_size = 1
        for i, size in enumerate(input_shape):
            self._input_shape[i + 1] = size
            self._input_size *= size
        self._output_dims = <cnp.npy_intp*>calloc(max(self._outputs, 1) * MAX_AXES, sizeof(cnp.npy_intp))
        if self._output_dims == NULL:
            raise MemoryError("fastconv: no memory for a program")
        for i, shape in enumerate(output_shapes):
            self._output_sizes[i] = 1
            self._output_ndims[i] = len(shape) + 1
            for axis, size in enumerate(shape, start=i * MAX_AXES + 1):
                self._output_sizes[i] *= size
                self._output_dims[axis] = size
        for i, spec in enumerate(steps):
            self._fill(&self._steps[i], spec)

    def __dealloc__(self):
        free(self._steps)
        free(self._output_dims)

    cdef _fill(self, Step* s, dict spec):
        cdef bytes kernel = spec["kernel"].encode()
        cdef Py_ssize_t i
        get = spec.get
        for i in range(<Py_ssize_t>(sizeof(KERNELS) // sizeof(Kernel))):
            if KERNELS[i].name == kernel:
                s.run = KERNELS[i].run64 if self._double else KERNELS[i].run32
        if s.run == NULL:
            raise ValueError(f"no kernel {spec['kernel']!r} for {'float64' if self._double else 'float32'}")
        s.x, s.y, s.z = view_of(spec["x"]), view_of(spec["y"]), view_of(get("z"))
        s.has_z = get("z") is not None
        s.weight = self._address(get("weight"))
        s.bias = self._address(get("bias"))
        s.table = <const Py_ssize_t*>self._address(get("table"))
        s.kh, s.kw = get("kernel_size", (1, 1))
        s.sh, s.sw = get("stride", (1, 1))
        s.dh, s.dw = get("dilation", (1, 1))
        s.top, s.left = get("padding", (0, 0))
        s.groups = get("groups", 1)
        s.out_channels = get("out_channels", s.y.c)
        s.oh, s.ow = get("oh", s.y.h), get("ow", s.y.w)
        s.threads = self._threads
        s.segments, s.length = get("segments", (0, 0))
        s.rows, s.block = get("rows", s.y.h), get("block", 1)
        s.panels, s.unit_panels = get("panels", 1), get("unit_panels", 1)
        s.work = get("work", 0)
        s.pool, s.ph, s.pw, s.psh, s.psw = get("pool", (NO_POOL, 1, 1, 1, 1))
        s.pool_first = get("pool_first", False)
        s.activation, s.low, s.high, s.slope = get("activation", (NO_ACTIVATION, 0.0, 0.0, 0.0))
        s.axis_outer, s.axis_size, s.axis_inner = get("axis", (1, 1, 1))
        s.log = get("log", False)
        s.value = get("value", 0.0)
        s.alone = get("alone", False)
        self._alone = self._alone or s.alone
        self._descriptions.append({"node": spec["node"], "kernel": spec["label"]})

    cdef const void* _address(self, array) except? NULL:
        if array is None:
            return NULL
        self._keep.append(array)
        return cnp.PyArray_DATA(array)

    @property
    def threads(self):
        """Threads that a call may use."""
        return self._threads

    @property
    def steps(self):
        """What is run, in order: a dict of `node` and `kernel` for each step."""
        return [dict(d) for d in self._descriptions]

    @property
    def workspace_bytes(self):
        """Memory that one thread of a call works in; it is kept for the next call."""
        return self._workspace_size()

    cdef size_t _workspace_size(self) noexcept:
        cdef size_t elements = self._arena + self._scratch * self._threads
        if self._levels is not None:
            elements += self._input_size + self._output_sizes[0] + 2 * ALIGN
        return elements * (sizeof(double) if self._double else sizeof(float))

    cdef Workspace _take(self):
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace(self._workspace_size())

    def __call__(self, x):
        return self.run(x)

    def run(self, x):
        """Outputs for x: C-contiguous, of the program's dtype, (n, *input_shape). NotImplemented for anything else."""
        cdef cnp.ndarray array, out
        cdef cnp.npy_intp n
        cdef char* outputs[MAX_OUTPUTS]
        cdef Py_ssize_t i, k
        cdef int dtype = cnp.NPY_DOUBLE if self._double else cnp.NPY_FLOAT
        if not cnp.PyArray_CheckExact(x):
            return NotImplemented
        array = <cnp.ndarray>x
        if (cnp.PyArray_NDIM(array) != self._input_ndim or cnp.PyArray_TYPE(array) != dtype
                or not cnp.PyArray_ISCARRAY_RO(array)):
            return NotImplemented
        for i in range(1, self._input_ndim):
            if cnp.PyArray_DIMS(array)[i] != self._input_shape[i]:
                return NotImplemented
        n = cnp.PyArray_DIMS(array)[0]
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
            self._execute(<char*>cnp.PyArray_DATA(array), outputs, n)
        return results

    cdef cnp.ndarray _empty(self, Py_ssize_t k, cnp.npy_intp n):
        """An array for output k of n images."""
        cdef cnp.npy_intp dims[MAX_AXES]
        memcpy(dims, self._output_dims + k * MAX_AXES, self._output_ndims[k] * sizeof(cnp.npy_intp))
        dims[0] = n
        return cnp.PyArray_EMPTY(self._output_ndims[k], dims, cnp.NPY_DOUBLE if self._double else cnp.NPY_FLOAT, 0)

    cdef int _execute(self, char* x, char** outputs, Py_ssize_t n) except -1:
        """Run n images, in one of two ways: whole images per thread, or each layer shared out."""
        cdef Py_ssize_t threads = min(self._threads, 1 + n * self._work // WORK_PER_THREAD)
        cdef bint whole = not self._alone and (threads == 1 or n % threads == 0 or n >= 4 * threads)
        cdef Py_ssize_t t
        cdef list taken
        cdef void** memory
        cdef Workspace workspace
        if whole and threads == 1:              # one image of a small network: every 10 ns count
            workspace = self._take()
            with nogil:
                self._images(workspace.start, x, outputs, 0, n)
            self._idle.append(workspace)
            return 0
        taken = []
        memory = <void**>malloc(threads * sizeof(void*))
        if memory == NULL:
            raise MemoryError("fastconv: no memory for a call")
        try:
            for t in range(threads if whole else 1):
                workspace = self._take()
                taken.append(workspace)
                memory[t] = workspace.start
            with nogil:
                if not whole:
                    if self._double:
                        self._share_layers(<double*>memory[0], <double*>x, <double**>outputs, n, threads, NULL)
                    else:
                        self._share_layers(<float*>memory[0], <float*>x, <float**>outputs, n, threads, NULL)
                else:
                    for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                        self._images(memory[t], x, outputs, n * t // threads, n * (t + 1) // threads)
        finally:
            free(memory)
            self._idle.extend(taken)
        return 0

    cdef void _images(self, void* memory, char* x, char** outputs, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
        """Images [begin, end) through the whole network on this thread, a group at a time."""
        if self._double:
            self._groups(<double*>memory, <double*>x, <double**>outputs, begin, end)
        else:
            self._groups(<float*>memory, <float*>x, <float**>outputs, begin, end)

    cdef void _groups(self, real* memory, real* x, real** outputs, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
        cdef real* base[MAX_OUTPUTS + 2]
        cdef Py_ssize_t n = end - begin
        cdef Py_ssize_t groups = (n + self._group - 1) // self._group
        cdef Py_ssize_t g, first, last
        cdef uint64_t state = fc_flush_denormals()
        for g in range(groups):
            first = begin + n * g // groups
            last = begin + n * (g + 1) // groups
            self._bases(base, memory, x, outputs, first)
            run_steps(self._steps, self._count, base, last - first, memory + self._arena)
        fc_restore_denormals(state)

    cdef void _share_layers(self, real* memory, real* x, real** outputs, Py_ssize_t n, Py_ssize_t threads,
                            double* seconds) noexcept nogil:
        """All images of a group through one layer at a time, the layer's units dealt out to the threads.

        seconds: one number per step to which the time of the step is added, or NULL.
        """
        cdef real* base[MAX_OUTPUTS + 2]
        cdef real** shared = base
        cdef real* scratch = memory + self._arena
        cdef Py_ssize_t groups = (n + self._group - 1) // self._group
        cdef Py_ssize_t g, first, last, k, t, size = self._scratch
        cdef double started = 0
        cdef const Step* s
        for g in range(groups):
            first = n * g // groups
            last = n * (g + 1) // groups
            self._bases(base, memory, x, outputs, first)
            for k in range(self._count):
                s = &self._steps[k]
                if seconds != NULL:
                    started = now()
                if s.alone or threads == 1 or (last - first) * s.work < WORK_PER_LAYER or units(s, last - first) < 2:
                    run_share(s, shared, last - first, 0, 1, scratch)
                else:
                    for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                        run_share(s, shared, last - first, t, threads, scratch + t * size)
                if seconds != NULL:
                    seconds[k] += now() - started

    cdef void _bases(self, real** base, real* memory, real* x, real** outputs, Py_ssize_t first) noexcept nogil:
        cdef Py_ssize_t k
        base[0] = memory
        base[1] = x + first * self._input_size
        for k in range(self._outputs):
            base[2 + k] = outputs[k] + first * self._output_sizes[k]

    def profile(self, cnp.ndarray x, int repeats=1):
        """Seconds that each step takes for x, aligned with `steps`: the medians of `repeats` runs.

        x: as for `run`. Layers are shared out to the threads, so that each has a time of its own.
        """
        cdef char* outputs[MAX_OUTPUTS]
        cdef double[::1] seconds
        cdef Py_ssize_t n
        cdef char* source
        cdef Workspace workspace = self._take()
        results = [np.empty((len(x), *shape), x.dtype) for shape in self.output_shapes]
        for k, out in enumerate(results):
            outputs[k] = <char*>cnp.PyArray_DATA(out)
        times = np.zeros((repeats, self._count))
        n, source = len(x), <char*>cnp.PyArray_DATA(x)
        for row in times:
            seconds = row
            with nogil:
                if self._double:
                    self._share_layers(<double*>workspace.start, <double*>source, <double**>outputs, n, self._threads,
                                       &seconds[0])
                else:
                    self._share_layers(<float*>workspace.start, <float*>source, <float**>outputs, n, self._threads,
                                       &seconds[0])
        self._idle.append(workspace)
        return np.median(times, axis=0).tolist()

    def predict(self, img):
        """Class of one uint8 image, (H, W) or (H, W, C) and C-contiguous; None where that is not what img is."""
        cdef cnp.ndarray image
        cdef float* x
        cdef float* y
        cdef const uint8_t* pixels
        cdef const float[:, ::1] levels
        cdef char* outputs[1]
        cdef Py_ssize_t c, h, w, k, i, best
        cdef Workspace workspace
        if self._levels is None or not cnp.PyArray_CheckExact(img):
            return None
        image = <cnp.ndarray>img
        c, h, w = self._input_shape[1], self._input_shape[2], self._input_shape[3]
        if cnp.PyArray_TYPE(image) != cnp.NPY_UINT8 or not cnp.PyArray_ISCARRAY_RO(image):
            return None
        if not (cnp.PyArray_DIMS(image)[0] == h and cnp.PyArray_DIMS(image)[1] == w
                if cnp.PyArray_NDIM(image) == 2 and c == 1
                else cnp.PyArray_NDIM(image) == 3 and cnp.PyArray_DIMS(image)[0] == h
                and cnp.PyArray_DIMS(image)[1] == w and cnp.PyArray_DIMS(image)[2] == c):
            return None
        levels = self._levels
        pixels = <const uint8_t*>cnp.PyArray_DATA(image)
        workspace = self._take()
        x = <float*>workspace.start + self._arena + self._scratch * self._threads + ALIGN // sizeof(float)
        y = x + self._input_size
        outputs[0] = <char*>y
        with nogil:
            for k in range(c):
                for i in range(h * w):
                    x[k * h * w + i] = levels[k, pixels[i * c + k]]
            if self._threads > 1 and self._work >= WORK_PER_THREAD:
                self._share_layers(<float*>workspace.start, x, <float**>outputs, 1, self._threads, NULL)
            else:
                self._images(workspace.start, <char*>x, outputs, 0, 1)
            best = 0
            for k in range(self._output_sizes[0]):
                if y[k] > y[best] or (y[k] != y[k] and y[best] == y[best]):
                    best = k
        self._idle.append(workspace)
        return best
