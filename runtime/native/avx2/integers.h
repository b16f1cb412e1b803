/* What the kernels of integers with and without VNNI have in common. AVX2 has 16 registers: a panel's sums for some rows do
 * not fit, so a kernel meets strips of it, columns of 8 outputs side by side, for CHUNK turns at a time, which stay in the
 * first cache. */
#ifndef P2_AVX2_INTEGERS_H
#define P2_AVX2_INTEGERS_H
#ifdef __x86_64__

#include "vectors.h"

#include "../lanes/kernels.h"
#include "../lanes/tables.h"

#include <string.h>

/* Turns of a kernel: 16 KiB of a panel. */
#define CHUNK 64

LEVEL

/* One of the parts of the chunk that follows, while this one is met: strips read lines too far apart for the processor to
 * see what comes. */
INLINE void ask_for_part(const char *next, int part, const int bytes) {
    next += (size_t)part * bytes;
    EACH(line, (bytes + 63) / 64) __builtin_prefetch(next + line * 64);
}

INLINE __m256i repeat_four(const uint8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return _mm256_set1_epi32(four);
}

/* z += sum * scale, for 8 outputs. */
INLINE void add_scaled(float *z, __m256i sum, const float *scales) {
    *(vfu *)z += rounded_product((vf)_mm256_cvtepi32_ps(sum), *(const vfu *)scales);
}

/* Activations of a chunk of int4 weights as signed bytes: less their 128. */
INLINE void sign_rows(const int rows, const uint8_t *a, size_t width, int count, uint8_t (*made)[CHUNK * 8]) {
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < count * 8; k += 16) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(a + r * width + k));
            _mm_store_si128((__m128i *)(made[r] + k), _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80)));
        }
}

/* What a block's sums begin with: the weights are stored plus 8, and `sums` holds the activations of 16 rows each, added
 * up. */
INLINE void start_block(const int rows, const int vectors, const value *value, int b, int block, __m256i (*total)[8]) {
    for (int r = 0; r < rows; r++) {
        const int32_t *sums = value->sums + r * (value->width / 16) + b * (block / 16);
        uint32_t sum = 0; /* modulo 2**32, as the products are added */
        for (int i = 0; i < block / 16; i++) sum += (uint32_t)sums[i];
        for (int c = 0; c < 2 * vectors; c++) total[r][c] = _mm256_set1_epi32((int32_t)(0u - 8u * sum));
    }
}

END_LEVEL

#endif
#endif
