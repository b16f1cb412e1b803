/* The kernels of int8 and int4 weights, but for what multiplies. Three files include this, each with instructions of
 * its own, behind
 *
 *   TOGETHER: texts whose sums share registers, 1 or 2;
 *   SUMS(bits): registers that the sums of 16 outputs take for so many texts, of ROOM(bits) in all.
 *
 * Activations are met with their sign, so that int8 sums begin with 0; int4 ones with the 8 that each weight has too
 * much. */
#ifndef P2_NEON_INTEGERS_H
#define P2_NEON_INTEGERS_H

#include "kernels.h"
#include "tight.h"
#include "vectors.h"

#ifdef SUMS

/* Sums of 16 outputs in some texts; bits of a weight and numbers are known to the compiler. */
typedef int32x4_t sum_registers[ROWS][4][SUMS(8)];

/* Units of TOGETHER texts, and a text of one; where there are too few it is the last one. */
#define UNITS(texts) (((texts) + TOGETHER - 1) / TOGETHER)
#define TEXT(texts, unit, i) ((unit) * TOGETHER + (i) < (texts) ? (unit) * TOGETHER + (i) : (texts)-1)

/* sum += activations @ weights for 16 rows of the matrix: some texts whose activations are `width` bytes apart, `vectors`
 * times 16 outputs whose weights begin at `w`, `turn` bytes from those of four rows (int8) or eight (int4) to the next. */
INLINE void meet_16(const int bits, const int texts, const int vectors, const uint8_t *w, size_t turn, const uint8_t *a,
                    size_t width, sum_registers sum);

/* Four of the sums, 4 * q and on, of one of the texts. */
INLINE int32x4_t four_of(const int bits, const int32x4_t *sum, int q, int text);

/* 16 activations with their sign. */
INLINE int8x16_t signed_ones(uint8x16_t bytes) {
    return vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)));
}

/* 8 times the activations in a block of rows. */
INLINE int32_t too_much(const value *a, int row, int block, int number) {
    const int32_t *sums = a->sums + row * (a->width / 16) + number * (block / 16);
    uint32_t total = 0; /* modulo 2**32, as the products are added */
    for (int i = 0; i < block / 16; i++) total += (uint32_t)sums[i];
    return (int32_t)(8u * total);
}

/* A block of rows of a panel, and `vectors` of it from `first` on. */
INLINE void meet_block(const int bits, const int texts, const int vectors, int first, const part *here, int number,
                       const value *a, const target *t) {
    const product *m = here->m;
    const int units = UNITS(texts), turn_rows = bits == 8 ? 4 : 8, sums = SUMS(bits);
    const int block = bits == 8 ? m->rows : m->block, blocks = m->rows / block;
    const size_t turn = m->vectors * 64, step = 16 / turn_rows * turn;
    const uint8_t *w = (const uint8_t *)m->weights + first * 64;
    w += ((size_t)here->panel * m->rows + number * block) / turn_rows * turn;
    sum_registers sum;
    EACH(u, units) {
        int32_t begin[TOGETHER];
        EACH(i, TOGETHER) begin[i] = bits == 8 ? 0 : -too_much(a, TEXT(texts, u, i), block, number);
        const int32x4_t both = vcombine_s32(vdup_n_s32(begin[0]), vdup_n_s32(begin[TOGETHER - 1]));
        EACH(v, vectors)
            EACH(i, sums) sum[u][v][i] = both;
    }
    for (int k = number * block; k < (number + 1) * block; k += 16, w += step)
        meet_16(bits, texts, vectors, w, turn, a->bytes + k, a->width, sum);
    const float *scales = m->scales + (((size_t)here->panel * blocks + number) * m->vectors + first) * 16;
    EACH(r, texts)
        EACH(v, vectors)
            EACH(q, 4) {
                vfu *at = (vfu *)(t->z + r * Z_ROW + t->slot[first + v] * 16 + q * 4);
                const int32x4_t whole = four_of(bits, sum[r / TOGETHER][v], q, r % TOGETHER);
                *at += rounded_product((vf)vcvtq_f32_s32(whole), *(const vfu *)(scales + v * 16 + q * 4));
            }
}

INLINE void integer_kernel(const int bits, const int rows, const part *here, const value *a, const target *t) {
    const int vectors = here->m->vectors, blocks = bits == 8 ? 1 : here->m->rows / here->m->block;
    /* So many texts, and then so many vectors. */
    const int most = ROOM(bits) / SUMS(bits) * TOGETHER, groups = (rows + most - 1) / most;
    const int texts = (rows + groups - 1) / groups, at_once = AT_ONCE(ROOM(bits) / SUMS(bits) / UNITS(texts));
    for (int p = 0; p < here->panels; p++)
        EACH(group, groups) {
            const int row = group * texts, some = row + texts <= rows ? texts : rows - row;
            const part panel = {.m = here->m, .panel = here->panel + p};
            const value own = rows_from(*a, row);
            const target to = {t->z + p * t->panel + row * Z_ROW, 0, t->slot};
            for (int number = 0; number < blocks; number++) {
                int v = 0;
                for (; v + at_once <= vectors; v += at_once)
                    meet_block(bits, some, at_once, v, &panel, number, &own, &to);
                if (at_once > 1 && v < vectors) meet_block(bits, some, REST(at_once), v, &panel, number, &own, &to);
            }
        }
}

/* A function for each kind, or its registers would be those of both. */
#define ONE_KIND(bits, rows)                                                                                 \
    static __attribute__((noinline)) void int##bits##_##rows(const part *here, const value *a, const target *t) { \
        integer_kernel(bits, rows, here, a, t);                                                              \
    }
#define ONE_SIZE(rows)                                                                                       \
    ONE_KIND(8, rows)                                                                                        \
    ONE_KIND(4, rows)                                                                                        \
    static void integers_##rows(const part *here, const value *a, const target *t, const errand *e) {             \
        (void)e;                                                                                             \
        (here->m->kind == INT8 ? int8_##rows : int4_##rows)(here, a, t);                                     \
    }

#endif

#endif
