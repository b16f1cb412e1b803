/* Products with weights in 8 and 4 bits, with VNNI on vectors of AVX2's width. ENCODING is how its instruction is
 * written: {vex} is AVX-VNNI's, {evex} that of AVX-512's VNNI. */
#ifndef P2_AVX2_VNNI_H
#define P2_AVX2_VNNI_H
#ifdef __x86_64__

#include "integers.h"

#ifndef ENCODING
#define ENCODING "%{vex%}"
#endif

LEVEL

/* sum += four products of unsigned and signed bytes, in each of 8 places. */
INLINE void add_products(__m256i *sum, __m256i plain, __m256i with_sign) {
    __asm__(ENCODING " vpdpbusd %2, %1, %0" : "+x"(*sum) : "x"(plain), "x"(with_sign));
}

/* Columns of a strip: with sums in 8 to 12 registers additions are under way all the time, and the weights of a row and
 * an activation have their place beside them. Strips are alike. */
INLINE int strip_columns(const shape s) {
    return s.rows == 1 ? 2 * s.vectors : s.rows <= 3 ? s.vectors : s.rows == 4 && s.vectors == 3 ? 3 : 2;
}

/* As contract/integers.py defines it: the sum is exact. It lies within 32 bits, though not on its way. */
INLINE void int8_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, columns = strip_columns(s), strips = 2 * s.vectors / columns;
    const product *m = here->m;
    const size_t turn = (size_t)s.vectors * 64, width = value->width;
    const int turns = m->rows / 4;
    for (int panel = 0; panel < s.panels; panel++) {
        const char *weights = (const char *)m->weights + (size_t)(here->panel + panel) * turns * turn;
        const size_t first = (size_t)(here->panel + panel) * s.vectors * 16;
        __m256i total[ROWS][8];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < 2 * s.vectors; c++)
                total[r][c] = _mm256_loadu_si256((const __m256i *)(m->start + first + c * 8));
        for (int from = 0; from < turns; from += CHUNK) {
            const int count = turns - from < CHUNK ? turns - from : CHUNK;
            const errand soon = {e->next + from * e->step, e->step / strips, NULL};
            const char *next = weights + (from + count) * turn;
            for (int strip = 0; strip < strips; strip++) {
                const char *w = weights + from * turn + strip * columns * 32;
                const uint8_t *a = value->bytes + from * 4;
                __m256i sum[ROWS][8];
                EACH(r, rows)
                    EACH(c, columns) sum[r][c] = total[r][strip * columns + c];
                for (int k = 0; k < count; k++, w += turn, a += 4) {
                    fetch(s.how, &soon, strip * count + k);
                    look(s.how, w, columns * 32);
                    if (strips > 1) ask_for_part(next, strip * count + k, columns * 32);
                    __m256i factor[ROWS];
                    if (rows < columns) EACH(r, rows) factor[r] = repeat_four(a + r * width);
                    __m256i column[8];
                    EACH(c, columns) {
                        column[c] = _mm256_loadu_si256((const __m256i *)(w + c * 32));
                        if (rows < columns) EACH(r, rows) add_products(&sum[r][c], factor[r], column[c]);
                    }
                    if (rows >= columns)
                        EACH(r, rows) {
                            factor[r] = repeat_four(a + r * width);
                            EACH(c, columns) add_products(&sum[r][c], factor[r], column[c]);
                        }
                }
                EACH(r, rows)
                    EACH(c, columns) total[r][strip * columns + c] = sum[r][c];
            }
        }
        AGAIN(t);
        EACH(r, rows)
            for (int c = 0; c < 2 * s.vectors; c++)
                add_scaled(eight_sums_at(t, panel, r, c), total[r][c], m->scales + first + c * 8);
    }
}

/* The same for int4 weights, a scale for each block of rows. */
INLINE void int4_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, columns = rows == 3 ? 2 : strip_columns(s), strips = 2 * s.vectors / columns;
    const __m256i low_half = _mm256_set1_epi8(0x0f);
    const product *m = here->m;
    const int block = m->block, blocks = m->rows / block;
    const size_t turn = (size_t)s.vectors * 64;
    for (int panel = 0; panel < s.panels; panel++)
        for (int b = 0; b < blocks; b++) {
            const size_t first = (size_t)(here->panel + panel) * (m->rows / 8) + b * (block / 8);
            const float *scales = m->scales + ((size_t)(here->panel + panel) * blocks + b) * s.vectors * 16;
            __m256i total[ROWS][8];
            uint8_t a[ROWS][CHUNK * 8] __attribute__((aligned(32)));
            start_block(rows, s.vectors, value, b, block, total);
            for (int from = 0; from < block / 8; from += CHUNK) {
                const int count = block / 8 - from < CHUNK ? block / 8 - from : CHUNK;
                const errand soon = {e->next + (b * (block / 8) + from) * e->step, e->step / strips, NULL};
                const char *next = (const char *)m->weights + (first + from + count) * turn;
                sign_rows(rows, value->bytes + b * block + from * 8, value->width, count, a);
                for (int strip = 0; strip < strips; strip++) {
                    const uint8_t *w = (const uint8_t *)m->weights + (first + from) * turn + strip * columns * 32;
                    __m256i sum[ROWS][8];
                    EACH(r, rows)
                        EACH(c, columns) sum[r][c] = total[r][strip * columns + c];
                    for (int k = 0; k < count; k++, w += turn) {
                        fetch(s.how, &soon, strip * count + k);
                        look(s.how, w, columns * 32);
                        if (strips > 1) ask_for_part(next, strip * count + k, columns * 32);
                        EACH(half, 2) { /* rows 0 to 3 of eight, then 4 to 7 */
                            __m256i column[8], factor[ROWS];
                            if (rows < columns) EACH(r, rows) factor[r] = repeat_four(a[r] + k * 8 + half * 4);
                            EACH(c, columns) {
                                const __m256i both = _mm256_loadu_si256((const __m256i *)(w + c * 32));
                                column[c] = _mm256_and_si256(half ? _mm256_srli_epi16(both, 4) : both, low_half);
                                if (rows < columns) EACH(r, rows) add_products(&sum[r][c], column[c], factor[r]);
                            }
                            if (rows >= columns)
                                EACH(r, rows) {
                                    factor[r] = repeat_four(a[r] + k * 8 + half * 4);
                                    EACH(c, columns) add_products(&sum[r][c], column[c], factor[r]);
                                }
                        }
                    }
                    EACH(r, rows)
                        EACH(c, columns) total[r][strip * columns + c] = sum[r][c];
                }
            }
            AGAIN(t);
            EACH(r, rows)
                for (int c = 0; c < 2 * s.vectors; c++)
                    add_scaled(eight_sums_at(t, panel, r, c), total[r][c], scales + c * 8);
        }
}

#define KERNELS(name, how, rows, panels, vectors)                                                               \
    KERNEL(name##_int8, int8_kernel(((shape){how, rows, panels, vectors}), here, a, t, e))                      \
    KERNEL(name##_int4, int4_kernel(((shape){how, rows, panels, vectors}), here, a, t, e))                      \
    static const kernel name[] = {[INT8] = name##_int8, [INT4] = name##_int4};
EVERY_SIZE

END_LEVEL

#endif
#endif
