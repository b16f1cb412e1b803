/* AVX2, without VNNI and with it, as levels. */

#ifdef __x86_64__

#include "../instructions.h"

#include "kernels.h"
#include "vectors.h"

#include "../lanes/cells.h"
#include "../lanes/noise.h"

#include <cpuid.h>

/* F16C and AVX-VNNI are asked for by number: some compilers do not know their names. */
static int there(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C);
}

static int vex_there(void) {
    unsigned a, b, c, d;
    return there() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 4);
}

static int evex_there(void) {
    return there() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

A_LEVEL(avxvnni, "avxvnni", vex_there, avx2, avx2_vnni, .uneven = 1)
A_LEVEL(avxvnni_of_avx512, "avxvnni", evex_there, avx2, avx2_vnni_evex, .uneven = 1)
A_LEVEL(avx2, "avx2", there, avx2, avx2_plain, .uneven = 1)

#endif
