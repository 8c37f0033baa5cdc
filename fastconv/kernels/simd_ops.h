/* The vocabulary that every kind of vector shares, written once for vf, vd and vp.
 *
 * The functions are f_max, d_max and p_max; fc_max(a, b) is the one that fits a. simd.pxd makes of them what
 * Cython's fused types choose between. Where vp is the same type as vf (FC_P == FC_W) it has no functions of its own.
 *
 *   fill(like, c)          c in every lane               where_lt(a, b, x, y)   a < b ? x : y   (y for NaN)
 *   get(x, k), put(y, k)   elements k and on             where_nan(a, x, y)     a is NaN ? x : y
 *   get_else, put_n        only the first n of them      nanmax(a, b)           a NaN on either side wins
 *   round(x)               to the nearest even           scale2(x, n)           x * 2^n, n whole
 *   power2(n)              2^n, a normal number; one below their range 0, one above it infinite
 *   sum, top               of the lanes, in one order    copysign(x, s), absolute(x), sqrt(x)
 *   fraction(x)            in [1, 2), of a normal x > 0  exponent(x)            x = fraction(x) * 2^exponent(x)
 *   erf_of(x), log_of(x)   the C library's, lane by lane: for double; pow_of(x, a) and fmod_of(x, z) as well
 *   sin_far(x, near, d)    `near` where |x| < d, else the C library's; cos_far as well
 *
 * max(a, b) and min(a, b) give b when either is NaN (x86's rule, kept everywhere): max(limit, x) lets a NaN in x
 * through. fma is spelled, not left to -ffp-contract, so that every tile of every height rounds alike: the bits of
 * an output must not depend on which tile computed it. x86-64-v2 has no FMA and rounds twice, everywhere.
 */
#ifndef FASTCONV_SIMD_OPS_H
#define FASTCONV_SIMD_OPS_H

/* What needs no intrinsics. P: the functions' prefix, V: the vector, S and I: its element and the integer as wide,
 * W: its lanes. MANTISSA, BIAS: of the floating-point format. */
#define FC_OPS(P, V, S, I, W, MANTISSA, BIAS) \
typedef S P##_unaligned __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias)); \
typedef I P##_int __attribute__((vector_size(W * sizeof(S)))); \
FC_INLINE V P##_fill(V like, double c) { (void)like; return (S)c - (V){0}; } \
FC_INLINE V P##_get(const V *x, ptrdiff_t k) { return *(const P##_unaligned *)((const S *)x + k); } \
FC_INLINE void P##_put(V *y, ptrdiff_t k, V v) { *(P##_unaligned *)((S *)y + k) = v; } \
FC_INLINE V P##_bits(P##_int mask, V a, V b) { return (V)(((P##_int)a & mask) | ((P##_int)b & ~mask)); } \
FC_INLINE P##_int P##_sign(void) { return (P##_int)(-(V){0}); } \
FC_INLINE V P##_absolute(V x) { return (V)((P##_int)x & ~P##_sign()); } \
FC_INLINE V P##_copysign(V x, V s) { return P##_bits(P##_sign(), s, x); } \
FC_INLINE V P##_fraction(V x) \
{ \
    I field = ((I)1 << MANTISSA) - 1; \
    return (V)(((P##_int)x & field) | ((I)BIAS << MANTISSA)); \
} \
FC_INLINE V P##_exponent(V x) { return __builtin_convertvector(((P##_int)x >> MANTISSA) - (I)BIAS, V); } \
FC_INLINE V P##_erf_of(V x) { int i; for (i = 0; i < W; i++) x[i] = (S)erf(x[i]); return x; } \
FC_INLINE V P##_log_of(V x) { int i; for (i = 0; i < W; i++) x[i] = (S)log(x[i]); return x; } \
FC_INLINE V P##_pow_of(V x, V a) { int i; for (i = 0; i < W; i++) x[i] = (S)pow(x[i], a[i]); return x; } \
FC_INLINE V P##_sin_far(V x, V near, double d) \
{ \
    int i; \
    for (i = 0; i < W; i++) if (!(x[i] < d && x[i] > -d)) near[i] = (S)sin(x[i]); \
    return near; \
} \
FC_INLINE V P##_cos_far(V x, V near, double d) \
{ \
    int i; \
    for (i = 0; i < W; i++) if (!(x[i] < d && x[i] > -d)) near[i] = (S)cos(x[i]); \
    return near; \
} \
/* 2^h for a whole h: adding 1.5 * 2^MANTISSA puts it into the lowest bits, which become the exponent */ \
FC_INLINE V P##_power2(V h) \
{ \
    P##_int bits = (P##_int)(h + (S)(1.5 * (double)((int64_t)1 << MANTISSA))); \
    return (V)((bits << MANTISSA) + ((I)BIAS << MANTISSA)); \
}

/* The lanes of v, turned by half of them, by a quarter ... Clang has no __builtin_shuffle, GCC 11 no other. */
#if defined(__clang__) || __GNUC__ >= 12
#define FC_TURN(P, v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define FC_TURN(P, v, ...) __builtin_shuffle(v, (P##_int){__VA_ARGS__})
#endif
#define FC_TURNS_2(P, v, JOIN) v = JOIN(v, FC_TURN(P, v, 1, 0));
#define FC_TURNS_4(P, v, JOIN) v = JOIN(v, FC_TURN(P, v, 2, 3, 0, 1)); v = JOIN(v, FC_TURN(P, v, 1, 0, 3, 2));
#define FC_TURNS_8(P, v, JOIN) \
    v = JOIN(v, FC_TURN(P, v, 4, 5, 6, 7, 0, 1, 2, 3)); \
    v = JOIN(v, FC_TURN(P, v, 2, 3, 0, 1, 6, 7, 4, 5)); \
    v = JOIN(v, FC_TURN(P, v, 1, 0, 3, 2, 5, 4, 7, 6));
#define FC_TURNS_16(P, v, JOIN) \
    v = JOIN(v, FC_TURN(P, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)); \
    v = JOIN(v, FC_TURN(P, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)); \
    v = JOIN(v, FC_TURN(P, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)); \
    v = JOIN(v, FC_TURN(P, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
#define FC_PLUS(a, b) ((a) + (b))

/* Halves, quarters and so on are joined: one order for every vector. */
#define FC_REDUCE(P, V, S, W) \
FC_INLINE S P##_sum(V v) { FC_TURNS_##W(P, v, FC_PLUS) return v[0]; } \
FC_INLINE S P##_top(V v) { FC_TURNS_##W(P, v, P##_nanmax) return v[0]; }

/* Loads and stores of part of a vector, an element at a time: what has no masks. */
#define FC_PARTS(P, V, S, W) \
FC_INLINE V P##_get_else(const V *x, ptrdiff_t k, int n, V other) \
{ \
    int i; \
    for (i = 0; i < W; i++) if (i < n) other[i] = ((const S *)x)[k + i]; \
    return other; \
}
/* In whole and half vectors: AVX2's masked store is microcoded on AMD. */
#define FC_STORE_PARTS(P, V, S, W) \
FC_INLINE void P##_put_n(V *y, ptrdiff_t k, V v, int n) \
{ \
    char *q = (char *)((S *)y + k); \
    const char *lane = (const char *)&v; \
    if (W > 8 && n & 8) { memcpy(q, lane, 8 * sizeof(S)); q += 8 * sizeof(S); lane += 8 * sizeof(S); } \
    if (W > 4 && n & 4) { memcpy(q, lane, 4 * sizeof(S)); q += 4 * sizeof(S); lane += 4 * sizeof(S); } \
    if (W > 2 && n & 2) { memcpy(q, lane, 2 * sizeof(S)); q += 2 * sizeof(S); lane += 2 * sizeof(S); } \
    if (n & 1) memcpy(q, lane, sizeof(S)); \
}

/* Powers of two beyond the exponents' range, in two factors that are within it. */
#define FC_SCALE(P, V) \
FC_INLINE V P##_scale2(V x, V n) \
{ \
    V half = P##_round(n * (P##_fill(n, 0.5))); \
    return x * P##_power2(half) * P##_power2(n - half); \
}

/* A mask in a vector of integers, blended by the sign of each lane or by bits. */
#define FC_COMPARE(P, V, BLEND) \
FC_INLINE V P##_where_lt(V a, V b, V x, V y) { return BLEND((P##_int)(a < b), x, y); } \
FC_INLINE V P##_where_nan(V a, V x, V y) { return BLEND((P##_int)(a != a), x, y); } \
FC_INLINE V P##_nanmax(V a, V b) { return P##_where_nan(a, a, P##_max(a, b)); } \
FC_INLINE V P##_leaky(V x, V slope) { return P##_where_lt((V){0}, x, x, x * slope); }

/* 8 floats or 4 doubles, and with SSE 4 and 2. M: the intrinsics' prefix, T: their suffix, R: their type. */
#define FC_X86(P, V, M, T, R) \
FC_INLINE V P##_max(V a, V b) { return (V)M##_max_##T((R)a, (R)b); } \
FC_INLINE V P##_min(V a, V b) { return (V)M##_min_##T((R)a, (R)b); } \
FC_INLINE V P##_round(V x) { return (V)M##_round_##T((R)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); } \
FC_INLINE V P##_sqrt(V x) { return (V)M##_sqrt_##T((R)x); } \
FC_INLINE V P##_blend(P##_int mask, V x, V y) { return (V)M##_blendv_##T((R)y, (R)x, (R)mask); } \
FC_COMPARE(P, V, P##_blend) \
FC_SCALE(P, V)

#define FC_AVX2_PART(P, V, S, I, W, T) \
FC_INLINE V P##_get_else(const V *x, ptrdiff_t k, int n, V other) \
{ \
    static const I ones[2 * W] = FC_ONES_##W; \
    __m256i mask = _mm256_loadu_si256((const __m256i *)(ones + W - n)); \
    return P##_blend((P##_int)mask, (V)_mm256_maskload_##T((const void *)((const S *)x + k), mask), other); \
}
#define FC_ONES_8 {-1, -1, -1, -1, -1, -1, -1, -1}
#define FC_ONES_4 {-1, -1, -1, -1}

#define FC_AVX512(P, V, S, T, R, MASK) \
FC_INLINE V P##_max(V a, V b) { return (V)_mm512_max_##T((R)a, (R)b); } \
FC_INLINE V P##_min(V a, V b) { return (V)_mm512_min_##T((R)a, (R)b); } \
FC_INLINE V P##_fma(V a, V b, V c) { return (V)_mm512_fmadd_##T((R)a, (R)b, (R)c); } \
FC_INLINE V P##_round(V x) { return (V)_mm512_roundscale_##T((R)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); } \
FC_INLINE V P##_sqrt(V x) { return (V)_mm512_sqrt_##T((R)x); } \
FC_INLINE V P##_scale2(V x, V n) { return (V)_mm512_scalef_##T((R)x, (R)n); } \
FC_INLINE V P##_where_lt(V a, V b, V x, V y) \
{ \
    return (V)_mm512_mask_blend_##T(_mm512_cmp_##T##_mask((R)a, (R)b, _CMP_LT_OQ), (R)y, (R)x); \
} \
FC_INLINE V P##_where_nan(V a, V x, V y) \
{ \
    return (V)_mm512_mask_blend_##T(_mm512_cmp_##T##_mask((R)a, (R)a, _CMP_UNORD_Q), (R)y, (R)x); \
} \
FC_INLINE V P##_nanmax(V a, V b) { return P##_where_nan(a, a, P##_max(a, b)); } \
FC_INLINE V P##_leaky(V x, V slope) { return P##_where_lt((V){0}, x, x, x * slope); } \
FC_INLINE V P##_get_else(const V *x, ptrdiff_t k, int n, V other) \
{ \
    return (V)_mm512_mask_loadu_##T((R)other, (MASK)((1u << n) - 1), (const S *)x + k); \
} \
FC_INLINE void P##_put_n(V *y, ptrdiff_t k, V v, int n) \
{ \
    _mm512_mask_storeu_##T((S *)y + k, (MASK)((1u << n) - 1), (R)v); \
}

/* Everywhere else, in the compiler's own vectors. */
#define FC_GENERIC(P, V, S, MANTISSA) \
FC_INLINE V P##_max(V a, V b) { return P##_bits((P##_int)(a > b), a, b); } \
FC_INLINE V P##_min(V a, V b) { return P##_bits((P##_int)(a < b), a, b); } \
/* what numbers from 2^MANTISSA on lack of a fraction, adding that takes from the smaller ones */ \
FC_INLINE V P##_round(V x) \
{ \
    V big = P##_fill(x, (double)((int64_t)1 << MANTISSA)), size = P##_absolute(x); \
    return P##_bits((P##_int)(size < big), P##_copysign((size + big) - big, x), x); \
} \
FC_INLINE V P##_sqrt(V x) { unsigned i; for (i = 0; i < sizeof(V) / sizeof(S); i++) x[i] = (S)sqrt(x[i]); return x; } \
FC_COMPARE(P, V, P##_bits) \
FC_SCALE(P, V)

#define FC_TWO_ROUNDINGS(P, V) FC_INLINE V P##_fma(V a, V b, V c) { return a * b + c; }
#define FC_AVX2_FMA(P, V, T, R) FC_INLINE V P##_fma(V a, V b, V c) { return (V)_mm256_fmadd_##T((R)a, (R)b, (R)c); }

typedef double vd __attribute__((vector_size(4 * FC_W)));
#define FC_D (FC_W / 2)                 /* lanes of vd */

/* The remainder of a division. Below `far`, the quotient's rounding puts its whole part off by one at most, and what
 * an FMA leaves is exact; other lanes, and all where an FMA rounds twice, are the C library's. */
#define FC_FMOD(P, V, S, W) \
FC_INLINE V P##_fmod_of(V x, V z) \
{ \
    V a = P##_absolute(x), b = P##_absolute(z), q = a / b, t = P##_round(q), zero = (V){0}; \
    S far = FC_W == 4 ? 0 : sizeof(S) == 4 ? (S)0x1p22 : (S)0x1p51; \
    int i; \
    t = P##_where_lt(q, t, t - P##_fill(x, 1), t); \
    t = P##_fma(-t, b, a); \
    t = P##_where_lt(t, zero, t + b, t); \
    t = P##_copysign(P##_where_lt(a, b, a, t), x); \
    for (i = 0; i < W; i++) if (!(q[i] < far)) t[i] = (S)fmod(x[i], z[i]); \
    return t; \
}

FC_OPS(f, vf, float, int32_t, FC_W, 23, 127)
FC_OPS(d, vd, double, int64_t, FC_D, 52, 1023)
#if FC_W == 16
FC_AVX512(f, vf, float, ps, __m512, __mmask16)
FC_AVX512(d, vd, double, pd, __m512d, __mmask8)
#elif FC_W == 8
FC_X86(f, vf, _mm256, ps, __m256)
FC_X86(d, vd, _mm256, pd, __m256d)
FC_AVX2_FMA(f, vf, ps, __m256)
FC_AVX2_FMA(d, vd, pd, __m256d)
FC_AVX2_PART(f, vf, float, int32_t, 8, ps)
FC_AVX2_PART(d, vd, double, int64_t, 4, pd)
FC_STORE_PARTS(f, vf, float, 8)
FC_STORE_PARTS(d, vd, double, 4)
#else
#if defined(__SSE4_1__)
FC_X86(f, vf, _mm, ps, __m128)
FC_X86(d, vd, _mm, pd, __m128d)
#else
FC_GENERIC(f, vf, float, 23)
FC_GENERIC(d, vd, double, 52)
#endif
FC_TWO_ROUNDINGS(f, vf)
FC_TWO_ROUNDINGS(d, vd)
FC_PARTS(f, vf, float, FC_W)
FC_PARTS(d, vd, double, FC_D)
FC_STORE_PARTS(f, vf, float, FC_W)
FC_STORE_PARTS(d, vd, double, FC_D)
#endif

#if FC_P != FC_W                        /* 8 floats beside vectors of 16 */
FC_OPS(p, vp, float, int32_t, FC_P, 23, 127)
FC_X86(p, vp, _mm256, ps, __m256)
FC_AVX2_FMA(p, vp, ps, __m256)
FC_AVX2_PART(p, vp, float, int32_t, 8, ps)
FC_STORE_PARTS(p, vp, float, 8)
#define FC_FITTING(op, a) _Generic((a), vf: f_##op, vd: d_##op, vp: p_##op)
#else
#define FC_FITTING(op, a) _Generic((a), vf: f_##op, vd: d_##op)
#endif

FC_FMOD(f, vf, float, FC_W)
FC_FMOD(d, vd, double, FC_D)
#if FC_P != FC_W
FC_FMOD(p, vp, float, FC_P)
#endif

#if FC_W == 16
FC_REDUCE(f, vf, float, 16)
FC_REDUCE(d, vd, double, 8)
#elif FC_W == 8
FC_REDUCE(f, vf, float, 8)
FC_REDUCE(d, vd, double, 4)
#else
FC_REDUCE(f, vf, float, 4)
FC_REDUCE(d, vd, double, 2)
#endif

#define fc_lanes(x) ((int)(sizeof(*(x)) / sizeof((*(x))[0])))
#define fc_all(x, c) FC_FITTING(fill, *(x))((__typeof__(+*(x))){0}, c)
#define fc_fill(like, c) FC_FITTING(fill, like)(like, c)
#define fc_get(x, k) FC_FITTING(get, *(x))(x, k)
#define fc_put(y, k, v) FC_FITTING(put, v)(y, k, v)
#define fc_get_else(x, k, n, other) FC_FITTING(get_else, other)(x, k, n, other)
#define fc_put_n(y, k, v, n) FC_FITTING(put_n, v)(y, k, v, n)
#define fc_fma(a, b, c) FC_FITTING(fma, a)(a, b, c)
#define fc_max(a, b) FC_FITTING(max, a)(a, b)
#define fc_min(a, b) FC_FITTING(min, a)(a, b)
#define fc_nanmax(a, b) FC_FITTING(nanmax, a)(a, b)
#define fc_where_lt(a, b, x, y) FC_FITTING(where_lt, a)(a, b, x, y)
#define fc_where_nan(a, x, y) FC_FITTING(where_nan, a)(a, x, y)
#define fc_absolute(x) FC_FITTING(absolute, x)(x)
#define fc_copysign(x, s) FC_FITTING(copysign, x)(x, s)
#define fc_sqrt(x) FC_FITTING(sqrt, x)(x)
#define fc_fraction(x) FC_FITTING(fraction, x)(x)
#define fc_exponent(x) FC_FITTING(exponent, x)(x)
#define fc_erf_of(x) FC_FITTING(erf_of, x)(x)
#define fc_log_of(x) FC_FITTING(log_of, x)(x)
#define fc_pow_of(x, a) FC_FITTING(pow_of, x)(x, a)
#define fc_fmod_of(x, z) FC_FITTING(fmod_of, x)(x, z)
#define fc_sin_far(x, near, d) FC_FITTING(sin_far, x)(x, near, d)
#define fc_cos_far(x, near, d) FC_FITTING(cos_far, x)(x, near, d)
#define fc_round(x) FC_FITTING(round, x)(x)
#define fc_scale2(x, n) FC_FITTING(scale2, x)(x, n)
#define fc_power2(n) FC_FITTING(power2, n)(n)
#define fc_leaky(x, slope) FC_FITTING(leaky, x)(x, slope)
#define fc_sum(v) _Generic((v), vf: f_sum, vd: d_sum)(v)
#define fc_top(v) _Generic((v), vf: f_top, vd: d_top)(v)

#endif
