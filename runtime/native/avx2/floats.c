/* Products with weights in 32 and 16 bits. AVX2 has 16 registers: several rows of a batch have room for the sums of a part of
 * a panel only. So weights lie in strips, see types.h: the sums stay in registers for a whole piece, and for one row a strip
 * is read from its beginning to its end, at the pace of the memory. */

#ifdef __x86_64__

#include "kernels.h"

#include "vectors.h"

#include "../lanes/kernels.h"
#include "../lanes/tables.h"

LEVEL

/* 8 weights of a kind of floats, widened; exact. */
INLINE vf widened(const int kind, const char *weights) {
    if (kind == FLOATS) return *(const vfu *)weights;
    const __m128i narrow = _mm_loadu_si128((const __m128i *)weights);
    if (kind == HALVES) return (vf)_mm256_cvtph_ps(narrow);
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16);
}

/* sum[row][column] += a[row] * weights: what is fewer, rows or columns, waits in registers. */
INLINE void add_row(const int rows, const int columns, const int kind, const char *weights, const float *a,
                    const size_t width, vf (*sum)[4]) {
    const size_t size = kind == FLOATS ? 32 : 16;
    if (rows < columns) {
        vf factor[ROWS];
        EACH(r, rows) factor[r] = all(a[r * width]);
        EACH(c, columns) {
            const vf column = widened(kind, weights + c * size);
            EACH(r, rows) sum[r][c] += factor[r] * column;
        }
        return;
    }
    vf column[4];
    EACH(c, columns) column[c] = widened(kind, weights + c * size);
    EACH(r, rows) {
        const vf factor = all(a[r * width]);
        EACH(c, columns) sum[r][c] += factor * column[c];
    }
}

/* What is asked for into the first cache lies so many rows of the matrix ahead. */
#define ROWS_AHEAD 16

/* z[row][slot[v]] += a[row] @ weights, for `columns` of a stretch from its weights on; `lines` of 64 bytes are asked for in
 * each of its rows. An errand's step is that of all its columns. */
INLINE void meet(const shape s, const int kind, const stretch some, const int columns, const int lines, const target *t,
                 const errand *e) {
    const int rows = s.rows, how = rows < 3 ? s.how : FETCHING;
    const size_t size = kind == FLOATS ? 32 : 16, turn = some.columns * size;
    const errand part = {e->next, e->step * columns / some.columns, NULL};
    const char *weights = some.weights;
    const float *a = some.a;
    vf sum[ROWS][4];
    EACH(r, rows)
        EACH(c, columns)
            sum[r][c] = *(const vfu *)eight_sums_at(t, 0, r, some.first + c);
    for (int k = 0; k < some.count; k++, weights += turn, a++) {
        fetch(how, &part, k);
        look(how, weights, columns * (int)size);
        EACH(line, lines) __builtin_prefetch(weights + ROWS_AHEAD * turn + line * 64);
        add_row(rows, columns, kind, weights, a, some.width, sum);
    }
    AGAIN(t);
    EACH(r, rows)
        EACH(c, columns)
            *(vfu *)eight_sums_at(t, 0, r, some.first + c) = sum[r][c];
}

/* The same for all columns of a strip. With as little to compute as for one row or two the processor sees by itself what
 * comes; for more it is told, wherever the weights lie. With more than three rows there is room for the sums of half of a
 * strip, and the other half has come with it. */
INLINE void meet_strip(const shape s, const int kind, const stretch strip, const target *t, const errand *e) {
    const size_t size = kind == FLOATS ? 32 : 16;
    const int all = strip.columns, lines = all * (int)size / 64;
    if (s.rows <= 3 || all == 2) {
        meet(s, kind, strip, all, s.rows < 3 ? 0 : lines, t, e);
        return;
    }
    stretch half = strip;
    half.weights += 2 * size;
    half.first += 2;
    const errand later = {e->next + strip.count * (e->step / 2), e->step, NULL};
    meet(s, kind, strip, 2, lines, t, e);
    meet(s, kind, half, 2, 0, t, &later);
}

/* z[panel][row][slot[v]] += a[row][from..to] @ weights, for weights of any kind of floats. */
INLINE void float_kernel(const shape s, const int kind, const part *here, const value *value, const target *t,
                         const errand *e) {
    const product *m = here->m;
    const size_t size = kind == FLOATS ? 64 : 32; /* of a vector */
    for (int panel = 0; panel < s.panels; panel++) {
        const target to = {t->z + panel * t->panel, 0, t->slot};
        for (int from = here->from; from < here->to; from += PIECE) {
            const int count = here->to - from < PIECE ? here->to - from : PIECE;
            const size_t before = ((size_t)(here->panel + panel) * m->rows + from) * s.vectors;
            const char *weights = (const char *)m->weights + before * size;
            const float *a = value->floats + from;
            errand soon = {e->next + (from - here->from) * e->step, e->step * 2 / s.vectors, NULL};
            int first = 0;
            for (; first + 4 <= 2 * s.vectors; first += 4, weights += 2 * count * size) {
                meet_strip(s, kind, (stretch){weights, a, value->width, count, first, 4}, &to, &soon);
                soon.next += count * soon.step;
            }
            soon.step /= 2;
            if (s.vectors % 2) meet_strip(s, kind, (stretch){weights, a, value->width, count, first, 2}, &to, &soon);
        }
    }
}

#define KERNELS(name, how, rows, panels, vectors)                                                               \
    KERNEL(name##_floats, float_kernel(((shape){how, rows, panels, vectors}), FLOATS, here, a, t, e))           \
    KERNEL(name##_halves, float_kernel(((shape){how, rows, panels, vectors}), HALVES, here, a, t, e))           \
    KERNEL(name##_brain, float_kernel(((shape){how, rows, panels, vectors}), BRAIN, here, a, t, e))             \
    static const kernel name[] = {[FLOATS] = name##_floats, [HALVES] = name##_halves, [BRAIN] = name##_brain};
EVERY_SIZE

const kernel_table avx2_floats[3] = TABLES;

END_LEVEL

#endif
