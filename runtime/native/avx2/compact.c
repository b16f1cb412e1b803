/* Products with float32 weights in 28 bits: see compact.h. */

#ifdef __x86_64__

#include "../compact.h"

#include "kernels.h"
#include "strips.h"
#include "vectors.h"

#include "../lanes/tables.h"

LEVEL

/* Groups that are asked for in advance: with as much to compute for a byte some processors do not do it by
 * themselves. */
#define AHEAD 24

INLINE __m256i exponents_of(const product *m, int panel) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(m->exponents + panel * 16)));
}

/* Half of the numbers of a group, the first 8 of its four vectors or the others. */
INLINE void expand(const uint8_t *bytes, const uint8_t *places, __m256i exponents, vf *made) {
    const __m256i low = _mm256_loadu_si256((const __m256i *)bytes);
    const __m256i middle = _mm256_loadu_si256((const __m256i *)(bytes + 64));
    const __m256i high = _mm256_loadu_si256((const __m256i *)(bytes + 128));
    const __m256i two = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)places));
    const __m256i place = _mm256_and_si256(_mm256_or_si256(two, _mm256_slli_epi16(two, 4)), _mm256_set1_epi8(0x0f));
    const __m256i exponent = _mm256_shuffle_epi8(exponents, place);
    const __m256i ends[2] = {_mm256_unpacklo_epi8(low, middle), _mm256_unpackhi_epi8(low, middle)};
    const __m256i fronts[2] = {_mm256_unpacklo_epi8(high, exponent), _mm256_unpackhi_epi8(high, exponent)};
    EACH(v, 4) {
        const __m256i both = v % 2 ? _mm256_unpackhi_epi16(ends[v / 2], fronts[v / 2])
                                   : _mm256_unpacklo_epi16(ends[v / 2], fronts[v / 2]);
        /* Exponent, fraction, sign: one bit to the right makes it a float. */
        made[v] = (vf)_mm256_or_si256(_mm256_srli_epi32(both, 1), _mm256_slli_epi32(both, 31));
    }
}

INLINE void look_ahead(const int how, const uint8_t *bytes, const uint8_t *places) {
    if (!(how & LOOKING)) return;
    EACH(line, 3) __builtin_prefetch(bytes + AHEAD * GROUP_BYTES + line * 64);
    __builtin_prefetch(places + AHEAD * PLACES_BYTES);
}

/* `count` groups as floats. */
INLINE void open_groups(const int how, const product *m, int panel, size_t first, int count, float *opened) {
    const __m256i exponents = exponents_of(m, panel);
    const uint8_t *bytes = (const uint8_t *)m->weights + first * GROUP_BYTES;
    const uint8_t *places = m->places + first * PLACES_BYTES;
    for (int group = 0; group < count; group++, bytes += GROUP_BYTES, places += PLACES_BYTES, opened += 64) {
        look_ahead(how, bytes, places);
        EACH(half, 2) {
            vf made[4];
            expand(bytes + half * 32, places + half * 16, exponents, made);
            EACH(v, 4) *(vfu *)(opened + v * 16 + half * 8) = made[v];
        }
    }
}

void avx2_open_panels(const product *m, range panels, float *opened) {
    const size_t groups = groups_of(m->rows, m->vectors);
    for (int panel = panels.first; panel < panels.end; panel++)
        open_groups(LOOKING, m, panel, panel * groups, (int)groups, opened + panel * groups * 64);
}

/* One row of a batch: the numbers are multiplied as they are made. Three vectors a row: four rows are three groups. */
INLINE void add_one(const int how, const int vectors, const part *here, int panel, const value *value,
                    const target *t) {
    const product *m = here->m;
    const int together = vectors == 4 ? 1 : 4; /* rows of the matrix */
    const size_t first = (here->panel + panel) * groups_of(m->rows, vectors) + groups_of(here->from, vectors);
    const __m256i exponents = exponents_of(m, here->panel + panel);
    const uint8_t *bytes = (const uint8_t *)m->weights + first * GROUP_BYTES;
    const uint8_t *places = m->places + first * PLACES_BYTES;
    const float *a = value->floats + here->from;
    vf sum[8];
    EACH(c, 2 * vectors) sum[c] = *(const vfu *)eight_sums_at(t, panel, 0, c);
    for (int k = here->from; k < here->to; k += together, a += together)
        EACH(g, together * vectors / 4) {
            look_ahead(how, bytes, places);
            EACH(half, 2) {
                vf made[4];
                expand(bytes + half * 32, places + half * 16, exponents, made);
                EACH(v, 4) {
                    const int number = 4 * g + v;
                    sum[number % vectors * 2 + half] += all(a[number / vectors]) * made[v];
                }
            }
            bytes += GROUP_BYTES;
            places += PLACES_BYTES;
        }
    AGAIN(t);
    EACH(c, 2 * vectors) *(vfu *)eight_sums_at(t, panel, 0, c) = sum[c];
}

/* As float_kernel, without the outliers. Several rows meet numbers that were widened for a chunk: between chunks the memory
 * rests, so these are always asked for in advance. */
INLINE void compact_kernel(const shape s, const part *here, const value *value, const target *t, const errand *e) {
    const int vectors = s.vectors;
    const product *m = here->m;
    if (s.rows == 1) {
        for (int panel = 0; panel < s.panels; panel++) add_one(s.how, vectors, here, panel, value, t);
        return;
    }
    float room[CHUNK * 64] __attribute__((aligned(32)));
    for (int panel = 0; panel < s.panels; panel++)
        for (int from = here->from; from < here->to; from += CHUNK) {
            const int count = here->to - from < CHUNK ? here->to - from : CHUNK;
            const size_t first = (here->panel + panel) * groups_of(m->rows, vectors) + groups_of(from, vectors);
            float *made = s.how & LEAVING ? e->widened + (size_t)(from - here->from) * vectors * 16 : room;
            open_groups(LOOKING, m, here->panel + panel, first, (int)groups_of(count, vectors), made);
            const errand soon = {e->next + (from - here->from) * e->step, e->step, NULL};
            const chunk c = {made, value->floats + from, value->width, count};
            add_chunk((shape){s.how & FETCHING, s.rows, 1, vectors}, FLOATS, &c, t, panel, &soon);
        }
}

EVERY_COMPACT_SIZE

const kernel_table avx2_compact[2] = COMPACT_TABLES;

const kernel_table avx2_widening = WIDENING_TABLE;

END_LEVEL

#endif
