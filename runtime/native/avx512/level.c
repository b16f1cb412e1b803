/* AVX-512 with VNNI, as a level. */

#ifdef __x86_64__

#include "../instructions.h"

#include "kernels.h"
#include "vectors.h"

#include "../lanes/cells.h"
#include "../lanes/noise.h"

static int there(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

A_LEVEL(avx512, "avx512", there, avx512, avx512_integers, .compact = avx512_compact, .widening = &avx512_widening,
        .open_panels = avx512_open_panels)

#endif
