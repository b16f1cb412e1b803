/* AVX2's kernels: for `instructions`. */
#ifndef P2_AVX2_KERNELS_H
#define P2_AVX2_KERNELS_H

#include "../types.h"

#pragma GCC visibility push(hidden)
extern const kernel_table avx2_floats[3], avx2_plain[3], avx2_vnni[3], avx2_vnni_evex[3];
#pragma GCC visibility pop

#endif
