/* The noise for backends that have no kernels of their own: `p2_noise`. */
#include "platform.cuh"

#include "noise.cuh"

/* float32 [count][batch][vocab] of `contract.noise`, times the temperature; one position begins `row` numbers after the
 * one before. A thread makes the numbers of a block of words. */
PLAIN_KERNEL(p2_noise)
(float *out, const u64 *streams, u64 seed, u64 position, float temperature, int batch, int count, int vocab, u64 row) {
    const u64 each = (u64)((vocab + 7) >> 3), all = (u64)count * (u64)batch * each;
    for (u64 i = (u64)block() * threads() + thread(); i < all; i += (u64)blocks() * threads()) {
        const int at = (int)(i % each);
        const u64 text = i / each % batch, step = i / each / batch;
        u32 words[8];
        noise_words(seed, streams[text], position + step, vocab, at, words);
        float *to = out + step * row + text * vocab + 8 * at;
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (8 * at + j < vocab) to[j] = mul(gumbel_of(words[j]), temperature);
    }
}
