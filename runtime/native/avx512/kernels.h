/* AVX-512's kernels: for `instructions`. */
#ifndef P2_AVX512_KERNELS_H
#define P2_AVX512_KERNELS_H

#include "../types.h"

#pragma GCC visibility push(hidden)
extern const kernel_table avx512_floats[3], avx512_integers[3], avx512_compact[2], avx512_widening;
void avx512_open_panels(const product *m, range panels, float *opened);
#pragma GCC visibility pop

#endif
