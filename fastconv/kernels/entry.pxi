"""The compiled entry of `fastconv.functional`: what a call's like has prepared before is found by one look.

A call of a function on small arrays computes for about a microsecond, while checking its arguments and compiling
its network of one node takes fifty. So what the careful way prepares (a `Program`, or any callable that takes the
arrays) is remembered under a key which holds all that the checks and the compiler have looked at.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_AsUTF8AndSize

cdef enum:
    KEY_BYTES = 512                 # a key that would be longer is not made, and its call prepared anew
    MAX_DEPTH = 3                   # of tuples in tuples

# For so long, the number of threads that was read serves: reading the CPU affinity takes longer than a small call.
cdef double THREADS_SERVE = 0.1     # seconds


cdef char* put_bytes(char* p, const char* end, const void* data, Py_ssize_t size) noexcept:
    """Append to a key; NULL where it is full."""
    if p == NULL or end - p < size:
        return NULL
    memcpy(p, data, size)
    return p + size


cdef char* put_tag(char* p, const char* end, char tag) noexcept:
    return put_bytes(p, end, &tag, 1)


cdef char* put_tagged(char* p, const char* end, char tag, int64_t value) noexcept:
    return put_bytes(put_tag(p, end, tag), end, &value, sizeof(value))


cdef char* put_value(char* p, const char* end, object value, int depth) except? NULL:
    """Append an attribute, with its type: 1, True, 1.0 and numpy.int64(1) are four things, (1, 1) and [1, 1] two.

    NULL where there is no place left, or the type is not one of those that attributes usually have.
    """
    cdef int64_t number
    cdef int overflow = 0
    cdef double real_number
    cdef const char* text
    cdef Py_ssize_t size
    if p == NULL:
        return NULL
    if value is None:
        return put_tag(p, end, c'N')
    if value is True:
        return put_tag(p, end, c'T')
    if value is False:
        return put_tag(p, end, c'F')
    kind = type(value)
    if kind is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        return NULL if overflow else put_tagged(p, end, c'i', number)
    if kind is float:
        real_number = value
        memcpy(&number, &real_number, sizeof(number))
        return put_tagged(p, end, c'f', number)
    if kind is str:
        if not value.isascii():
            return NULL                 # no attribute is spelled so
        text = PyUnicode_AsUTF8AndSize(value, &size)
        return put_bytes(put_tagged(p, end, c's', size), end, text, size)
    if kind is tuple or kind is list:
        if depth == MAX_DEPTH:
            return NULL
        items = tuple(value)            # a list may change meanwhile
        p = put_tagged(p, end, c'(' if kind is tuple else c'[', len(items))
        for item in items:
            p = put_value(p, end, item, depth + 1)
        return p
    if kind is np.int64 or kind is np.int32:
        number = value
        return put_tagged(p, end, c'n' if kind is np.int64 else c'm', number)
    return NULL


cdef char* put_array(char* p, const char* end, object value, bint images) noexcept:
    """Append an array's element type and shape; NULL where it is not `contiguous`.

    images: the first of four axes is a batch, of any size.
    """
    cdef cnp.ndarray array
    cdef int first
    if not contiguous(value):
        return NULL
    array = <cnp.ndarray>value
    first = 1 if images and cnp.PyArray_NDIM(array) == 4 else 0
    p = put_tagged(p, end, c'a', cnp.PyArray_TYPE(array) * 256 + cnp.PyArray_NDIM(array))
    return put_bytes(p, end, cnp.PyArray_DIMS(array) + first,
                     (cnp.PyArray_NDIM(array) - first) * sizeof(cnp.npy_intp))


cdef class Prepared:
    """What one key leads to."""
    cdef object run                     # takes the arrays, returns the result
    cdef Py_ssize_t nbytes              # of the memory it works in
    cdef double used                    # when, in seconds


cdef class Cache:
    """What was prepared, of all functions that share this cache.

    Any thread may use it at any time. Nothing is locked while something is computed or prepared: two threads which
    miss the same key both prepare it, to the same effect.

    Parameters
    ----------
    default_threads : callable
        Returns the number of threads that a call may use. It is asked at most ten times a second.
    entries, nbytes : int
        What was used least recently goes when there are more entries, or their working memory is larger.
    """
    cdef dict _prepared
    cdef readonly Py_ssize_t entries, nbytes
    cdef object _default_threads
    cdef Py_ssize_t _threads
    cdef double _threads_read
    cdef int64_t _functions

    def __cinit__(self, default_threads, Py_ssize_t entries, Py_ssize_t nbytes):
        self._prepared = {}
        self._default_threads, self.entries, self.nbytes = default_threads, entries, nbytes
        self._threads_read = -INFINITY

    def __len__(self):
        return len(self._prepared)

    def held(self):
        """Return the bytes of working memory that the entries account for."""
        cdef Prepared entry
        cdef Py_ssize_t total = 0
        for entry in list(self._prepared.values()):
            total += entry.nbytes
        return total

    def clear(self):
        """Forget everything, the number of threads included."""
        self._prepared.clear()
        self._threads_read = -INFINITY

    def threads(self):
        """Return the number of threads that a call may use, as it was at most `THREADS_SERVE` seconds ago."""
        return self._threads_at(now())

    cdef Py_ssize_t _threads_at(self, double time) except -1:
        if time - self._threads_read > THREADS_SERVE:
            self._threads = self._default_threads()
            self._threads_read = time
        return self._threads

    cdef int _remember(self, bytes key, Prepared entry) except -1:
        cdef Prepared other
        cdef Py_ssize_t count = 0, total = 0
        if entry.nbytes > self.nbytes:
            return 0
        self._prepared[key] = entry
        for place, other in sorted(list(self._prepared.items()), key=_last_used, reverse=True):
            count += 1
            total += other.nbytes
            if count > self.entries or total > self.nbytes:
                self._prepared.pop(place, None)
                total -= other.nbytes
        return 0


def _last_used(item):
    cdef Prepared entry = item[1]
    return entry.used


cdef class OneOp:
    """The entry of one function.

    Parameters
    ----------
    cache : Cache
    prepare : callable
        ``prepare(arrays, attributes, threads) -> (run, nbytes)``: checks all that the key holds, raises what is to be
        raised, and returns a callable that takes such arrays, and the working memory that it keeps. It must depend
        on nothing else.
    convert : callable
        ``convert(arrays) -> arrays`` C-contiguous, aligned, of one float type.
    images : bool
        Whether what is prepared for a first array of four axes serves any size of its first axis.
    """
    cdef Cache _cache
    cdef object _prepare, _convert
    cdef bint _images
    cdef int64_t _number

    def __cinit__(self, Cache cache, prepare, convert, bint images):
        self._cache, self._prepare, self._convert, self._images = cache, prepare, convert, images
        self._number = cache._functions
        cache._functions += 1

    cdef bytes _key(self, tuple arrays, tuple attributes, Py_ssize_t threads):
        """All that `prepare` may look at; None where it cannot be written down."""
        cdef char key[KEY_BYTES]
        cdef char* end = key + KEY_BYTES
        cdef char* p = put_tagged(key, end, c't', self._number << 32 | threads)
        cdef bint first = True
        for array in arrays:
            p = put_array(p, end, array, first and self._images)
            first = False
            if p == NULL:
                return None
        for value in attributes:
            p = put_value(p, end, value, 0)
            if p == NULL:
                return None
        return PyBytes_FromStringAndSize(key, p - key)

    def run(self, tuple arrays, tuple attributes):
        """Return the function's result for these arrays (as given by the caller) and attributes."""
        cdef double time = now()
        cdef Py_ssize_t threads = self._cache._threads_at(time)
        cdef bytes key = self._key(arrays, attributes, threads)
        cdef Prepared entry = None
        if key is not None:
            entry = <Prepared>self._cache._prepared.get(key)
        if entry is None:
            arrays = self._convert(arrays)
            entry = self._find(arrays, attributes, threads)
        entry.used = time
        if len(arrays) == 1:
            return entry.run(arrays[0])
        return entry.run(*arrays)

    cdef Prepared _find(self, tuple arrays, tuple attributes, Py_ssize_t threads):
        """What was prepared for converted arrays, or is now."""
        cdef bytes key = self._key(arrays, attributes, threads)
        cdef Prepared entry = None
        if key is not None:
            entry = <Prepared>self._cache._prepared.get(key)
        if entry is None:
            entry = Prepared.__new__(Prepared)
            entry.run, entry.nbytes = self._prepare(arrays, attributes, threads)
            entry.used = now()
            if key is not None:
                self._cache._remember(key, entry)
        return entry
