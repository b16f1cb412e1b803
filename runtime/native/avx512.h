/* The instructions that kernels are compiled for; the rest is for any x86 processor of 64 bits, and there no product
 * and sum become one instruction. */
#ifndef P2_AVX512_H
#define P2_AVX512_H

#include <immintrin.h>

/* Around functions; p2_supported asks for the same. */
#define AVX512                         \
    _Pragma("GCC push_options")        \
    _Pragma("GCC target(\"avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,prefer-vector-width=512\")")
#define END_AVX512 _Pragma("GCC pop_options")

#define INLINE static inline __attribute__((always_inline))

/* A loop over registers: it must not remain one. */
#define EACH(i, count) _Pragma("GCC unroll 12") for (int i = 0; i < count; i++)

#endif
