/* Products with weights in 8 and 4 bits, without VNNI. */

#ifdef __x86_64__

#include "kernels.h"

#include "integers.h"

LEVEL

/* sum += more. The compiler's own sum makes it copy every one twice, and run out of registers. */
INLINE void add(__m256i *sum, __m256i more) {
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(more));
}

/* Activations of a chunk, less their 128, in 16 bits each. */
INLINE void widen_rows(const int rows, const uint8_t *a, size_t width, int count, int16_t (*wide)[CHUNK * 4]) {
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < count * 4; k += 16) {
            const __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(a + r * width + k)),
                                                _mm_set1_epi8((char)0x80));
            _mm256_store_si256((__m256i *)(wide[r] + k), _mm256_cvtepi8_epi16(bytes));
        }
}

/* Four activations, as often as they fit. */
INLINE __m256i repeat_four_wide(const int16_t *numbers) {
    int64_t four;
    memcpy(&four, numbers, 8);
    return _mm256_set1_epi64x(four);
}

/* Two sums of 4 outputs and two of the next 4, as sums of 8. */
INLINE __m256i pairs_added(__m256i first, __m256i second) {
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(first, second), 0xd8);
}

/* As contract/integers.py defines it: the sum is exact. vpmaddubsw would add pairs of products of bytes in 16 bits, which
 * hold no 2 * 255 * 127, nor 2 * 128 * 128 of signed ones; so both are widened to 16 bits, whose products it adds in 32.
 * Each output has two sums then. */
INLINE void int8_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, columns = rows == 1 ? s.vectors : rows == 2 ? 2 : 1, strips = 2 * s.vectors / columns;
    const product *m = here->m;
    const size_t turn = (size_t)s.vectors * 64;
    const int turns = m->rows / 4;
    for (int panel = 0; panel < s.panels; panel++) {
        const char *weights = (const char *)m->weights + (size_t)(here->panel + panel) * turns * turn;
        const float *scales = m->scales + (size_t)(here->panel + panel) * s.vectors * 16;
        __m256i total[ROWS][8][2];
        int16_t wide[ROWS][CHUNK * 4] __attribute__((aligned(32)));
        for (int from = 0; from < turns; from += CHUNK) {
            const int count = turns - from < CHUNK ? turns - from : CHUNK;
            const errand soon = {e->next + from * e->step, e->step / strips, NULL};
            const char *next = weights + (from + count) * turn;
            widen_rows(rows, value->bytes + from * 4, value->width, count, wide);
            for (int strip = 0; strip < strips; strip++) {
                const char *w = weights + from * turn + strip * columns * 32;
                __m256i sum[ROWS][8][2];
                EACH(r, rows)
                    EACH(c, columns)
                        EACH(i, 2) sum[r][c][i] = from ? total[r][strip * columns + c][i] : _mm256_setzero_si256();
                for (int k = 0; k < count; k++, w += turn) {
                    fetch(s.how, &soon, strip * count + k);
                    look(s.how, w, columns * 32);
                    ask_for_part(next, strip * count + k, columns * 32);
                    EACH(c, columns) {
                        __m256i column[2];
                        EACH(i, 2)
                            column[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + c * 32 + i * 16)));
                        EACH(r, rows) {
                            const __m256i factor = repeat_four_wide(wide[r] + k * 4);
                            EACH(i, 2) add(&sum[r][c][i], _mm256_madd_epi16(column[i], factor));
                        }
                    }
                }
                EACH(r, rows)
                    EACH(c, columns)
                        EACH(i, 2) total[r][strip * columns + c][i] = sum[r][c][i];
            }
        }
        AGAIN(t);
        EACH(r, rows)
            for (int c = 0; c < 2 * s.vectors; c++)
                add_scaled(eight_sums_at(t, panel, r, c), pairs_added(total[r][c][0], total[r][c][1]), scales + c * 8);
    }
}

/* The same for int4 weights, stored plus 8, a scale for each block of rows. Here vpmaddubsw is exact: four times two
 * products of 15 and -128 fit in 16 bits. Blocks are of 16 rows or a multiple of them: two turns. */
INLINE void int4_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, columns = rows == 1 ? s.vectors : 1, strips = 2 * s.vectors / columns;
    const __m256i low_half = _mm256_set1_epi8(0x0f), ones = _mm256_set1_epi16(1);
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
                    for (int k = 0; k < count; k += 2, w += 2 * turn) {
                        EACH(i, 2) {
                            fetch(s.how, &soon, strip * count + k + i);
                            look(s.how, w + i * turn, columns * 32);
                            ask_for_part(next, strip * count + k + i, columns * 32);
                        }
                        EACH(c, columns) {
                            __m256i column[4]; /* rows 0 to 3 of sixteen, 4 to 7 and so on */
                            EACH(i, 2) {
                                const __m256i both = _mm256_loadu_si256((const __m256i *)(w + i * turn + c * 32));
                                column[2 * i] = _mm256_and_si256(both, low_half);
                                column[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half);
                            }
                            EACH(r, rows) {
                                __m256i four = _mm256_maddubs_epi16(column[0], repeat_four(a[r] + k * 8));
                                for (int i = 1; i < 4; i++)
                                    four = _mm256_add_epi16(
                                        four, _mm256_maddubs_epi16(column[i], repeat_four(a[r] + k * 8 + i * 4)));
                                add(&sum[r][c], _mm256_madd_epi16(four, ones));
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

const kernel_table avx2_plain[3] = TABLES;

END_LEVEL

#endif
