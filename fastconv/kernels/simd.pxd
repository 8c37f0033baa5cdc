"""The vector vocabulary of `simd.h`, as Cython sees it.

`vf` and `vp` are declared as float so that Cython writes plain C arithmetic on them; C sees vectors.
"""
from libc.stdint cimport uint64_t

cdef extern from "simd.h" nogil:
    ctypedef float vf
    ctypedef float vp
    enum:
        FC_W
        FC_P
        FC_MR
        FC_MR1
        FC_PO
        FC_PV
        FC_REGISTERS
    const char* FC_LEVEL

    const float* fc_hide(const float* p) noexcept
    vf v_load(const float* p) noexcept
    void v_prefetch(const float* p) noexcept
    vf v_load_n(const float* p, int n) noexcept
    void v_store(float* p, vf v) noexcept
    void v_store_n(float* p, vf v, int n) noexcept
    vf v_set1(float x) noexcept
    vf v_fma(vf a, vf b, vf c) noexcept
    vf v_max(vf a, vf b) noexcept
    vf v_min(vf a, vf b) noexcept
    vf v_nanmax(vf a, vf b) noexcept
    vf v_leaky(vf x, vf slope) noexcept

    vp p_load(const float* p) noexcept
    void p_store(float* p, vp v) noexcept
    void p_store_half(float* p, vp v) noexcept
    vp p_set1(float x) noexcept
    vp p_fma(vp a, vp b, vp c) noexcept
    vp p_max(vp a, vp b) noexcept
    vp p_min(vp a, vp b) noexcept
    vp p_nanmax(vp a, vp b) noexcept
    vp p_leaky(vp x, vp slope) noexcept
    vp p_even(vp a, vp b) noexcept
    vp p_odd(vp a, vp b) noexcept
    void p_transpose(vp* r) noexcept
    void p_store_three(float* p, vp a, vp b, vp c) noexcept
    void p_store_n(float* p, vp v, int n) noexcept

    uint64_t fc_flush_denormals() noexcept
    void fc_restore_denormals(uint64_t state) noexcept
