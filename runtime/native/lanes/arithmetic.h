/* The functions of the cells, on the vectors of the level that includes this: its vectors.h comes before. */
#ifndef P2_LANES_ARITHMETIC_H
#define P2_LANES_ARITHMETIC_H

LEVEL

INLINE vf pick(vi where, vf a, vf b) {
    return (vf)(((vi)a & where) | ((vi)b & ~where));
}

/* e**x for x <= 0, within 2 units in the last place. Powers of two apart, the rest is Taylor's series: for
 * |r| <= ln(2)/2 its eighth term is below 2**-27. */
INLINE vf exponential(vf x) {
    const vf rounder = all(12582912.0f); /* 1.5 * 2**23: adding it leaves an integer in the low bits */
    x = pick(x < all(-87.0f), all(-87.0f), x);
    vf shifted = x * all(1.44269504f) + rounder;
    vf n = shifted - rounder;
    vf r = x - n * all(0.693145752f); /* ln(2) in two parts: the first has zeros at its end */
    r = r - n * all(1.42860677e-6f);
    vf sum = all(1.0f / 5040.0f);
    sum = sum * r + all(1.0f / 720.0f);
    sum = sum * r + all(1.0f / 120.0f);
    sum = sum * r + all(1.0f / 24.0f);
    sum = sum * r + all(1.0f / 6.0f);
    sum = sum * r + all(0.5f);
    sum = sum * r + all(1.0f);
    sum = sum * r + all(1.0f);
    vi power = ((vi)shifted << 23) + (vi)all(1.0f);
    return sum * (vf)power;
}

INLINE vf magnitude(vf x) {
    return (vf)((vi)x & 0x7fffffff);
}

/* 1 / (1 + e**-x), from e**-|x|, which cannot overflow. */
INLINE vf sigmoid(vf x) {
    vf e = exponential(-magnitude(x));
    vf one = all(1.0f);
    return pick(x < all(0.0f), e, one) / (one + e);
}

/* (1 - e**-2|x|) / (1 + e**-2|x|) with the sign of x; near zero, where that would cancel, Taylor's series. */
INLINE vf hyperbolic_tangent(vf x) {
    vf size = magnitude(x), one = all(1.0f);
    vf e = exponential(size * all(-2.0f));
    vf far = (one - e) / (one + e);
    vf s = x * x;
    vf near = all(62.0f / 2835.0f);
    near = near * s + all(-17.0f / 315.0f);
    near = near * s + all(2.0f / 15.0f);
    near = near * s + all(-1.0f / 3.0f);
    near = size + size * s * near;
    vf result = pick(size < all(0.2f), near, far);
    return (vf)((vi)result | ((vi)x & (int)0x80000000));
}

/* The functions of int8 and int4 models, to the last bit as contract/integers.py defines them. */
INLINE vf defined_tanh(vf x) {
    const vf limit = all(5.25f);
    x = smaller(larger(x, -limit), limit);
    const vf s = rounded_product(x, x);
    vf above = rounded_product(s, all(0.0509145f)) + all(8.1414f);
    above = rounded_product(above, s) + all(80.689f);
    const vf below = rounded_product(s + all(34.9885f), s) + all(80.709f);
    return x * above / below;
}

/* What a cell asks for. With `defined` the argument of a sigmoid comes halved; its product with 1/2 is exact. */
INLINE vf gate(const int defined, vf x) {
    return defined ? defined_tanh(x) * all(0.5f) + all(0.5f) : sigmoid(x);
}

INLINE vf tangent(const int defined, vf x) {
    return defined ? defined_tanh(x) : hyperbolic_tangent(x);
}

INLINE vf plus_product(const int defined, vf a, vf b, vf c) {
    return defined ? a + rounded_product(b, c) : a + b * c;
}

END_LEVEL

#endif
