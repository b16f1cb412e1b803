/* AVX2 with FMA and F16C: its instructions, and vectors of LANES numbers. The rest is for any processor, and there no
 * product and sum become one instruction. */
#ifndef P2_AVX2_VECTORS_H
#define P2_AVX2_VECTORS_H
#ifdef __x86_64__

#include "../inline.h"
#include "../types.h"

#include <immintrin.h>
#include <stdint.h>

/* Around functions; `there` of level.c asks for the same. Clang has no such options to push. */
#ifdef __clang__
#define LEVEL PRAGMA(clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function))
#define END_LEVEL _Pragma("clang attribute pop")
#else
#define LEVEL                          \
    _Pragma("GCC push_options")        \
    _Pragma("GCC target(\"avx2,fma,f16c\")")
#define END_LEVEL _Pragma("GCC pop_options")
#endif

LEVEL

#define LANES 8

typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
typedef uint8_t vb __attribute__((vector_size(8)));
typedef float vfu __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint8_t vbu __attribute__((vector_size(8), aligned(1), may_alias));

INLINE vf all(float x) {
    return x - (vf){0};
}

/* The second where one is no number. */
INLINE vf smaller(vf a, vf b) {
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
}

INLINE vf larger(vf a, vf b) {
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}

/* The nearest integers, of two the even one. */
INLINE vi nearest(vf x) {
    return (vi)_mm256_cvtps_epi32((__m256)x);
}

/* a * b + c, rounded once. */
INLINE vf fused(vf a, vf b, vf c) {
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

/* a * b, rounded before anything is added to it: the compiler must not make one instruction of both. */
INLINE vf rounded_product(vf a, vf b) {
    vf product = a * b;
    __asm__("" : "+x"(product));
    return product;
}

INLINE float highest_of(vf x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

INLINE int total_of(vi x) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/* The place of 8 sums, of which two columns are a vector's. */
INLINE float *eight_sums_at(const target *t, int panel, int row, int column) {
    return t->z + panel * t->panel + row * Z_ROW + t->slot[column / 2] * 16 + column % 2 * 8;
}

END_LEVEL

#endif
#endif
