/* Noise by address: every word and every number is contract/noise.py's. */
#ifndef P2_NOISE_CUH
#define P2_NOISE_CUH

#include "platform.cuh"

/* A block of Philox-4x64-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11):
 * number `at` of those of one position. */
DEVICE void philox(u64 seed, u64 stream, u64 position, int vocab, int at, u64 made[4]) {
    const u64 blocks = (u64)((vocab + 7) >> 3), before = position * blocks;
    u64 a = before + (u64)at + 1; /* numpy's generator counts up before a block */
    u64 b = high_product(position, blocks) + (a < before), c = 0, d = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const u64 first = 0xD2E7470EE14C6C93ull, second = 0xCA5A826395121157ull;
        const u64 kept = first * a;
        const u64 high = high_product(first, a);
        a = high_product(second, c) ^ b ^ seed;
        b = second * c;
        c = high ^ d ^ stream;
        d = kept;
        seed += 0x9E3779B97F4A7C15ull;
        stream += 0xBB67AE8584CAA73Bull;
    }
    made[0] = a, made[1] = b, made[2] = c, made[3] = d;
}

/* The eight words 8 at, 8 at + 1, ... of a position. */
DEVICE void noise_words(u64 seed, u64 stream, u64 position, int vocab, int at, u32 words[8]) {
    u64 made[4];
    philox(seed, stream, position, vocab, at, made);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        words[2 * i] = (u32)made[i];
        words[2 * i + 1] = (u32)(made[i] >> 32);
    }
}

/* Word v of a position. Chosen by hand: an array at a place that is not known is put into memory. */
DEVICE u32 noise_word(u64 seed, u64 stream, u64 position, int vocab, int v) {
    u64 made[4];
    philox(seed, stream, position, vocab, v >> 3, made);
    const u64 early = v & 2 ? made[1] : made[0], late = v & 2 ? made[3] : made[2], both = v & 4 ? late : early;
    return (u32)(v & 1 ? both >> 32 : both);
}

/* Standard Gumbel noise; in float64, so that no float32 logarithm can change a text. */
DEVICE float gumbel_of(u32 word) { return (float)-log64(-log64(((double)word + 0.5) * 0x1p-32)); }

#endif
