/* Products with weights in 8 and 4 bits, with the VNNI of AVX-512 on half of its width: what AVX-VNNI makes of them, where there is none. */

#ifdef __x86_64__

#define ENCODING "%{evex%}"

#include "kernels.h"
#include "vnni.h"

const kernel_table avx2_vnni_evex[3] = TABLES;

#endif
