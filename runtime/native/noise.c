/* Noise by address, nearly: see noise.h. */

#include "noise.h"

#include "avx512.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 8, ROUNDS = 10 }; /* 32-bit words of a block of Philox-4x64 */

AVX512

typedef unsigned __int128 wide;

/* Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11. */
static inline void philox(wide counter, uint64_t seed, uint64_t stream, uint32_t *words) {
    uint64_t a = (uint64_t)counter, b = (uint64_t)(counter >> 64), c = 0, d = 0;
#pragma GCC unroll 10
    for (int round = 0; round < ROUNDS; round++) {
        const wide first = (wide)0xD2E7470EE14C6C93u * a, second = (wide)0xCA5A826395121157u * c;
        a = (uint64_t)(second >> 64) ^ b ^ (seed + round * 0x9E3779B97F4A7C15u);
        c = (uint64_t)(first >> 64) ^ d ^ (stream + round * 0xBB67AE8584CAA73Bu);
        b = (uint64_t)second;
        d = (uint64_t)first;
    }
    memcpy(words, (const uint64_t[4]){a, b, c, d}, BLOCK * sizeof *words);
}

/* The words of one position, `vocab` of them up to a whole block. */
static void draw_words(uint64_t seed, uint64_t stream, uint64_t position, int vocab, uint32_t *words) {
    const int blocks = (vocab + BLOCK - 1) / BLOCK;
    const wide first = (wide)position * blocks + 1; /* numpy's generator counts up before a block */
    for (int block = 0; block < blocks; block++) philox(first + block, seed, stream, words + block * BLOCK);
}

/* log(1 + x) + exponent * log(2), for -1/2 <= x <= 1/2: twice the area tangent of x / (2 + x), by its series. */
INLINE __m512 logarithm(__m512 x, __m512 exponent) {
    const __m512 s = _mm512_div_ps(x, _mm512_add_ps(x, _mm512_set1_ps(2))), square = _mm512_mul_ps(s, s);
    __m512 sum = _mm512_set1_ps(2.0f / 15);
#define TERM(over) sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(2.0f / over))
    TERM(13), TERM(11), TERM(9), TERM(7), TERM(5), TERM(3);
#undef TERM
    sum = _mm512_fmadd_ps(_mm512_mul_ps(sum, square), s, _mm512_add_ps(s, s));
    return _mm512_fmadd_ps(exponent, _mm512_set1_ps(0.693147181f), sum);
}

/* The exponent that makes the rest lie in [3/4, 3/2), and the rest less 1. */
INLINE void take_apart(__m512 x, __m512 *rest, __m512 *exponent) {
    const __m512 one = _mm512_set1_ps(1), mantissa = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
    const __mmask16 small = _mm512_cmp_ps_mask(mantissa, one, _CMP_LT_OQ);
    const __m512 found = _mm512_getexp_ps(x);
    *rest = _mm512_sub_ps(mantissa, one);
    *exponent = _mm512_mask_add_ps(found, small, found, one);
}

/* -log(-log((word + 1/2) / 2**32)), but for NOISE_ERROR. Above a half the distance to 1 is what is exact. */
INLINE __m512 nearly_gumbel(__m512i word) {
    const __m512 zero = _mm512_setzero_ps(), half = _mm512_set1_ps(0.5f), scale = _mm512_set1_ps(0x1p-32f);
    const __mmask16 high = _mm512_movepi32_mask(word);
    const __m512i nearer = _mm512_mask_xor_epi32(word, high, word, _mm512_set1_epi32(-1));
    const __m512 distance = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepu32_ps(nearer), half), scale);
    __m512 rest, exponent;
    take_apart(distance, &rest, &exponent);
    rest = _mm512_mask_sub_ps(rest, high, zero, distance);
    exponent = _mm512_mask_mov_ps(exponent, high, zero);
    take_apart(_mm512_sub_ps(zero, logarithm(rest, exponent)), &rest, &exponent);
    return _mm512_sub_ps(zero, logarithm(rest, exponent));
}

static void approximate(drawing d, int vocab) {
    for (int v = 0; v < vocab; v += 16)
        _mm512_storeu_ps(d.nearly + v, nearly_gumbel(_mm512_loadu_si512(d.words + v)));
}

void p2_approximate_noise(uint32_t *words, int count, float *noise) { approximate((drawing){words, noise}, count); }

void draw(drawing d, const choosing *text, int64_t step, int vocab) {
    draw_words(text->seed, text->stream, text->position + (uint64_t)step, vocab, d.words);
    approximate(d, vocab);
}

int score(const float *logits, const float *noise, int vocab, float temperature, float least, float *scores,
                 float *bound, int *last) {
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 highest = none;
    for (int v = 0; v < vocab; v += 16) {
        const __m512 l = _mm512_loadu_ps(logits + v);
        const __mmask16 there = v + 16 <= vocab ? 0xffff : (1 << (vocab - v)) - 1;
        const __mmask16 kept = _mm512_mask_cmp_ps_mask(there, l, _mm512_set1_ps(least), _CMP_GE_OQ);
        const __m512 sum = _mm512_fmadd_ps(_mm512_loadu_ps(noise + v), _mm512_set1_ps(temperature), l);
        const __m512 found = _mm512_mask_mov_ps(none, kept, sum);
        _mm512_storeu_ps(scores + v, found);
        highest = _mm512_max_ps(found, highest);
    }
    const float top = _mm512_reduce_max_ps(highest);
    *bound = top - 2 * (temperature * NOISE_ERROR + fabsf(top) * 0x1p-22f);
    int count = 0;
    for (int v = 0; v < vocab; v += 16) {
        const __mmask16 near = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + v), _mm512_set1_ps(*bound), _CMP_NLT_UQ);
        count += __builtin_popcount(near);
        if (near) *last = v + __builtin_ctz(near);
    }
    return count;
}

END_AVX512
