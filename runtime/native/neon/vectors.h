/* NEON: vectors of LANES numbers. Every 64-bit Arm processor has it, so nothing is switched on; here the compiler may
 * make one instruction of a product and a sum anywhere. */
#ifndef P2_NEON_VECTORS_H
#define P2_NEON_VECTORS_H

#include "../inline.h"

#include <arm_neon.h>
#include <stdint.h>

#define LEVEL
#define END_LEVEL

#define LANES 4

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint8_t vb __attribute__((vector_size(4)));
typedef float vfu __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint8_t vbu __attribute__((vector_size(4), aligned(1), may_alias));

INLINE vf all(float x) {
    return x - (vf){0};
}

/* The second where one is no number, which FMIN would return. */
INLINE vf smaller(vf a, vf b) {
    return (vf)vbslq_f32(vcltq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}

INLINE vf larger(vf a, vf b) {
    return (vf)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}

/* The nearest integers, of two the even one. */
INLINE vi nearest(vf x) {
    return (vi)vcvtnq_s32_f32((float32x4_t)x);
}

/* a * b + c, rounded once. */
INLINE vf fused(vf a, vf b, vf c) {
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

/* a * b, rounded before anything is added to it: the compiler must not make one instruction of both. */
INLINE vf rounded_product(vf a, vf b) {
    vf product = a * b;
    __asm__("" : "+w"(product));
    return product;
}

INLINE float highest_of(vf x) {
    return vmaxvq_f32((float32x4_t)x);
}

INLINE int total_of(vi x) {
    return vaddvq_s32((int32x4_t)x);
}

#endif
