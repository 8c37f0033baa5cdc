"""Matrix products and attention on the caller's memory, for `fastconv.functional`.

Products of float run on the register tile: the right matrix is put into panels, some columns at a time, which stay in
the L2 cache while the rows of the left one pass. Each output is one chain of sums, so its bits depend on nothing else.
Products of double are BLAS's.
"""

cdef enum:
    PRODUCT_PANELS = 512 * 1024     # bytes of panels at a time
    PRODUCT_FEW = 4                 # rows: for so many, putting a matrix into panels takes longer than the product
    PRODUCT_STEPS = 8               # of the sum at a time, there
    PRODUCT_BLOCK = 128 * 1024      # bytes of rows that stay in cache while the panels pass
    PRODUCT_WAYS = 8                # lines that a set of L1 holds
    ATTENTION_ROWS = 48             # queries at a time: their scores stay in cache


cdef inline void few_steps(int steps, const float* x, const float* z, Py_ssize_t o, float* y,
                           Py_ssize_t n) noexcept nogil:
    """y += x . z over n columns, of `steps` rows of z, o apart. x: (steps,); y: (n,)"""
    cdef vf v, acc
    cdef Py_ssize_t j = 0
    cdef int t, part
    while j + FC_W <= n:
        acc = v_load(y + j)
        for t in range(steps):
            acc = v_fma(v_set1(x[t]), v_load(z + t * o + j), acc)
        v_store(y + j, acc)
        j += FC_W
    if j < n:
        part = <int>(n - j)
        acc = v_load_n(y + j, part)
        for t in range(steps):
            acc = v_fma(v_set1(x[t]), v_load_n(z + t * o + j, part), acc)
        v_store_n(y + j, acc, part)


cdef void few_rows(Py_ssize_t m, const float* x, Py_ssize_t k, const float* z, Py_ssize_t o, float* y,
                   Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Columns [first, last) of m rows times z as it lies, some rows of z at a time: memory is read once, in order."""
    cdef Py_ssize_t i, t = 0
    for i in range(m):
        memset(y + i * o + first, 0, (last - first) * sizeof(float))
    while t < k:
        for i in range(m):
            if t + PRODUCT_STEPS <= k:
                few_steps(PRODUCT_STEPS, x + i * k + t, z + t * o + first, o, y + i * o + first, last - first)
            else:
                few_steps(<int>(k - t), x + i * k + t, z + t * o + first, o, y + i * o + first, last - first)
        t += PRODUCT_STEPS


cdef struct Products:
    Py_ssize_t count
    Py_ssize_t m
    Py_ssize_t k
    Py_ssize_t o
    const int64_t* x                # where each product's matrices begin, in elements
    const int64_t* z
    Py_ssize_t columns              # of a unit
    Py_ssize_t groups               # of columns in a product
    Py_ssize_t rows                 # of a unit
    Py_ssize_t parts                # of rows in a product


cdef inline Py_ssize_t rows_of_block(Py_ssize_t k) noexcept nogil:
    return max(PRODUCT_BLOCK // <Py_ssize_t>(k * sizeof(float)) // FC_MR, 1) * FC_MR


cdef inline bint crowded_rows(Py_ssize_t k) noexcept nogil:
    """Whether the lines that a tile reads in one step share a set of L1, which does not hold so many.

    14 rows of 1024 floats take 2.2 times as long as 14 of 1040 (Zen 4). The 6 rows of the lower tile fit.
    """
    return FC_MR > PRODUCT_WAYS and k % SET == 0


cdef void products_share(const Products* p, const float* x, const float* z, float* y, float* scratch,
                         Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Units [begin, end): some columns of some rows of a product each. scratch: panels, behind them a block of rows"""
    cdef Py_ssize_t u, product, group, row, rows, first, columns, i, m, packed = -1
    cdef Py_ssize_t block = rows_of_block(p.k), step = p.k + LINE if crowded_rows(p.k) else p.k
    cdef float* copied = scratch + odd_lines(p.k * p.columns)
    cdef const float* few
    cdef const float* left
    cdef const float* right
    cdef float* out
    cdef uint64_t state = fc_flush_denormals()
    for u in range(begin, end):
        group = u // p.parts
        row = (u - group * p.parts) * p.rows
        rows = min(p.rows, p.m - row)
        product = group // p.groups
        first = (group - product * p.groups) * p.columns
        columns = min(p.columns, p.o - first)
        left = x + p.x[product] + row * p.k
        right = z + p.z[product]
        out = y + (product * p.m + row) * p.o
        if p.m <= PRODUCT_FEW:
            few_rows(rows, left, p.k, right, p.o, out, first, first + columns)
            continue
        if group != packed:
            pack_columns(right + first, p.o, p.k, columns, scratch)
            packed = group
        row = 0
        while row < rows:
            m = min(block, rows - row)
            few = left + row * p.k
            if step > p.k:
                for i in range(m):
                    memcpy(copied + i * step, few + i * p.k, p.k * sizeof(float))
                few = copied
            panels_product(few, step, scratch, out + row * p.o + first, p.o, m, p.k, columns)
            row += block
    fc_restore_denormals(state)


cdef int products_of_floats(Products* p, const float* x, const float* z, float* y, int threads) noexcept nogil:
    """0, or -1 where there is no memory."""
    cdef int part
    cdef Py_ssize_t units, size
    cdef float* scratch
    p.columns = max(PRODUCT_PANELS // <Py_ssize_t>(p.k * sizeof(float)) // FC_NR, 1) * FC_NR
    if p.m <= PRODUCT_FEW:
        p.columns = (p.o + threads - 1) // threads
    p.columns = (min(p.columns, p.o) + FC_NR - 1) // FC_NR * FC_NR
    p.groups = (p.o + p.columns - 1) // p.columns
    units = p.count * p.groups
    p.parts = 1
    if units < threads and p.m >= 2 * threads * FC_MR:
        p.parts = threads
    p.rows = (p.m + p.parts - 1) // p.parts
    p.parts = (p.m + p.rows - 1) // p.rows
    units *= p.parts
    threads = <int>min(<Py_ssize_t>threads, units)
    size = 0 if p.m <= PRODUCT_FEW else odd_lines(p.k * p.columns)       # few rows take the matrix as it lies
    if size and crowded_rows(p.k):
        size += odd_lines(min(rows_of_block(p.k), p.m) * (p.k + LINE))
    scratch = <float*>malloc(max(1, threads * size * sizeof(float)))
    if scratch == NULL:
        return -1
    if threads == 1:
        products_share(p, x, z, y, scratch, 0, units)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            products_share(p, x, z, y, scratch + part * size, units * part // threads,
                           units * (part + 1) // threads)
    free(scratch)
    return 0


def products(cnp.ndarray x, cnp.ndarray z, cnp.ndarray y, cnp.ndarray plan, int threads):
    """y[i] = x[i] . z[i], (m, k) times (k, o). All are contiguous, and y has elements.

    plan: int64, m, k, o, and where the matrices of each product begin in x, then where they do in z
    """
    cdef Products p
    cdef const int64_t* numbers = <const int64_t*>cnp.PyArray_DATA(plan)
    cdef Py_ssize_t i
    cdef void* left = cnp.PyArray_DATA(x)
    cdef void* right = cnp.PyArray_DATA(z)
    cdef void* out = cnp.PyArray_DATA(y)
    cdef bint floats = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef int failed = 0
    p.m, p.k, p.o, p.count = numbers[0], numbers[1], numbers[2], (cnp.PyArray_SIZE(plan) - 3) // 2
    p.x, p.z = numbers + 3, numbers + 3 + p.count
    threads = <int>min(<Py_ssize_t>threads, 1 + p.count * p.m * p.k * p.o // WORK_PER_THREAD)
    with nogil:
        if floats:
            failed = products_of_floats(&p, <const float*>left, <const float*>right, <float*>out, threads)
        else:
            for i in range(p.count):
                gemm(p.m, p.o, p.k, <const double*>left + p.x[i], <const double*>right + p.z[i], p.o,
                     <double*>out + i * p.m * p.o)
    if failed:
        raise MemoryError


cdef struct Attention:
    Py_ssize_t count                # of problems, a head of an image each
    Py_ssize_t l                    # queries
    Py_ssize_t s                    # keys
    Py_ssize_t e                    # features of both
    Py_ssize_t v                    # features of a value
    const int64_t* q                # where each problem's matrices begin, in elements
    const int64_t* k
    const int64_t* values
    const int64_t* mask
    Py_ssize_t mask_row             # steps of the mask
    Py_ssize_t mask_column
    float scale
    bint causal
    Py_ssize_t parts                # of queries, for threads
    Py_ssize_t rows                 # of such a part


cdef void pack_rows(const float* b, Py_ssize_t n, Py_ssize_t k, float* out) noexcept nogil:
    """b: (n, k) -> what `pack_columns` makes of its transpose."""
    cdef Py_ssize_t first = 0, j, width, part
    while first < n:
        width = FC_NR if n - first > FC_W else FC_W
        part = min(width, n - first)
        if part < width:
            memset(out, 0, k * width * sizeof(float))
        transpose(part, k, b + first * k, k, out, width)
        out += k * width
        first += width


cdef void attend(const Attention* p, const float* q, const float* mask, const float* keys, const float* values,
                 float* scores, float* scaled, float* y, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    """softmax(scale * Q K^T + mask) V for queries [first, first + rows) of one problem. keys, values: in panels"""
    cdef Py_ssize_t i, j, seen, step = odd_lines(p.s)
    cdef float* row
    for i in range(rows * p.e):
        scaled[i] = q[i] * p.scale
    panels_product(scaled, p.e, keys, scores, step, rows, p.e, p.s)
    for i in range(rows):
        row = scores + i * step
        seen = min(p.s, first + i + 1) if p.causal else p.s
        if mask != NULL:
            for j in range(p.s):
                row[j] += mask[(first + i) * p.mask_row + j * p.mask_column]
        j = 0
        while j < seen and row[j] == -INFINITY:
            j += 1
        if j == seen:                                   # no key is seen: the result is 0, as in PyTorch
            seen = 0
        else:
            softmax_row(False, <const vf*>row, <vf*>row, seen)
        memset(row + seen, 0, (p.s - seen) * sizeof(float))
    panels_product(scores, step, values, y, p.v, rows, p.s, p.v)


cdef void attention_share(const Attention* p, const float* q, const float* k, const float* v, const float* mask,
                          float* y, float* scratch, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Units [begin, end): a part of the queries of a problem each. scratch: as `attention_of_floats` counts it"""
    cdef Py_ssize_t u, problem, row, last, rows, packed = -1
    cdef Py_ssize_t wide = FC_NR
    cdef float* values = scratch + odd_lines((p.s + wide) * p.e)
    cdef float* scores = values + odd_lines((p.v + wide) * p.s)
    cdef float* scaled = scores + ATTENTION_ROWS * odd_lines(p.s)
    cdef uint64_t state = fc_flush_denormals()
    for u in range(begin, end):
        problem = u // p.parts
        row = (u - problem * p.parts) * p.rows
        last = min(row + p.rows, p.l)
        if problem != packed:
            pack_rows(k + p.k[problem], p.s, p.e, scratch)
            pack_columns(v + p.values[problem], p.v, p.s, p.v, values)
            packed = problem
        while row < last:
            rows = min(<Py_ssize_t>ATTENTION_ROWS, last - row)
            attend(p, q + p.q[problem] + row * p.e, mask + p.mask[problem] if mask != NULL else NULL, scratch, values,
                   scores, scaled, y + (problem * p.l + row) * p.v, row, rows)
            row += rows
    fc_restore_denormals(state)


cdef int attention_of_floats(Attention* p, const float* q, const float* k, const float* v, const float* mask, float* y,
                             int threads) noexcept nogil:
    """0, or -1 where there is no memory."""
    cdef int part
    cdef Py_ssize_t wide = FC_NR, units = p.count, size
    cdef float* scratch
    p.parts = 1
    if units < threads and p.l >= 2 * threads * FC_MR:
        p.parts = threads
    p.rows = (p.l + p.parts - 1) // p.parts
    p.parts = (p.l + p.rows - 1) // p.rows
    units *= p.parts
    threads = <int>min(<Py_ssize_t>threads, units)
    size = (odd_lines((p.s + wide) * p.e) + odd_lines((p.v + wide) * p.s)
            + ATTENTION_ROWS * (odd_lines(p.s) + odd_lines(p.e)))
    scratch = <float*>malloc(threads * size * sizeof(float))
    if scratch == NULL:
        return -1
    if threads == 1:
        attention_share(p, q, k, v, mask, y, scratch, 0, units)
    else:
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            attention_share(p, q, k, v, mask, y, scratch + part * size, units * part // threads,
                            units * (part + 1) // threads)
    free(scratch)
    return 0


def attention(cnp.ndarray q, cnp.ndarray k, cnp.ndarray v, mask, cnp.ndarray y, cnp.ndarray plan, float scale,
              int threads):
    """y = softmax(scale * Q K^T + mask) V of float32 for each problem (Vaswani et al., 2017). All are contiguous.

    plan: int64, sizes l, s, e, v, of which none is 0; the mask's steps from a query to the next, and from a key to the
    next; 1 where a query sees no key behind its own place; and where the matrices of each problem begin in q, in k, in
    v and in the mask
    """
    cdef Attention p
    cdef const int64_t* numbers = <const int64_t*>cnp.PyArray_DATA(plan)
    cdef const float* masked = NULL
    cdef int failed
    if mask is not None:
        masked = <const float*>cnp.PyArray_DATA(<cnp.ndarray>mask)
    p.l, p.s, p.e, p.v = numbers[0], numbers[1], numbers[2], numbers[3]
    p.mask_row, p.mask_column, p.causal, p.scale = numbers[4], numbers[5], numbers[6] != 0, scale
    p.count = (cnp.PyArray_SIZE(plan) - 7) // 4
    p.q = numbers + 7
    p.k, p.values, p.mask = p.q + p.count, p.q + 2 * p.count, p.q + 3 * p.count
    threads = <int>min(<Py_ssize_t>threads, 1 + p.count * p.l * p.s * (p.e + p.v) // WORK_PER_THREAD)
    with nogil:
        failed = attention_of_floats(&p, <const float*>cnp.PyArray_DATA(q), <const float*>cnp.PyArray_DATA(k),
                                     <const float*>cnp.PyArray_DATA(v), masked, <float*>cnp.PyArray_DATA(y), threads)
    if failed:
        raise MemoryError
