/* NEON as three levels: with products of bytes as every such processor makes them, with DotProd, and with I8MM. The
 * instructions for bfloat16 would round the activations to it: another text. */
#ifdef __aarch64__

#include "../instructions.h"

#include "kernels.h"
#include "vectors.h"

#include "../lanes/cells.h"
#include "../lanes/noise.h"

#if defined(__linux__)
#include <sys/auxv.h>

/* Bits of the kernel's answer, which old headers do not name. */
static int has_dotprod(void) { return getauxval(AT_HWCAP) >> 20 & 1; }
static int has_i8mm(void) { return getauxval(AT_HWCAP2) >> 13 & 1; }
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static int has(const char *feature) {
    int answer = 0;
    size_t size = sizeof answer;
    return !sysctlbyname(feature, &answer, &size, NULL, 0) && answer;
}
static int has_dotprod(void) { return has("hw.optional.arm.FEAT_DotProd"); }
static int has_i8mm(void) { return has("hw.optional.arm.FEAT_I8MM"); }
#else
static int has_dotprod(void) { return 0; }
static int has_i8mm(void) { return 0; }
#endif

static int always(void) { return 1; }
static int dotprod_there(void) { return P2_DOTPROD && has_dotprod(); }
static int i8mm_there(void) { return P2_I8MM && has_dotprod() && has_i8mm(); }

A_LEVEL(neon, "neon", always, neon, neon_integers, .uneven = 0)
A_LEVEL(dotprod, "dotprod", dotprod_there, neon, P2_DOTPROD ? dotprod_integers : neon_integers, .uneven = 0)
A_LEVEL(i8mm, "i8mm", i8mm_there, neon, P2_I8MM ? i8mm_integers : neon_integers, .uneven = 0)

#endif
