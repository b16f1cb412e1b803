/* Products with float32 weights in 28 bits: see compact.h. */
#ifdef __aarch64__

#include "../compact.h"

#include "kernels.h"
#include "tight.h"
#include "vectors.h"

/* Four numbers, 4 * part and on, of each vector of a group. */
INLINE void expand(const uint8_t *bytes, const uint8_t *places, uint8x16_t exponents, int part, float32x4_t *made) {
    const uint8x16_t low = vld1q_u8(bytes + 16 * part), middle = vld1q_u8(bytes + 64 + 16 * part);
    const uint8x16_t high = vld1q_u8(bytes + 128 + 16 * part);
    const uint8x8_t two = vld1_u8(places + 8 * part);
    const uint8x8x2_t place = vzip_u8(vand_u8(two, vdup_n_u8(15)), vshr_n_u8(two, 4));
    const uint8x16_t exponent = vqtbl1q_u8(exponents, vcombine_u8(place.val[0], place.val[1]));
    const uint16x8_t ends[2] = {vreinterpretq_u16_u8(vzip1q_u8(low, middle)), vreinterpretq_u16_u8(vzip2q_u8(low, middle))};
    const uint16x8_t fronts[2] = {vreinterpretq_u16_u8(vzip1q_u8(high, exponent)),
                                  vreinterpretq_u16_u8(vzip2q_u8(high, exponent))};
    /* Exponent, fraction, sign: one bit to the right makes it a float. */
    EACH(i, 4) {
        const uint16x8_t end = ends[i / 2], front = fronts[i / 2];
        const uint32x4_t bits = vreinterpretq_u32_u16(i % 2 ? vzip2q_u16(end, front) : vzip1q_u16(end, front));
        made[i] = vreinterpretq_f32_u32(vsliq_n_u32(vshrq_n_u32(bits, 1), bits, 31));
    }
}

/* So many groups from the first on, as float [4][16] each. */
static void open_groups(const product *m, int panel, size_t first, size_t count, float *opened) {
    const size_t start = panel * groups_of(m->rows, m->vectors) + first;
    const uint8x16_t exponents = vld1q_u8(m->exponents + panel * 16);
    for (size_t group = start; group < start + count; group++, opened += 64)
        EACH(part, 4) {
            float32x4_t made[4];
            expand((const uint8_t *)m->weights + group * GROUP_BYTES, m->places + group * PLACES_BYTES, exponents, part,
                   made);
            EACH(v, 4) vst1q_f32(opened + v * 16 + part * 4, made[v]);
        }
}

void neon_open_panels(const product *m, range panels, float *opened) {
    const size_t groups = groups_of(m->rows, m->vectors);
    for (int panel = panels.first; panel < panels.end; panel++)
        open_groups(m, panel, 0, groups, opened + panel * groups * 64);
}

/* As of other floats, without the outliers. Four rows at a time, which are as many groups as there are vectors. */
INLINE void compact_kernel(const int rows, const int vectors, const part *here, const value *a, const target *t) {
    const product *m = here->m;
    const int parts = rows == 1 ? 4 : 2; /* of a vector: 16 registers of sums, or 12 */
    const size_t panel_groups = groups_of(m->rows, vectors);
    for (int p = 0; p < here->panels; p++) {
        const size_t first = (here->panel + p) * panel_groups;
        const uint8x16_t exponents = vld1q_u8(m->exponents + (here->panel + p) * 16);
        for (int part = 0; part < 4; part += parts) {
            float *z = t->z + p * t->panel + part * 4;
            float32x4_t sum[2][4][4];
            EACH(r, rows)
                EACH(v, vectors)
                    EACH(c, parts) sum[r][v][c] = vld1q_f32(z + r * Z_ROW + t->slot[v] * 16 + c * 4);
            for (int k = here->from; k < here->to; k += 4) {
                const size_t group = first + groups_of(k, vectors);
                const uint8_t *bytes = (const uint8_t *)m->weights + group * GROUP_BYTES;
                const uint8_t *places = m->places + group * PLACES_BYTES;
                float32x4_t factor[2];
                EACH(r, rows) factor[r] = vld1q_f32(a->floats + r * a->width + k);
                EACH(g, vectors)
                    EACH(c, parts) {
                        float32x4_t column[4];
                        expand(bytes + g * GROUP_BYTES, places + g * PLACES_BYTES, exponents, part + c, column);
                        EACH(i, 4)
                            EACH(r, rows) {
                                const int number = 4 * g + i; /* of the vectors of four rows */
                                float32x4_t *to = &sum[r][number % vectors][c];
                                *to = vfmaq_f32(*to, column[i], vdupq_n_f32(factor[r][number / vectors]));
                            }
                    }
            }
            EACH(r, rows)
                EACH(v, vectors)
                    EACH(c, parts) vst1q_f32(z + r * Z_ROW + t->slot[v] * 16 + c * 4, sum[r][v][c]);
        }
    }
}

#define ONE_WIDTH(rows, vectors)                                                                             \
    static __attribute__((noinline)) void compact_##rows##_##vectors(const part *here, const value *a,       \
                                                                     const target *t) {                      \
        compact_kernel(rows, vectors, here, a, t);                                                           \
    }
#define FEW(rows)                                                                                            \
    ONE_WIDTH(rows, 3)                                                                                       \
    ONE_WIDTH(rows, 4)                                                                                       \
    static void compact_##rows(const part *here, const value *a, const target *t, const errand *e) {         \
        (void)e;                                                                                             \
        (here->m->vectors == 4 ? compact_##rows##_4 : compact_##rows##_3)(here, a, t);                       \
    }
FEW(1)
FEW(2)

/* More rows than two leave no registers to widen in: the rows of the matrix are widened first, for other rows of the
 * batch too. */
static void widening(kernel floats, const part *here, const value *a, const target *t, const errand *e) {
    const int count = here->to - here->from, vectors = here->m->vectors;
    const product wide = {.kind = FLOATS, .vectors = vectors, .rows = count, .weights = e->widened};
    value from = *a;
    from.floats += here->from;
    open_groups(here->m, here->panel, groups_of(here->from, vectors), groups_of(count, vectors), e->widened);
    floats(&(part){.m = &wide, .panels = 1, .to = count}, &from, t, e);
}

#define MORE(rows)                                                                                           \
    static void compact_##rows(const part *here, const value *a, const target *t, const errand *e) {         \
        widening(neon_floats[0][SLOT(rows)], here, a, t, e);                                                    \
    }
MORE(3)
MORE(4)
MORE(5)
MORE(6)

const kernel_table neon_compact[2] = {TABLE(compact), TABLE(compact)};

const kernel_table neon_widening = TABLE(compact);

#endif
