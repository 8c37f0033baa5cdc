"""The only place that names OpenMP. Without it (`-fopenmp` unknown to the compiler) `prange` runs serially."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    /* Asking for its threads makes LLVM's runtime read its environment now; GNU's did so when it was loaded. */
    static long fc_openmp(void) { return omp_get_max_threads() > 0 ? _OPENMP : 0; }
    static int fc_pause_threads(void) {
    /* GNU's runtime only: LLVM's renews itself in a forked child, and aborts there (libomp 14) if it was
     * paused before. Of OpenMP 5.0; GCC has it since 9, though 12 still announces 4.5. */
    #if !defined(__clang__) && __GNUC__ >= 9
        return omp_pause_resource_all(omp_pause_hard);
    #else
        return 0;
    #endif
    }
    #else
    static long fc_openmp(void) { return 0; }
    static int fc_pause_threads(void) { return 0; }
    #endif
    """
    # the standard's date (yyyymm), 0 for a serial build
    long fc_openmp() noexcept nogil
    # Frees the calling thread's worker pool; a child forked afterwards starts its own instead of waiting
    # for workers that the fork did not copy. GNU's runtime hangs without it.
    int fc_pause_threads() noexcept nogil
