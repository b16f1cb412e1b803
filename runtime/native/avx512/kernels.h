/* AVX-512's kernels: for `instructions`. */
#ifndef P2_AVX512_KERNELS_H
#define P2_AVX512_KERNELS_H

#include "../types.h"

/* Whether the compiler knows AMX: GCC's header of it, and Clang's. */
#ifdef __has_include
#if __has_include(<amxint8intrin.h>) || __has_include(<amxintrin.h>)
#define TILES
#endif
#endif

#pragma GCC visibility push(hidden)
extern const kernel_table avx512_floats[3], avx512_integers[3], avx512_compact[2], avx512_widening;
void avx512_open_panels(const product *m, range panels, float *opened);
void avx512_tiles(const product *m, value a, int rows, range panels, target to);
#pragma GCC visibility pop

#endif
