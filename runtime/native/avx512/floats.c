/* Products with weights in 32 and 16 bits; those of 28 bits are in compact.c. */

#ifdef __x86_64__

#include "kernels.h"

#include "vectors.h"

#include "../lanes/kernels.h"
#include "../lanes/tables.h"

LEVEL

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
                sum[p * rows + r][v] = *(const vfu *)sums_at(t, p, r, v);
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
                *(vfu *)sums_at(t, p, r, v) = sum[p * rows + r][v];
}

#define KERNELS(name, how, rows, panels, vectors)                                                               \
    KERNEL(name##_floats, float_kernel(((shape){how, rows, panels, vectors}), FLOATS, here, a, t, e))           \
    KERNEL(name##_halves, float_kernel(((shape){how, rows, panels, vectors}), HALVES, here, a, t, e))           \
    KERNEL(name##_brain, float_kernel(((shape){how, rows, panels, vectors}), BRAIN, here, a, t, e))             \
    static const kernel name[] = {[FLOATS] = name##_floats, [HALVES] = name##_halves, [BRAIN] = name##_brain};
EVERY_SIZE

const kernel_table avx512_floats[3] = TABLES;

END_LEVEL

#endif
