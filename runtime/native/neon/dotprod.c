/* int8 and int4 products with SDOT: see integers.h. */
#ifdef __aarch64__

#include "kernels.h"

#if P2_DOTPROD

#ifndef __clang__
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define SUMS(bits) 4
#define ROOM(bits) 24
#define TOGETHER 1

#include "integers.h"

/* Four rows of the matrix; the lane is a constant of the instruction. */
#define MEET(column, lane)                                                                                   \
    EACH(r, texts) sum[r][v][q] = vdotq_laneq_s32(sum[r][v][q], vreinterpretq_s8_u8(column), met[r], lane)

#define EIGHT_BITS(i)                                                                                        \
    EACH(v, vectors)                                                                                         \
        EACH(q, 4) {                                                                                         \
            const uint8x16_t column = vld1q_u8(w + i * turn + v * 64 + q * 16);                              \
            MEET(column, i);                                                                                 \
        }

#define FOUR_BITS(i)                                                                                         \
    EACH(v, vectors)                                                                                         \
        EACH(q, 4) {                                                                                         \
            const uint8x16_t both = vld1q_u8(w + i * turn + v * 64 + q * 16);                                \
            MEET(vandq_u8(both, vdupq_n_u8(15)), 2 * i);                                                     \
            MEET(vshrq_n_u8(both, 4), 2 * i + 1);                                                            \
        }

INLINE void meet_16(const int bits, const int texts, const int vectors, const uint8_t *w, size_t turn, const uint8_t *a,
                    size_t width, sum_registers sum) {
    int8x16_t met[ROWS];
    EACH(r, texts) met[r] = signed_ones(vld1q_u8(a + r * width));
    if (bits == 8) {
        EIGHT_BITS(0)
        EIGHT_BITS(1)
        EIGHT_BITS(2)
        EIGHT_BITS(3)
    } else {
        FOUR_BITS(0)
        FOUR_BITS(1)
    }
}

INLINE int32x4_t four_of(const int bits, const int32x4_t *sum, int q, int text) {
    (void)bits, (void)text;
    return sum[q];
}

ONE_SIZE(1)
ONE_SIZE(2)
ONE_SIZE(3)
ONE_SIZE(4)
ONE_SIZE(5)
ONE_SIZE(6)

const kernel_table dotprod_integers[3] = {TABLE(integers), TABLE(integers), TABLE(integers)};

#endif

#endif
