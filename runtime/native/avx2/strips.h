/* How AVX2's kernels walk a panel. It has 16 registers: a panel's sums for some rows do not fit, so a kernel meets
 * strips of it, columns of 8 outputs side by side, for CHUNK rows of the matrix at a time, which stay in the first
 * cache. */
#ifndef P2_AVX2_STRIPS_H
#define P2_AVX2_STRIPS_H
#ifdef __x86_64__

#include "vectors.h"

#include "../lanes/kernels.h"
#include "../types.h"

/* Turns of a kernel: 16 KiB of a panel. */
#define CHUNK 64

LEVEL

/* Columns of a strip, the last one may have fewer: with sums in 8 to 12 registers additions are under way all the time, and
 * the weights of a row and an activation have their place beside them. */
INLINE int columns_of(const shape s) {
    return s.rows == 1 ? 2 * s.vectors : s.rows <= 3 ? s.vectors : s.rows == 4 ? 3 : 2;
}

/* The place of 8 sums. */
INLINE float *eight_sums_at(const target *t, int panel, int row, int column) {
    return t->z + panel * t->panel + row * Z_ROW + t->slot[column / 2] * 16 + column % 2 * 8;
}

/* One of the parts of the chunk that follows, while this one is met: strips read lines too far apart for the processor to
 * see what comes. */
INLINE void ask_for_part(const char *next, int part, const int bytes) {
    next += (size_t)part * bytes;
    EACH(line, (bytes + 63) / 64) __builtin_prefetch(next + line * 64);
}

/* 8 weights of a kind of floats, widened; exact. */
INLINE vf widened(const int kind, const char *weights) {
    if (kind == FLOATS) return *(const vfu *)weights;
    const __m128i narrow = _mm_loadu_si128((const __m128i *)weights);
    if (kind == HALVES) return (vf)_mm256_cvtph_ps(narrow);
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16);
}

/* sum[row][column] += a[row] * weights: what is fewer, rows or columns, waits in registers. */
INLINE void add_row(const int rows, const int columns, const int kind, const char *weights, const float *a,
                    const size_t width, vf (*sum)[8]) {
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
    vf column[8];
    EACH(c, columns) column[c] = widened(kind, weights + c * size);
    EACH(r, rows) {
        const vf factor = all(a[r * width]);
        EACH(c, columns) sum[r][c] += factor * column[c];
    }
}

/* z[panel][row][slot[v]] += a @ weights, for the strip of a chunk that begins with a column. An errand's steps are for
 * all columns of a turn. */
INLINE void add_strip(const shape s, const int kind, const chunk *some, const target *t, int panel, const errand *e,
                      const int columns, int first) {
    const int rows = s.rows, all = 2 * s.vectors, count = some->count;
    const size_t size = kind == FLOATS ? 32 : 16, turn = all * size;
    const char *weights = (const char *)some->weights + first * size;
    const char *next = (const char *)some->weights + count * (turn + first * size);
    const errand part = {e->next + count * first * (e->step / all), columns * (e->step / all), NULL};
    const float *a = some->a;
    vf sum[ROWS][8];
    EACH(r, rows)
        EACH(c, columns)
            sum[r][c] = *(const vfu *)eight_sums_at(t, panel, r, first + c);
    for (int k = 0; k < count; k++, weights += turn, a++) {
        fetch(s.how, &part, k);
        look(s.how, weights, columns * (int)size);
        if (columns < all) ask_for_part(next, k, columns * (int)size);
        add_row(rows, columns, kind, weights, a, some->width, sum);
    }
    AGAIN(t);
    EACH(r, rows)
        EACH(c, columns)
            *(vfu *)eight_sums_at(t, panel, r, first + c) = sum[r][c];
}

/* The same for all of a chunk. */
INLINE void add_chunk(const shape s, const int kind, const chunk *some, const target *t, int panel, const errand *e) {
    const int columns = columns_of(s), all = 2 * s.vectors, rest = all % columns;
    for (int first = 0; first + columns <= all; first += columns) add_strip(s, kind, some, t, panel, e, columns, first);
    if (rest) add_strip(s, kind, some, t, panel, e, rest, all - rest);
}

END_LEVEL

#endif
#endif
