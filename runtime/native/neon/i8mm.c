/* int8 and int4 products with SMMLA, of two texts and two outputs at once: see integers.h. */
#ifdef __aarch64__

#include "kernels.h"

#if P2_I8MM

#ifndef __clang__
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

/* Each of two outputs in both texts. */
#define SUMS(bits) 8
#define ROOM(bits) 24
#define TOGETHER 2

#include "integers.h"

INLINE void meet_16(const int bits, const int texts, const int vectors, const uint8_t *w, size_t turn, const uint8_t *a,
                    size_t width, sum_registers sum) {
    const int units = UNITS(texts);
    EACH(half, 2) {
        int8x16_t met[ROWS]; /* eight activations of both texts */
        EACH(u, units) {
            const uint8_t *first = a + TEXT(texts, u, 0) * width + 8 * half, *second = a + TEXT(texts, u, 1) * width;
            met[u] = signed_ones(vcombine_u8(vld1_u8(first), vld1_u8(second + 8 * half)));
        }
        EACH(v, vectors)
            EACH(q, 4) { /* four outputs: rows 0 to 3 of eight, and 4 to 7 */
                const uint8_t *at = w + half * (bits == 8 ? 2 : 1) * turn + v * 64 + q * 16;
                const uint8x16_t bytes = vld1q_u8(at);
                const uint8x16_t low = bits == 8 ? bytes : vandq_u8(bytes, vdupq_n_u8(15));
                const uint8x16_t high = bits == 8 ? vld1q_u8(at + turn) : vshrq_n_u8(bytes, 4);
                const uint32x4_t first = vreinterpretq_u32_u8(low), second = vreinterpretq_u32_u8(high);
                const int8x16_t two = vreinterpretq_s8_u32(vzip1q_u32(first, second));
                const int8x16_t more = vreinterpretq_s8_u32(vzip2q_u32(first, second));
                EACH(u, units) {
                    int32x4_t *to = sum[u][v] + 2 * q;
                    to[0] = vmmlaq_s32(to[0], met[u], two);
                    to[1] = vmmlaq_s32(to[1], met[u], more);
                }
            }
    }
}

INLINE int32x4_t four_of(const int bits, const int32x4_t *sum, int q, int text) {
    (void)bits;
    const int64x2_t first = vreinterpretq_s64_s32(sum[2 * q]), second = vreinterpretq_s64_s32(sum[2 * q + 1]);
    return vreinterpretq_s32_s64(text ? vzip2q_s64(first, second) : vzip1q_s64(first, second));
}

/* One text has nobody to share with. */
static void integers_1(const part *here, const value *a, const target *t, const errand *e) {
    dotprod_integers[0][SLOT(1)](here, a, t, e);
}
ONE_SIZE(2)
ONE_SIZE(3)
ONE_SIZE(4)
ONE_SIZE(5)
ONE_SIZE(6)

const kernel_table i8mm_integers[3] = {TABLE(integers), TABLE(integers), TABLE(integers)};

#endif

#endif
