/* What levels ask of the compiler beside instructions. */
#ifndef P2_INLINE_H
#define P2_INLINE_H

#define INLINE static inline __attribute__((always_inline))

/* A loop over registers: it must not remain one. */
#define EACH(i, count) _Pragma("GCC unroll 12") for (int i = 0; i < count; i++)

#endif
