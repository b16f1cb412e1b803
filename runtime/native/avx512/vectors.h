/* AVX-512: its instructions, and vectors of LANES numbers. The rest is for any processor, and there no product and sum
 * become one instruction. */
#ifndef P2_AVX512_VECTORS_H
#define P2_AVX512_VECTORS_H
#ifdef __x86_64__

#include "../inline.h"

#include <immintrin.h>
#include <stdint.h>

/* Around functions; `there` of level.c asks for the same. Clang has no such options to push. */
#ifdef __clang__
#define LEVEL                                                                                              \
    PRAGMA(clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma"))), \
           apply_to = function))
#define END_LEVEL _Pragma("clang attribute pop")
#else
#define LEVEL                          \
    _Pragma("GCC push_options")        \
    _Pragma("GCC target(\"avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,prefer-vector-width=512\")")
#define END_LEVEL _Pragma("GCC pop_options")
#endif

LEVEL

#define LANES 16

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
typedef uint8_t vb __attribute__((vector_size(16)));
typedef float vfu __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint8_t vbu __attribute__((vector_size(16), aligned(1), may_alias));

INLINE vf all(float x) {
    return x - (vf){0};
}

/* The second where one is no number. */
INLINE vf smaller(vf a, vf b) {
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}

INLINE vf larger(vf a, vf b) {
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}

/* The nearest integers, of two the even one. */
INLINE vi nearest(vf x) {
    return (vi)_mm512_cvtps_epi32((__m512)x);
}

/* a * b + c, rounded once. */
INLINE vf fused(vf a, vf b, vf c) {
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

/* a * b, rounded before anything is added to it: the compiler must not make one instruction of both. */
INLINE vf rounded_product(vf a, vf b) {
    vf product = a * b;
    __asm__("" : "+v"(product));
    return product;
}

INLINE float highest_of(vf x) {
    return _mm512_reduce_max_ps((__m512)x);
}

INLINE int total_of(vi x) {
    return _mm512_reduce_add_epi32((__m512i)x);
}

END_LEVEL

#endif
#endif
