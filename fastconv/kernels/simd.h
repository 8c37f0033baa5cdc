/* The vector vocabulary of the kernels: the types and the few operations on them that C must spell.
 *
 * The same Cython source is compiled once per instruction-set level, and only this header and simd_ops.h, which has
 * the arithmetic, know the difference. `vf`, of float, and `vd`, of double, are as wide as the level's registers
 * and never wider: GCC lowers a wider one through memory, 60 times slower. `vp`, at most 8 floats wide, is for
 * kernels that put pixels in the lanes: rows of small images seldom fill 16, and an 8-wide FMA runs twice a cycle
 * where the 16-wide runs once (Zen 4).
 *
 *   FC_W      lanes of vf                     FC_P      lanes of vp; FC_D, those of vd
 *   FC_MR     rows of the register tile when it is two vectors wide
 *   FC_MR1    rows of the register tile when it is one vector wide (enough chains to hide the latency)
 *   FC_PO     output channels of the pixel kernel's tile; FC_PV its vectors of pixels, in each of two rows
 */
#ifndef FASTCONV_SIMD_H
#define FASTCONV_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__)
#error "fastconv needs GCC or Clang: its kernels are written on their vector extensions"
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512VL__)
#define FC_LEVEL "x86-64-v4"
#define FC_W 16
#define FC_P 8
#define FC_MR 14
#define FC_MR1 14
#define FC_PO 3
#define FC_PV 3
#define FC_REGISTERS 32
#elif defined(__AVX2__) && defined(__FMA__)
#define FC_LEVEL "x86-64-v3"
#define FC_W 8
#define FC_P 8
#define FC_MR 6
#define FC_MR1 12
#define FC_PO 6         /* 3 vectors of pixels would not fit 16 registers, and be loaded twice */
#define FC_PV 1
#define FC_REGISTERS 16
#else
#if defined(__SSE4_2__)
#define FC_LEVEL "x86-64-v2"
#else
#define FC_LEVEL "generic"
#endif
#define FC_W 4
#define FC_P 4
#if defined(__aarch64__)        /* 32 registers */
#define FC_MR 12
#define FC_MR1 14
#define FC_PO 3
#define FC_REGISTERS 32
#else
#define FC_REGISTERS 16
#define FC_MR 6
#define FC_MR1 10
#define FC_PO 2
#endif
#define FC_PV 3
#endif

typedef float vf __attribute__((vector_size(4 * FC_W)));
typedef float fc_vfu __attribute__((vector_size(4 * FC_W), aligned(4), may_alias));
typedef float vp __attribute__((vector_size(4 * FC_P)));
typedef float fc_vpu __attribute__((vector_size(4 * FC_P), aligned(4), may_alias));

#define FC_INLINE static inline __attribute__((always_inline))

/* The same pointer, but GCC no longer knows how it was made. Where a loop reads many places at runtime multiples
 * of a stride, it would else keep an address for each, more than there are registers. */
FC_INLINE const float *fc_hide(const float *p)
{
    __asm__ volatile("" : "+r"(p));     /* volatile: or two of one pointer would become one */
    return p;
}

/* What depends on it gets the registers that are left over. */
#define fc_rare(condition) __builtin_expect(condition, 0)

FC_INLINE vf v_load(const float *p) { return *(const fc_vfu *)p; }
FC_INLINE void v_store(float *p, vf v) { *(fc_vfu *)p = v; }
FC_INLINE void v_prefetch(const float *p) { __builtin_prefetch(p); }
FC_INLINE void v_prefetch_l2(const float *p) { __builtin_prefetch(p, 0, 2); }
FC_INLINE vp p_load(const float *p) { return *(const fc_vpu *)p; }
FC_INLINE void p_store(float *p, vp v) { *(fc_vpu *)p = v; }
FC_INLINE void p_store_half(float *p, vp v) { memcpy(p, &v, 2 * FC_P); }

#include "simd_ops.h"

FC_INLINE vf v_set1(float x) { return f_fill((vf){0}, x); }
FC_INLINE vf v_load_n(const float *p, int n)
{
#if FC_W == 8                   /* AVX2 would blend, after a load that gives zeros anyway */
    static const int32_t ones[16] = FC_ONES_8;
    return (vf)_mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(ones + 8 - n)));
#else
    return f_get_else((const vf *)p, 0, n, (vf){0});
#endif
}
FC_INLINE void v_store_n(float *p, vf v, int n) { f_put_n((vf *)p, 0, v, n); }

/* v_spread(v, n, j): lane j of each n lanes, in all of those; n is 2 or 4 */
#define FC_OF(l, n, j) ((l) / (n) * (n) + (j))
#define FC_OF_4(l, n, j) FC_OF(l, n, j), FC_OF(l + 1, n, j), FC_OF(l + 2, n, j), FC_OF(l + 3, n, j)
#if FC_W == 16
#define FC_SPREAD(v, n, j) FC_TURN(f, v, FC_OF_4(0, n, j), FC_OF_4(4, n, j), FC_OF_4(8, n, j), FC_OF_4(12, n, j))
#elif FC_W == 8
#define FC_SPREAD(v, n, j) FC_TURN(f, v, FC_OF_4(0, n, j), FC_OF_4(4, n, j))
#else
#define FC_SPREAD(v, n, j) FC_TURN(f, v, FC_OF_4(0, n, j))
#endif
FC_INLINE vf v_spread(vf v, int n, int j)
{
    if (n == 2) return j ? FC_SPREAD(v, 2, 1) : FC_SPREAD(v, 2, 0);
    switch (j) {
    case 0: return FC_SPREAD(v, 4, 0);
    case 1: return FC_SPREAD(v, 4, 1);
    case 2: return FC_SPREAD(v, 4, 2);
    default: return FC_SPREAD(v, 4, 3);
    }
}
FC_INLINE vp p_set1(float x) { return fc_fill((vp){0}, x); }
FC_INLINE void p_store_n(float *p, vp v, int n) { fc_put_n((vp *)p, 0, v, n); }

/* FC_SWITCH(most, n, f, ...): f(n, ...) with n as a constant, for n from 1 to `most`, a constant of at most 16. Kernels
 * are inlined functions specialised by a constant; this chooses among the copies. None is made beyond `most`. */
#define FC_CASE(most, n, f, ...) case n: if (n <= (most)) f(n <= (most) ? n : 1, __VA_ARGS__); break;
#define FC_CASES(most, f, ...) \
    FC_CASE(most, 1, f, __VA_ARGS__) FC_CASE(most, 2, f, __VA_ARGS__) FC_CASE(most, 3, f, __VA_ARGS__) \
    FC_CASE(most, 4, f, __VA_ARGS__) FC_CASE(most, 5, f, __VA_ARGS__) FC_CASE(most, 6, f, __VA_ARGS__) \
    FC_CASE(most, 7, f, __VA_ARGS__) FC_CASE(most, 8, f, __VA_ARGS__) FC_CASE(most, 9, f, __VA_ARGS__) \
    FC_CASE(most, 10, f, __VA_ARGS__) FC_CASE(most, 11, f, __VA_ARGS__) FC_CASE(most, 12, f, __VA_ARGS__) \
    FC_CASE(most, 13, f, __VA_ARGS__) FC_CASE(most, 14, f, __VA_ARGS__) FC_CASE(most, 15, f, __VA_ARGS__) \
    FC_CASE(most, 16, f, __VA_ARGS__)
#define FC_SWITCH(most, n, f, ...) \
    switch (n) { FC_CASES(most, f, __VA_ARGS__) }

/* FC_SWITCH_KIND(most, kind, f, ...): the same for kinds from 0 to `most` < 48, of enums. */
#define FC_SWITCH_KIND(most, kind, f, ...) \
    switch (kind) { \
    case 0: f(0, __VA_ARGS__); break; \
    FC_CASES(most, f, __VA_ARGS__) \
    FC_CASE(most, 17, f, __VA_ARGS__) FC_CASE(most, 18, f, __VA_ARGS__) FC_CASE(most, 19, f, __VA_ARGS__) \
    FC_CASE(most, 20, f, __VA_ARGS__) FC_CASE(most, 21, f, __VA_ARGS__) FC_CASE(most, 22, f, __VA_ARGS__) \
    FC_CASE(most, 23, f, __VA_ARGS__) FC_CASE(most, 24, f, __VA_ARGS__) FC_CASE(most, 25, f, __VA_ARGS__) \
    FC_CASE(most, 26, f, __VA_ARGS__) FC_CASE(most, 27, f, __VA_ARGS__) FC_CASE(most, 28, f, __VA_ARGS__) \
    FC_CASE(most, 29, f, __VA_ARGS__) FC_CASE(most, 30, f, __VA_ARGS__) FC_CASE(most, 31, f, __VA_ARGS__) \
    FC_CASE(most, 32, f, __VA_ARGS__) FC_CASE(most, 33, f, __VA_ARGS__) \
    FC_CASE(most, 34, f, __VA_ARGS__) FC_CASE(most, 35, f, __VA_ARGS__) \
    FC_CASE(most, 36, f, __VA_ARGS__) FC_CASE(most, 37, f, __VA_ARGS__) \
    FC_CASE(most, 38, f, __VA_ARGS__) FC_CASE(most, 39, f, __VA_ARGS__) \
    FC_CASE(most, 40, f, __VA_ARGS__) FC_CASE(most, 41, f, __VA_ARGS__) \
    FC_CASE(most, 42, f, __VA_ARGS__) FC_CASE(most, 43, f, __VA_ARGS__) \
    FC_CASE(most, 44, f, __VA_ARGS__) FC_CASE(most, 45, f, __VA_ARGS__) \
    FC_CASE(most, 46, f, __VA_ARGS__) FC_CASE(most, 47, f, __VA_ARGS__) \
    }

/* FC_SHUFFLE(a, b, lanes...): lanes of a followed by b */
#if defined(__clang__) || __GNUC__ >= 12
#define FC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t fc_pi __attribute__((vector_size(4 * FC_P)));
#define FC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (fc_pi){__VA_ARGS__})
#endif

/* p_even and p_odd: every second lane of a followed by b. p_transpose: FC_P vectors as a matrix, in place.
 * p_store_three: a0 b0 c0 a1 b1 c1 ..., the pixels of a colour image. */
#if FC_P == 8
FC_INLINE vp p_even(vp a, vp b) { return FC_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
FC_INLINE vp p_odd(vp a, vp b) { return FC_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
FC_INLINE void p_transpose(vp *r)
{
    vp a[8], b[8];
    int i;
    for (i = 0; i < 8; i += 2) {        /* pairs, then fours, then eights */
        a[i] = FC_SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[i + 1] = FC_SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (i = 0; i < 8; i += 4) {
        b[i] = FC_SHUFFLE(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 1] = FC_SHUFFLE(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        b[i + 2] = FC_SHUFFLE(a[i + 1], a[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 3] = FC_SHUFFLE(a[i + 1], a[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (i = 0; i < 4; i++) {
        r[i] = FC_SHUFFLE(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = FC_SHUFFLE(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
FC_INLINE void p_store_three(float *p, vp a, vp b, vp c)
{
    vp x = FC_SHUFFLE(a, b, 0, 8, 0, 1, 9, 0, 2, 10), y = FC_SHUFFLE(a, b, 0, 3, 11, 0, 4, 12, 0, 5);
    vp z = FC_SHUFFLE(a, b, 13, 0, 6, 14, 0, 7, 15, 0);
    p_store(p, FC_SHUFFLE(x, c, 0, 1, 8, 3, 4, 9, 6, 7));
    p_store(p + 8, FC_SHUFFLE(y, c, 10, 1, 2, 11, 4, 5, 12, 7));
    p_store(p + 16, FC_SHUFFLE(z, c, 0, 13, 2, 3, 14, 5, 6, 15));
}
#else
FC_INLINE vp p_even(vp a, vp b) { return FC_SHUFFLE(a, b, 0, 2, 4, 6); }
FC_INLINE vp p_odd(vp a, vp b) { return FC_SHUFFLE(a, b, 1, 3, 5, 7); }
FC_INLINE void p_transpose(vp *r)
{
    vp a = FC_SHUFFLE(r[0], r[1], 0, 4, 1, 5), b = FC_SHUFFLE(r[0], r[1], 2, 6, 3, 7);
    vp c = FC_SHUFFLE(r[2], r[3], 0, 4, 1, 5), d = FC_SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    r[0] = FC_SHUFFLE(a, c, 0, 1, 4, 5);
    r[1] = FC_SHUFFLE(a, c, 2, 3, 6, 7);
    r[2] = FC_SHUFFLE(b, d, 0, 1, 4, 5);
    r[3] = FC_SHUFFLE(b, d, 2, 3, 6, 7);
}
FC_INLINE void p_store_three(float *p, vp a, vp b, vp c)
{
    vp x = FC_SHUFFLE(a, b, 0, 4, 0, 1), y = FC_SHUFFLE(a, b, 5, 0, 2, 6), z = FC_SHUFFLE(a, b, 0, 3, 7, 0);
    p_store(p, FC_SHUFFLE(x, c, 0, 1, 4, 3));
    p_store(p + 4, FC_SHUFFLE(y, c, 0, 5, 2, 3));
    p_store(p + 8, FC_SHUFFLE(z, c, 6, 1, 2, 7));
}
#endif
/* Denormal activations make a convolution up to 50 times slower. Every thread that computes flushes
 * them while it computes, and gives its caller's state back. */
#if defined(__x86_64__) || defined(__i386__)
FC_INLINE uint64_t fc_flush_denormals(void)
{
    unsigned state = _mm_getcsr();
    _mm_setcsr(state | 0x8040u);        /* FTZ | DAZ */
    return state;
}
FC_INLINE void fc_restore_denormals(uint64_t state) { _mm_setcsr((unsigned)state); }
#elif defined(__aarch64__)
FC_INLINE uint64_t fc_flush_denormals(void)
{
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(state | (1u << 24)));       /* FZ */
    return state;
}
FC_INLINE void fc_restore_denormals(uint64_t state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }
#else
FC_INLINE uint64_t fc_flush_denormals(void) { return 0; }
FC_INLINE void fc_restore_denormals(uint64_t state) { (void)state; }
#endif

#endif
