/* Noise by address: see noise.h. */

#include "noise.h"

#include "instructions.h"

#include <string.h>

enum { BLOCK = 8, ROUNDS = 10 }; /* 32-bit words of a block of Philox-4x64 */

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

void p2_approximate_noise(uint32_t *words, int count, float *noise) { level->approximate(words, count, noise); }

void draw(drawing d, const choosing *text, int64_t step, int vocab) {
    draw_words(text->seed, text->stream, text->position + (uint64_t)step, vocab, d.words);
    level->approximate(d.words, (vocab + 15) / 16 * 16, d.nearly);
}
