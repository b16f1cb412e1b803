/* int8 and int4 products with what every 64-bit Arm processor has: see integers.h. */
#ifdef __aarch64__

/* Sums of two products each, of which two make an output's; of int4 weights four products fit in 16 bits before. */
#define SUMS(bits) ((bits) == 8 ? 8 : 4)
#define ROOM(bits) ((bits) == 8 ? 24 : 16)
#define TOGETHER 1

#include "integers.h"

INLINE int8x16_t four_bytes(int8x16_t a, int lane) {
    return vreinterpretq_s8_s32(vdupq_n_s32(vreinterpretq_s32_s8(a)[lane]));
}

INLINE void meet_16(const int bits, const int texts, const int vectors, const uint8_t *w, size_t turn, const uint8_t *a,
                    size_t width, sum_registers sum) {
    const int turns = bits == 8 ? 4 : 2;
    int8x16_t met[ROWS];
    EACH(r, texts) met[r] = signed_ones(vld1q_u8(a + r * width));
    EACH(i, turns)
        EACH(v, vectors)
            EACH(q, 4) {
                const uint8x16_t bytes = vld1q_u8(w + i * turn + v * 64 + q * 16);
                const int8x16_t column = vreinterpretq_s8_u8(bytes);
                const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
                const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
                EACH(r, texts) {
                    int32x4_t *to = sum[r][v];
                    if (bits == 8) {
                        const int8x16_t factor = four_bytes(met[r], i);
                        to[2 * q] = vpadalq_s16(to[2 * q], vmull_s8(vget_low_s8(column), vget_low_s8(factor)));
                        to[2 * q + 1] = vpadalq_s16(to[2 * q + 1], vmull_high_s8(column, factor));
                        continue;
                    }
                    const int8x16_t first = four_bytes(met[r], 2 * i), second = four_bytes(met[r], 2 * i + 1);
                    int16x8_t two = vmull_s8(vget_low_s8(low), vget_low_s8(first)), more = vmull_high_s8(low, first);
                    two = vmlal_s8(two, vget_low_s8(high), vget_low_s8(second));
                    more = vmlal_high_s8(more, high, second);
                    to[q] = vpadalq_s16(to[q], vpaddq_s16(two, more));
                }
            }
}

INLINE int32x4_t four_of(const int bits, const int32x4_t *sum, int q, int text) {
    (void)text;
    return bits == 8 ? vpaddq_s32(sum[2 * q], sum[2 * q + 1]) : sum[q];
}

ONE_SIZE(1)
ONE_SIZE(2)
ONE_SIZE(3)
ONE_SIZE(4)
ONE_SIZE(5)
ONE_SIZE(6)

const kernel_table neon_integers[3] = {TABLE(integers), TABLE(integers), TABLE(integers)};

#endif
