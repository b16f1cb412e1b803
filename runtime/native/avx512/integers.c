/* Products with weights in 8 and 4 bits. */

#ifdef __x86_64__

#include "kernels.h"

#include <string.h>

#include "vectors.h"

#include "../lanes/kernels.h"
#include "../lanes/tables.h"

LEVEL

INLINE __m512i repeat_four(const uint8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return _mm512_set1_epi32(four);
}

/* sum += four products of unsigned and signed bytes, in each of 16 places. The compiler's own function for it makes it
 * copy every sum twice, and run out of registers. */
INLINE void add_products(__m512i *sum, __m512i plain, __m512i with_sign) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(plain), "vm"(with_sign));
}

/* The same for int8 weights and activations of 8 bits, as contract/integers.py defines it: the sum is exact. It lies
 * within 32 bits, though not on its way. */
INLINE void int8_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, panels = s.panels, vectors = s.vectors, panel = here->panel;
    const product *m = here->m;
    const uint8_t *a = value->bytes;
    const size_t width = value->width;
    __m512i sum[ROWS * PANELS][4];
    const size_t panel_size = (size_t)m->rows * vectors * 16;
    const int8_t *weights = (const int8_t *)m->weights + panel * panel_size;
    const int32_t *start = m->start + panel * vectors * 16;
    const float *scales = m->scales + panel * vectors * 16;
    const int turns = m->rows / 4;
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                sum[p * rows + r][v] = _mm512_loadu_si512(start + (p * vectors + v) * 16);
    for (int k = 0; k < turns; k++) {
        fetch(s.how, e, k);
        EACH(p, panels) {
            const int8_t *w = weights + p * panel_size + (size_t)k * vectors * 64;
            __m512i column[4];
            look(s.how, w, vectors * 64);
            EACH(v, vectors) column[v] = _mm512_loadu_si512(w + v * 64);
            EACH(r, rows) {
                __m512i factor = repeat_four(a + r * width + k * 4);
                EACH(v, vectors) add_products(&sum[p * rows + r][v], factor, column[v]);
            }
        }
    }
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors) {
                vfu *at = (vfu *)sums_at(t, p, r, v);
                vf scale = *(const vfu *)(scales + (p * vectors + v) * 16);
                *at += rounded_product((vf)_mm512_cvtepi32_ps(sum[p * rows + r][v]), scale);
            }
}

/* The same for int4 weights, a scale for each block of rows. `sums` holds the activations of 16 rows each, added
 * up: the weights are stored plus 8. */
INLINE void int4_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, panels = s.panels, vectors = s.vectors;
    const __m512i low_half = _mm512_set1_epi8(0x0f), sign = _mm512_set1_epi8((char)0x80);
    for (int b = 0; b < here->m->rows / here->m->block; b++) {
        AGAIN(here);
        AGAIN(value);
        const product *m = here->m;
        const int block = m->block, blocks = m->rows / block;
        const uint8_t *a = value->bytes;
        const int32_t *sums = value->sums + b * (block / 16);
        const size_t width = value->width, panel_size = (size_t)m->rows * vectors * 8;
        const uint8_t *weights = (const uint8_t *)m->weights + here->panel * panel_size;
        __m512i sum[ROWS * PANELS][4];
        EACH(r, rows) {
            uint32_t total = 0; /* modulo 2**32, as the products are added */
            for (int i = 0; i < block / 16; i++) total += (uint32_t)sums[r * (width / 16) + i];
            EACH(p, panels)
                EACH(v, vectors) sum[p * rows + r][v] = _mm512_set1_epi32((int32_t)(0u - 8u * total));
        }
        for (int k = b * block / 8; k < (b + 1) * block / 8; k++) {
            fetch(s.how, e, k);
            EACH(p, panels) {
                const uint8_t *w = weights + p * panel_size + (size_t)k * vectors * 64;
                look(s.how, w, vectors * 64);
                EACH(half, 2) { /* rows 0 to 3 of eight, then 4 to 7 */
                    __m512i column[4];
                    EACH(v, vectors) {
                        __m512i both = _mm512_loadu_si512(w + v * 64);
                        column[v] = _mm512_and_si512(half ? _mm512_srli_epi16(both, 4) : both, low_half);
                    }
                    EACH(r, rows) {
                        __m512i factor = _mm512_xor_si512(repeat_four(a + r * width + k * 8 + half * 4), sign);
                        EACH(v, vectors)
                            add_products(&sum[p * rows + r][v], column[v], factor);
                    }
                }
            }
        }
        AGAIN(here);
        AGAIN(t);
        const float *scales = here->m->scales + ((size_t)here->panel * blocks + b) * vectors * 16;
        EACH(p, panels)
            EACH(r, rows)
                EACH(v, vectors) {
                    vfu *at = (vfu *)sums_at(t, p, r, v);
                    vf scale = *(const vfu *)(scales + ((size_t)p * blocks * vectors + v) * 16);
                    *at += rounded_product((vf)_mm512_cvtepi32_ps(sum[p * rows + r][v]), scale);
                }
    }
}

#define KERNELS(name, how, rows, panels, vectors)                                                               \
    KERNEL(name##_int8, int8_kernel(((shape){how, rows, panels, vectors}), here, a, t, e))                      \
    KERNEL(name##_int4, int4_kernel(((shape){how, rows, panels, vectors}), here, a, t, e))                      \
    static const kernel name[] = {[INT8] = name##_int8, [INT4] = name##_int4};
EVERY_SIZE

const kernel_table avx512_integers[3] = TABLES;

END_LEVEL

#endif
