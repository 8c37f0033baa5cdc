/* Sums of the lanes of four vectors at once, each in the same order whichever of the four it is.
 *
 *   fc_sums(a, b, c, d, bias, j, y, k, n): y[k + i] = the sum of the i-th vector's lanes, + bias[j + i], for i < n <= 4
 *
 * bias may be NULL. Within each run of 128 bits lanes that lie half a run apart are added first, of all vectors in one
 * shuffle, then what is left of the run, and at last the runs: 13 instructions for 64 floats.
 */
#ifndef FASTCONV_SUMS_H
#define FASTCONV_SUMS_H

#include "simd.h"

typedef float fc_run_f __attribute__((vector_size(16)));
typedef double fc_run_d __attribute__((vector_size(16)));

#if FC_W == 16
#define FC_BOTH(M, T, R, a, b) ((M##_unpacklo_##T((R)(a), (R)(b))) + (M##_unpackhi_##T((R)(a), (R)(b))))
FC_INLINE vf fc_pairs_f(vf a, vf b) { return (vf)FC_BOTH(_mm512, ps, __m512, a, b); }
FC_INLINE vd fc_pairs_d(vd a, vd b) { return (vd)FC_BOTH(_mm512, pd, __m512d, a, b); }
FC_INLINE vf fc_halves_f(vf u, vf v)
{
    return (vf)_mm512_shuffle_ps((__m512)u, (__m512)v, 0x44) + (vf)_mm512_shuffle_ps((__m512)u, (__m512)v, 0xee);
}
FC_INLINE fc_run_f fc_runs_f(vf v)
{
    __m256 half = _mm512_castps512_ps256((__m512)v) + _mm512_extractf32x8_ps((__m512)v, 1);
    return (fc_run_f)(_mm256_castps256_ps128(half) + _mm256_extractf128_ps(half, 1));
}
FC_INLINE fc_run_d fc_runs_d(vd v)
{
    __m256d half = _mm512_castpd512_pd256((__m512d)v) + _mm512_extractf64x4_pd((__m512d)v, 1);
    return (fc_run_d)(_mm256_castpd256_pd128(half) + _mm256_extractf128_pd(half, 1));
}
#elif FC_W == 8
#define FC_BOTH(M, T, R, a, b) ((M##_unpacklo_##T((R)(a), (R)(b))) + (M##_unpackhi_##T((R)(a), (R)(b))))
FC_INLINE vf fc_pairs_f(vf a, vf b) { return (vf)FC_BOTH(_mm256, ps, __m256, a, b); }
FC_INLINE vd fc_pairs_d(vd a, vd b) { return (vd)FC_BOTH(_mm256, pd, __m256d, a, b); }
FC_INLINE vf fc_halves_f(vf u, vf v)
{
    return (vf)_mm256_shuffle_ps((__m256)u, (__m256)v, 0x44) + (vf)_mm256_shuffle_ps((__m256)u, (__m256)v, 0xee);
}
FC_INLINE fc_run_f fc_runs_f(vf v)
{
    return (fc_run_f)(_mm256_castps256_ps128((__m256)v) + _mm256_extractf128_ps((__m256)v, 1));
}
FC_INLINE fc_run_d fc_runs_d(vd v)
{
    return (fc_run_d)(_mm256_castpd256_pd128((__m256d)v) + _mm256_extractf128_pd((__m256d)v, 1));
}
#else
FC_INLINE vf fc_pairs_f(vf a, vf b) { return FC_SHUFFLE(a, b, 0, 4, 1, 5) + FC_SHUFFLE(a, b, 2, 6, 3, 7); }
FC_INLINE vf fc_halves_f(vf u, vf v) { return FC_SHUFFLE(u, v, 0, 1, 4, 5) + FC_SHUFFLE(u, v, 2, 3, 6, 7); }
FC_INLINE fc_run_f fc_runs_f(vf v) { return v; }
FC_INLINE vd fc_pairs_d(vd a, vd b) { return (vd){a[0], b[0]} + (vd){a[1], b[1]}; }
FC_INLINE fc_run_d fc_runs_d(vd v) { return v; }
#endif

FC_INLINE void fc_sums_f(vf a, vf b, vf c, vf d, const void *bias, ptrdiff_t j, void *y, ptrdiff_t k, int n)
{
    fc_run_f more = {0}, sums = fc_runs_f(fc_halves_f(fc_pairs_f(a, b), fc_pairs_f(c, d)));
    if (bias) memcpy(&more, (const float *)bias + j, n * sizeof(float));
    sums += more;
    memcpy((float *)y + k, &sums, n * sizeof(float));
}
FC_INLINE void fc_sums_d(vd a, vd b, vd c, vd d, const void *bias, ptrdiff_t j, void *y, ptrdiff_t k, int n)
{
    fc_run_d more[2] = {{0}}, sums[2] = {fc_runs_d(fc_pairs_d(a, b)), fc_runs_d(fc_pairs_d(c, d))};
    if (bias) memcpy(more, (const double *)bias + j, n * sizeof(double));
    sums[0] += more[0];
    sums[1] += more[1];
    memcpy((double *)y + k, sums, n * sizeof(double));
}
#define fc_sums(a, b, c, d, bias, j, y, k, n) _Generic((a), vf: fc_sums_f, vd: fc_sums_d)(a, b, c, d, bias, j, y, k, n)

#endif
