/* Products with float32 weights in 28 bits: see compact.h. */

#ifdef __x86_64__

#include "../compact.h"

#include "kernels.h"
#include "vectors.h"

#include "../lanes/kernels.h"
#include "../lanes/tables.h"

LEVEL

/* Groups that are asked for in advance: with as much to compute for a byte some processors do not do it by
 * themselves. */
#define AHEAD 24

INLINE __m512i exponents_of(const product *m, int panel) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(m->exponents + panel * 16)));
}

/* The numbers of a group. */
INLINE void expand(const int how, const uint8_t *bytes, const uint8_t *places, __m512i exponents, vf *made) {
    if (how & LOOKING) {
        for (int line = 0; line < GROUP_BYTES; line += 64)
            _mm_prefetch((const char *)bytes + AHEAD * GROUP_BYTES + line, _MM_HINT_T0);
        _mm_prefetch((const char *)places + AHEAD * PLACES_BYTES, _MM_HINT_T0);
    }
    const __m512i low = _mm512_loadu_si512(bytes), middle = _mm512_loadu_si512(bytes + 64);
    const __m512i high = _mm512_loadu_si512(bytes + 128);
    const __m512i two = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)places));
    const __m512i place = _mm512_and_si512(_mm512_or_si512(two, _mm512_slli_epi16(two, 4)), _mm512_set1_epi8(0x0f));
    const __m512i exponent = _mm512_shuffle_epi8(exponents, place);
    const __m512i ends[2] = {_mm512_unpacklo_epi8(low, middle), _mm512_unpackhi_epi8(low, middle)};
    const __m512i fronts[2] = {_mm512_unpacklo_epi8(high, exponent), _mm512_unpackhi_epi8(high, exponent)};
    /* Exponent, fraction, sign: one bit to the right makes it a float. */
    EACH(half, 2) {
        made[2 * half] = (vf)_mm512_ror_epi32(_mm512_unpacklo_epi16(ends[half], fronts[half]), 1);
        made[2 * half + 1] = (vf)_mm512_ror_epi32(_mm512_unpackhi_epi16(ends[half], fronts[half]), 1);
    }
}

void avx512_open_panels(const product *m, range panels, float *opened) {
    const size_t groups = groups_of(m->rows, m->vectors);
    for (int panel = panels.first; panel < panels.end; panel++) {
        const __m512i exponents = exponents_of(m, panel);
        for (size_t group = panel * groups; group < (panel + 1) * groups; group++) {
            vf made[4];
            expand(LOOKING, (const uint8_t *)m->weights + group * GROUP_BYTES, m->places + group * PLACES_BYTES,
                   exponents, made);
            EACH(v, 4) *(vfu *)(opened + group * 64 + v * 16) = made[v];
        }
    }
}

/* As float_kernel, without the outliers. Three vectors a row: four rows are three groups. */
INLINE void compact_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int rows = s.rows, panels = s.panels, vectors = s.vectors;
    const int panel = here->panel, from = here->from, to = here->to;
    const product *m = here->m;
    const float *a = value->floats;
    const size_t width = value->width;
    const int together = vectors == 4 ? 1 : 4; /* rows of the matrix */
    const size_t panel_groups = groups_of(m->rows, vectors);
    const uint8_t *bytes = (const uint8_t *)m->weights + panel * panel_groups * GROUP_BYTES;
    const uint8_t *places = m->places + panel * panel_groups * PLACES_BYTES;
    vf sum[ROWS * PANELS][4];
    __m512i exponents[PANELS];
    EACH(p, panels) exponents[p] = exponents_of(m, panel + p);
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                sum[p * rows + r][v] = *(const vfu *)sums_at(t, p, r, v);
    float *left = e->widened;
    for (int k = from; k < to; k += together) {
        EACH(i, together) fetch(s.how, e, k - from + i);
        EACH(p, panels) {
            const size_t first = p * panel_groups + groups_of(k, vectors);
            vf column[12];
            EACH(g, together * vectors / 4)
                expand(s.how, bytes + (first + g) * GROUP_BYTES, places + (first + g) * PLACES_BYTES, exponents[p],
                       column + 4 * g);
            if (s.how & LEAVING) {
                EACH(v, together * vectors) *(vfu *)(left + v * 16) = column[v];
                left += together * vectors * 16;
            }
            EACH(i, together)
                EACH(r, rows) {
                    vf factor = all(a[r * width + k + i]);
                    EACH(v, vectors) sum[p * rows + r][v] += factor * column[i * vectors + v];
                }
        }
    }
    AGAIN(t);
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                *(vfu *)sums_at(t, p, r, v) = sum[p * rows + r][v];
}

EVERY_COMPACT_SIZE

const kernel_table avx512_compact[2] = COMPACT_TABLES;

const kernel_table avx512_widening = WIDENING_TABLE;

END_LEVEL

#endif
