/* Products with weights in 8 and 4 bits, with AVX-VNNI. */

#ifdef __x86_64__

#include "vnni.h"

#include "kernels.h"

const kernel_table avx2_vnni[3] = TABLES;

#endif
