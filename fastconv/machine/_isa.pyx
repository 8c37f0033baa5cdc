"""What the CPU can do: built without any instruction-set flag, so that asking is always safe."""

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
