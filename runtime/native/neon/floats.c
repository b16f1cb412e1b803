/* Products with weights in 32 and 16 bits: see kernels.h. */
#ifdef __aarch64__

#include "kernels.h"
#include "tight.h"
#include "vectors.h"

/* Eight weights of a kind of floats, widened; exact. */
INLINE void widen(const int kind, const char *weights, float32x4_t *made) {
    if (kind == FLOATS) {
        made[0] = vld1q_f32((const float *)weights);
        made[1] = vld1q_f32((const float *)weights + 4);
        return;
    }
    const uint16x8_t narrow = vld1q_u16((const uint16_t *)weights);
    if (kind == HALVES) {
        made[0] = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(narrow)));
        made[1] = vcvt_high_f32_f16(vreinterpretq_f16_u16(narrow));
    } else {
        made[0] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(narrow), 16));
        made[1] = vreinterpretq_f32_u32(vshll_high_n_u16(narrow, 16));
    }
}

/* z[row][slot[v]] += a[row][0..count] @ weights for the next `here` vectors of a panel; rows of the matrix are `step`
 * bytes apart. */
INLINE void meet_vectors(const int kind, const int rows, const int here, const char *weights, size_t step, value a,
                         int count, target to) {
    const int size = kind == FLOATS ? 64 : 32; /* bytes of a vector */
    float32x4_t sum[ROWS][4][4];
    EACH(r, rows)
        EACH(v, here)
            EACH(q, 4) sum[r][v][q] = vld1q_f32(to.z + r * Z_ROW + to.slot[v] * 16 + q * 4);
    for (int k = 0; k < count; k += 4) {
        float32x4_t factor[ROWS];
        EACH(r, rows) factor[r] = vld1q_f32(a.floats + r * a.width + k);
        EACH(i, 4) {
            EACH(v, here)
                EACH(half, 2) {
                    float32x4_t column[2];
                    widen(kind, weights + v * size + half * (size / 2), column);
                    EACH(q, 2)
                        EACH(r, rows) {
                            float32x4_t *sums = &sum[r][v][2 * half + q];
                            *sums = vfmaq_f32(*sums, column[q], vdupq_n_f32(factor[r][i]));
                        }
                }
            weights += step;
        }
    }
    EACH(r, rows)
        EACH(v, here)
            EACH(q, 4) vst1q_f32(to.z + r * Z_ROW + to.slot[v] * 16 + q * 4, sum[r][v][q]);
}

INLINE void float_kernel(const int kind, const int rows, const part *here, const value *a, const target *t) {
    const product *m = here->m;
    const int at_once = AT_ONCE(24 / 4 / rows), size = kind == FLOATS ? 64 : 32, count = here->to - here->from;
    const size_t step = m->vectors * size;
    value from = *a;
    from.floats += here->from;
    for (int p = 0; p < here->panels; p++) {
        const char *weights = (const char *)m->weights + ((size_t)(here->panel + p) * m->rows + here->from) * step;
        target to = {t->z + p * t->panel, 0, t->slot};
        int left = m->vectors;
        for (; left >= at_once; left -= at_once, to.slot += at_once, weights += at_once * size)
            meet_vectors(kind, rows, at_once, weights, step, from, count, to);
        if (at_once > 1 && left) meet_vectors(kind, rows, REST(at_once), weights, step, from, count, to);
    }
}

/* A function for each kind, or its registers would be those of all. */
#define ONE_KIND(kind, rows)                                                                                 \
    static __attribute__((noinline)) void kind##_##rows(const part *here, const value *a, const target *t) { \
        float_kernel(kind, rows, here, a, t);                                                                \
    }
#define ONE_SIZE(rows)                                                                                       \
    ONE_KIND(FLOATS, rows)                                                                                   \
    ONE_KIND(HALVES, rows)                                                                                   \
    ONE_KIND(BRAIN, rows)                                                                                    \
    static void floats_##rows(const part *here, const value *a, const target *t, const errand *e) {          \
        (void)e;                                                                                             \
        const int kind = here->m->kind;                                                                      \
        (kind == FLOATS ? FLOATS_##rows : kind == HALVES ? HALVES_##rows : BRAIN_##rows)(here, a, t);        \
    }
ONE_SIZE(1)
ONE_SIZE(2)
ONE_SIZE(3)
ONE_SIZE(4)
ONE_SIZE(5)
ONE_SIZE(6)

const kernel_table neon_floats[3] = {TABLE(floats), TABLE(floats), TABLE(floats)};

#endif
