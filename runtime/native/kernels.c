/* The kernels of weights in 32, 16, 8 and 4 bits; those of 28 bits are in compact.c. */

#include "kernels.h"

#include <string.h>

AVX512

#define LOOK 1024 /* bytes */

/* For `bytes` of a turn at `here`. */
INLINE void look(const int how, const void *here, const int bytes) {
    if (how & LOOKING) EACH(line, (bytes + 63) / 64) _mm_prefetch((const char *)here + LOOK + line * 64, _MM_HINT_T0);
}

/* 16 weights of a kind of floats, widened; exact. */
INLINE vf widened(const int kind, const char *weights) {
    if (kind == FLOATS) return *(const vfu *)weights;
    const __m256i narrow = _mm256_loadu_si256((const __m256i *)weights);
    if (kind == HALVES) return (vf)_mm512_cvtph_ps(narrow);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
}

/* z[panel][row][slot[v]] += a[row][from..to] @ weights, for weights of any kind of floats. */
INLINE void float_kernel(const shape s, const int kind, const part *here, const value *value, const target *t,
                         const errand *e) {
    const int rows = s.rows, panels = s.panels, vectors = s.vectors, from = here->from, to = here->to;
    const product *m = here->m;
    const size_t vector_size = kind == FLOATS ? 64 : 32, panel_size = (size_t)m->rows * vectors * vector_size;
    const char *weights = (const char *)m->weights + here->panel * panel_size;
    const float *a = value->floats;
    const size_t width = value->width;
    vf sum[ROWS * PANELS][4];
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                sum[p * rows + r][v] = *sums_at(t, p, r, v);
    for (int k = from; k < to; k++) {
        fetch(s.how, e, k - from);
        EACH(p, panels) {
            const char *w = weights + p * panel_size + (size_t)k * vectors * vector_size;
            vf column[4];
            look(s.how, w, vectors * (int)vector_size);
            EACH(v, vectors) column[v] = widened(kind, w + v * vector_size);
            EACH(r, rows) {
                vf factor = all(a[r * width + k]);
                EACH(v, vectors) sum[p * rows + r][v] += factor * column[v];
            }
        }
    }
    AGAIN(t);
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                *sums_at(t, p, r, v) = sum[p * rows + r][v];
}

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
                vfu *at = sums_at(t, p, r, v);
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
                    vfu *at = sums_at(t, p, r, v);
                    vf scale = *(const vfu *)(scales + ((size_t)p * blocks * vectors + v) * 16);
                    *at += rounded_product((vf)_mm512_cvtepi32_ps(sum[p * rows + r][v]), scale);
                }
    }
}

/* A function for each kind of weights, or its registers would be those of all; then one that finds it. */
#define ONE_KIND(name, call)                                                                                 \
    static __attribute__((noinline)) void name(const part *here, const value *a, const target *t, const errand *e) {\
        call;                                                                                                \
    }
#define ONE_WIDTH(name, vectors, ...)                                                                        \
    ONE_KIND(name##_floats_##vectors, float_kernel(((shape){__VA_ARGS__, vectors}), FLOATS, here, a, t, e))    \
    ONE_KIND(name##_halves_##vectors, float_kernel(((shape){__VA_ARGS__, vectors}), HALVES, here, a, t, e))    \
    ONE_KIND(name##_brain_##vectors, float_kernel(((shape){__VA_ARGS__, vectors}), BRAIN, here, a, t, e))      \
    ONE_KIND(name##_int8_##vectors, int8_kernel(((shape){__VA_ARGS__, vectors}), here, a, t, e))               \
    ONE_KIND(name##_int4_##vectors, int4_kernel(((shape){__VA_ARGS__, vectors}), here, a, t, e))               \
    static const kernel name##_##vectors[] = {                                                               \
        [FLOATS] = name##_floats_##vectors, [HALVES] = name##_halves_##vectors, [BRAIN] = name##_brain_##vectors,\
        [INT8] = name##_int8_##vectors,     [INT4] = name##_int4_##vectors,                                  \
    };
#define ONE_NAME(name, ...)                                                                                  \
    ONE_WIDTH(name, 3, __VA_ARGS__)                                                                          \
    ONE_WIDTH(name, 4, __VA_ARGS__)                                                                          \
    static void name(const part *here, const value *a, const target *t, const errand *e) {                   \
        (here->m->vectors == 4 ? name##_4 : name##_3)[here->m->kind](here, a, t, e);                         \
    }
#define ONE_SIZE(name, how, rows, panels) ONE_NAME(name##_##rows##_##panels, how, rows, panels)
ONE_SIZE(product, 0, 1, 1)
ONE_SIZE(product, 0, 1, 2)
ONE_SIZE(product, 0, 2, 1)
ONE_SIZE(product, 0, 2, 2)
ONE_SIZE(product, 0, 3, 1)
ONE_SIZE(product, 0, 4, 1)
ONE_SIZE(product, 0, 5, 1)
ONE_SIZE(product, 0, 6, 1)
ONE_SIZE(looking, LOOKING, 1, 1)
ONE_SIZE(looking, LOOKING, 1, 2)
ONE_SIZE(fetching, FETCHING, 3, 1)
ONE_SIZE(fetching, FETCHING, 4, 1)
ONE_SIZE(fetching, FETCHING, 5, 1)
ONE_SIZE(fetching, FETCHING, 6, 1)

const kernel_table kernels[3] = {
    {product_1_2, product_2_2, product_1_1, product_2_1, product_3_1, product_4_1, product_5_1, product_6_1},
    {looking_1_2, product_2_2, looking_1_1, product_2_1, product_3_1, product_4_1, product_5_1, product_6_1},
    {product_1_2, product_2_2, product_1_1, product_2_1, fetching_3_1, fetching_4_1, fetching_5_1, fetching_6_1},
};

END_AVX512
