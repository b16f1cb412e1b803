/* What a state is where weights meet it, how it travels between blocks, and the functions of the cells. */
#ifndef P2_STATES_CUH
#define P2_STATES_CUH

#include "platform.cuh"
#include "types.cuh"

#define MANY (STREAMS > 8)

#if KIND == FLOAT32
typedef float exchanged;
#elif INTEGERS
typedef i8 exchanged;
#else
typedef u16 exchanged;
#endif

/* Numbers of the weights of the output layer; FLOAT8's are widened. */
#if KIND == FLOAT32 || KIND == FLOAT8
typedef float output_weight;
#elif INTEGERS
typedef i8 output_weight;
#else
typedef u16 output_weight;
#endif

#define SLOTS (STAGED ? 2 * LAYERS : LAYERS)

/* Steps of 1/127 with integer weights (contract/integers.py). */
DEVICE exchanged to_exchanged(float h) {
#if KIND == FLOAT32
    return h;
#elif INTEGERS
    const i32 steps = to_nearest(mul(h, 127.0f));
    return (i8)(steps < -128 ? -128 : steps > 127 ? 127 : steps);
#elif KIND == BRAIN
    return float_to_brain(h);
#else
    return float_to_half(h);
#endif
}

DEVICE float widened(exchanged h) {
#if KIND == BRAIN
    return brain_to_float(h);
#elif KIND == HALF || KIND == FLOAT8
    return half_to_float(h);
#else
    return (float)h;
#endif
}

#if KIND != FLOAT32 && !INTEGERS
/* As tensor cores multiply them. */
DEVICE void multiply_short(float c[4], const u32 a[4], const u32 b[2]) {
#if KIND == BRAIN
    multiply_brain(c, a, b);
#else
    multiply_half(c, a, b);
#endif
}
#endif

DEVICE float widened_weight(output_weight w) {
#if KIND == BRAIN
    return brain_to_float(w);
#elif KIND == HALF
    return half_to_float(w);
#else
    return (float)w;
#endif
}

/* One term of a logit as an integer: sums of these do not depend on the order, so neither on the blocks and the texts
 * that they are shared among. */
DEVICE i64 term(const Job &j, output_weight w, exchanged h) {
#if INTEGERS
    return (i64)((i32)w * (i32)h);
#else
    return to_fixed(mul(mul(widened_weight(w), widened(h)), j.fixed));
#endif
}

DEVICE float logit(const Job &j, i64 sum, int v) {
#if INTEGERS
    return add(mul((float)(i32)sum, j.out_scale[v]), j.out_bias[v]);
#else
    return add((float)((double)sum * j.unfixed), j.out_bias[v]);
#endif
}

/* tanh of models with integer weights, to the last bit as contract/integers.py has it. */
DEVICE float defined_tanh(float x) {
    x = x < -5.25f ? -5.25f : x > 5.25f ? 5.25f : x;
    const float s = mul(x, x);
    const float above = add(mul(add(mul(s, 0.0509145f), 8.1414f), s), 80.689f);
    const float below = add(mul(add(s, 34.9885f), s), 80.709f);
    return divide(mul(x, above), below);
}

DEVICE float magnitude(float x) { return from_bits(bits(x) & 0x7fffffffu); }

/* With integer weights the argument comes halved. */
DEVICE float gate(float x) {
#if INTEGERS
    return add(mul(defined_tanh(x), 0.5f), 0.5f);
#else
    const float e = exp32(-magnitude(x)); /* cannot overflow */
    return (x < 0 ? e : 1.0f) / (1.0f + e);
#endif
}

DEVICE float tangent(float x) {
#if INTEGERS
    return defined_tanh(x);
#else
    const float size = magnitude(x), e = exp32(-2.0f * size), s = x * x;
    const float far = (1.0f - e) / (1.0f + e);
    /* Near zero that cancels: Taylor's series. */
    const float series = ((62.0f / 2835 * s - 17.0f / 315) * s + 2.0f / 15) * s - 1.0f / 3;
    const float near = size + size * s * series;
    return from_bits(bits(size < 0.2f ? near : far) | (bits(x) & 0x80000000u));
#endif
}

/* a + b c */
DEVICE float plus_product(float a, float b, float c) {
#if INTEGERS
    return add(a, mul(b, c));
#else
    return fused(b, c, a);
#endif
}

#endif
