/* Numbers of 16 bits and conversions, rounded to nearest, ties to even. */
#ifndef P2_NUMBERS_H
#define P2_NUMBERS_H

#include <math.h>
#include <string.h>

#include "fibres.h"

#ifdef P2_RACES /* as on a GPU, so that a line of a kernel is known for all that it does */
#define DEVICE inline __attribute__((always_inline))
#else
#define DEVICE inline
#endif

DEVICE u32 bits(float value) {
    u32 made;
    memcpy(&made, &value, 4);
    return made;
}
DEVICE float from_bits(u32 value) {
    float made;
    memcpy(&made, &value, 4);
    return made;
}

DEVICE float half_to_float(u16 half) {
    const u32 sign = (u32)(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | rest << 13);
    if (rest >= 0x0400) return from_bits(sign | ((rest << 13) + (112u << 23)));
    return from_bits(sign | bits((float)rest * 0x1p-24f));
}
DEVICE u16 float_to_half(float value) {
    const u32 sign = bits(value) >> 16 & 0x8000, rest = bits(value) & 0x7fffffff;
    if (rest > 0x7f800000) return 0x7fff; /* as the GPU writes NaN */
    if (rest >= 0x477ff000) return (u16)(sign | 0x7c00); /* 65,520 and above */
    if (rest < 0x38800000) return (u16)(sign | (u32)lrintf(from_bits(rest) * 0x1p24f));
    return (u16)(sign | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
}
DEVICE float brain_to_float(u16 brain) { return from_bits((u32)brain << 16); }
DEVICE u16 float_to_brain(float value) { /* of finite numbers and infinities */
    return (u16)((bits(value) + 0x7fff + (bits(value) >> 16 & 1)) >> 16);
}

/* NaN: as __float2ll_rn and __float2int_rn have it. */
DEVICE i64 to_fixed(float x) {
    const i64 least = -0x7fffffffffffffffll - 1;
    if (x >= 0x1p63f) return 0x7fffffffffffffffll;
    return x >= -0x1p63f ? llrintf(x) : least;
}
DEVICE i32 to_nearest(float x) {
    if (x != x) return 0;
    return x >= 0x1p31f ? 0x7fffffff : x < -0x1p31f ? -0x7fffffff - 1 : (i32)lrintf(x);
}

#endif
