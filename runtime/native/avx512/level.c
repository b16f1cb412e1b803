/* AVX-512 with VNNI, without AMX and with it, as levels. */

#ifdef __x86_64__

#include "../instructions.h"

#include "kernels.h"
#include "vectors.h"

#include "../lanes/cells.h"
#include "../lanes/noise.h"

#if defined TILES && defined __linux__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static int there(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

/* Linux saves tiles for programs only that have asked for them: then they are there. */
#if defined TILES && defined __linux__
enum { MAY_USE = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of asm/prctl.h, and the number of a part of the state */

static int tiles_there(void) {
    unsigned a, b, c, d, saved, high;
    if (!there() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || ~d & (1 << 24 | 1 << 25)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    return saved >> 17 & 1 && saved >> TILE_DATA & 1 && !syscall(SYS_arch_prctl, MAY_USE, TILE_DATA);
}
#else
#define avx512_tiles NULL
static int tiles_there(void) { return 0; }
#endif

A_LEVEL(amx, "amx", tiles_there, avx512, avx512_integers, .compact = avx512_compact, .widening = &avx512_widening,
        .open_panels = avx512_open_panels, .tiles = avx512_tiles)
A_LEVEL(avx512, "avx512", there, avx512, avx512_integers, .compact = avx512_compact, .widening = &avx512_widening,
        .open_panels = avx512_open_panels)

#endif
