/* What levels ask of the compiler beside instructions. */
#ifndef P2_INLINE_H
#define P2_INLINE_H

#define INLINE static inline __attribute__((always_inline))

#define PRAGMA(words) _Pragma(#words)

/* A loop over registers: it must not remain one. */
#define EACH(i, count) _Pragma("GCC unroll 12") for (int i = 0; i < (count); i++)

/* As it stands in 32 bits: no sum and the product that it is become one instruction, which compilers make of both where
 * every processor has it. */
INLINE float rounded(float x) {
#if defined(__aarch64__)
    __asm__("" : "+w"(x));
#elif defined(__x86_64__)
    __asm__("" : "+x"(x));
#endif
    return x;
}

#endif
