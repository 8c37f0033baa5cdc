"""What is compiled for any CPU: what this one can do, so that asking is always safe, and the call of a model.

One module, since opening another costs 0.2 ms of every start.
"""

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
        out[0] = out[1] = out[2] = out[3] = 0;
        __get_cpuid_count(leaf, index, out, out + 1, out + 2, out + 3);
    }
    #else
    static void fc_cpuid(unsigned leaf, unsigned index, unsigned* out) { out[0] = out[1] = out[2] = out[3] = 0; }
    #endif
    """
    const char* fc_level()
    void fc_cpuid(unsigned leaf, unsigned index, unsigned* out)


def level():
    """The highest instruction-set level this CPU and its operating system support."""
    return (<bytes>fc_level()).decode()


def cpuid(unsigned leaf, unsigned index):
    """The registers (eax, ebx, ecx, edx) of a CPUID leaf; zeros where there is none."""
    cdef unsigned words[4]
    fc_cpuid(leaf, index, words)
    return words[0], words[1], words[2], words[3]


cdef class Call:
    """`Model.__call__`, which as a Python function would cost 0.16 of the 7 microseconds of a LeNet; this costs 0.04.

    It calls `_run`, a Program's, and for what that does not take `_run_any`, which the subclass has.
    """
    cdef public object _run

    def __call__(self, x):
        """Return the network's raw outputs.

        Parameters
        ----------
        x : (N, C, H, W) or (C, H, W)
            Of any real dtype and any strides, used as it is: nothing is scaled. C-contiguous
            float32 is not copied.

        Returns
        -------
        ndarray, float32, or a tuple of them
            One per output of the network; with a batch axis if ``x`` has one. Always fresh.

        Raises
        ------
        fastconv.ShapeError
            ``x`` does not have the model's `input_shape`.
        fastconv.errors.DTypeError
            ``x`` does not hold real numbers.
        """
        outputs = self._run(x)
        if outputs is NotImplemented:       # all but the usual batch: C-contiguous and of the model's dtype
            return self._run_any(x)
        return outputs
