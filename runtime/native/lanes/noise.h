/* Noise nearly, and which characters can win with it: see noise.h and `contest`. A level's source includes this once. */
#ifndef P2_LANES_NOISE_H
#define P2_LANES_NOISE_H

#include "../noise.h"
#include "arithmetic.h"

#include <math.h>

LEVEL

/* log(1 + x) + exponent * log(2), for -1/2 <= x <= 1/2: twice the area tangent of x / (2 + x), by its series. */
INLINE vf logarithm(vf x, vf exponent) {
    const vf s = x / (x + all(2)), square = s * s;
    vf sum = all(2.0f / 15);
#define TERM(over) sum = fused(sum, square, all(2.0f / over))
    TERM(13), TERM(11), TERM(9), TERM(7), TERM(5), TERM(3);
#undef TERM
    sum = fused(rounded_product(sum, square), s, s + s);
    return fused(exponent, all(0.693147181f), sum);
}

/* The exponent that makes the rest lie in [3/4, 3/2), and the rest less 1; of a positive number. */
INLINE void take_apart(vf x, vf *rest, vf *exponent) {
    const vi power = ((vi)x - (vi)all(0.75f)) >> 23;
    *rest = (vf)((vi)x - (power << 23)) - all(1);
    *exponent = __builtin_convertvector(power, vf);
}

/* -log(-log((word + 1/2) / 2**32)), but for NOISE_ERROR. Above a half the distance to 1 is what is exact. */
INLINE vf nearly_gumbel(vi word) {
    const vi high = word < 0, nearer = word ^ high; /* of 31 bits */
    const vf distance = (__builtin_convertvector(nearer, vf) + all(0.5f)) * all(0x1p-32f);
    vf rest, exponent;
    take_apart(distance, &rest, &exponent);
    rest = pick(high, all(0) - distance, rest);
    exponent = pick(high, all(0), exponent);
    take_apart(all(0) - logarithm(rest, exponent), &rest, &exponent);
    return all(0) - logarithm(rest, exponent);
}

static void approximate(const uint32_t *words, int count, float *noise) {
    for (int v = 0; v < count; v += LANES) *(vfu *)(noise + v) = nearly_gumbel((vi) * (const vfu *)(words + v));
}

static int score(const float *logits, const float *noise, contest *c) {
    const vf none = all(-INFINITY);
    vf highest = none;
    vi number, near = {0}, places = {0};
    for (int i = 0; i < LANES; i++) number[i] = i;
    for (int v = 0; v < c->vocab; v += LANES) {
        const vf l = *(const vfu *)(logits + v);
        const vi kept = (number + v < c->vocab) & (l >= all(c->least));
        const vf found = pick(kept, fused(*(const vfu *)(noise + v), all(c->temperature), l), none);
        *(vfu *)(c->scores + v) = found;
        highest = larger(found, highest);
    }
    const float top = highest_of(highest);
    c->bound = top - 2 * (c->temperature * NOISE_ERROR + fabsf(top) * 0x1p-22f);
    for (int v = 0; v < c->vocab; v += LANES) {
        const vi reaches = ~(*(const vfu *)(c->scores + v) < all(c->bound));
        near -= reaches;
        places += (number + v) & reaches;
    }
    c->winner = total_of(places);
    return total_of(near);
}

END_LEVEL

#endif
