/* Products of many rows of a batch with weights in 8 bits, with AMX: a tile is 16 rows of 64 bytes, and one instruction
 * multiplies two of them. The weights lie as VNNI reads them. */

#ifdef __x86_64__

#include "kernels.h"

#ifdef TILES

#include "vectors.h"

#include "../lanes/kernels.h"

#ifdef __clang__
PRAGMA(clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,amx-tile,amx-int8"))), \
       apply_to = function))
#else
_Pragma("GCC push_options")
_Pragma("GCC target(\"avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,prefer-vector-width=512,amx-tile,amx-int8\")")
#endif

#define TILE_ROWS 16
#define TILE_BYTES 64

/* Tiles 0 to 3 are sums, 4 and 5 activations of `rows` texts, 6 and 7 weights. */
static void configure(int rows) {
    struct {
        uint8_t palette, start_row, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        shapes.bytes[tile] = TILE_BYTES;
        shapes.rows[tile] = tile < 6 ? rows : TILE_ROWS;
    }
    __asm__ volatile("" : : "r"(&shapes) : "memory"); /* the compiler thinks that 8 bytes of it are read */
    _tile_loadconfig(&shapes);
}

/* What a group of texts, or two, and some vectors of a panel are to one another. */
typedef struct {
    const uint8_t *first, *second; /* activations */
    size_t width;
    const int8_t *weights;
    size_t row_bytes; /* of four rows of the panel */
    const int32_t *start;
    int turns;
} meeting;

/* One vector and the first group. */
#define MEET(column, sums, weights)                                                                          \
    if (columns > (column)) {                                                                                \
        _tile_loadd(weights, w + (column) * TILE_BYTES, m->row_bytes);                                       \
        _tile_dpbusd(sums, 4, weights);                                                                      \
    }

/* One group and three or four vectors, or two groups and one or two. As int8_kernel: the sums are exact. */
INLINE void meet(const int groups, const int columns, const meeting *m, int32_t sums[4][TILE_ROWS][16]) {
    /* All rows begin with the same line: they are no bytes apart. */
    _tile_loadd(0, m->start, 0);
    if (columns > 1) _tile_loadd(1, m->start + 16, 0);
    if (groups > 1 || columns > 2) _tile_loadd(2, m->start + (groups > 1 ? 0 : 32), 0);
    if (groups > 1 ? columns > 1 : columns > 3) _tile_loadd(3, m->start + (groups > 1 ? 16 : 48), 0);
    const int8_t *w = m->weights;
    for (int k = 0; k < m->turns; k++, w += TILE_ROWS * m->row_bytes) {
        _tile_loadd(4, m->first + k * TILE_BYTES, m->width);
        MEET(0, 0, 6)
        MEET(1, 1, 7)
        if (groups > 1) {
            _tile_loadd(5, m->second + k * TILE_BYTES, m->width);
            _tile_dpbusd(2, 5, 6);
            if (columns > 1) _tile_dpbusd(3, 5, 7);
        } else {
            MEET(2, 2, 6)
            MEET(3, 3, 7)
        }
    }
    _tile_stored(0, sums[0], TILE_BYTES);
    if (columns > 1) _tile_stored(1, sums[1], TILE_BYTES);
    if (groups > 1 || columns > 2) _tile_stored(2, sums[2], TILE_BYTES);
    if (groups > 1 ? columns > 1 : columns > 3) _tile_stored(3, sums[3], TILE_BYTES);
}

/* What is met at once, as the compiler is to know it: a panel has three vectors or four. */
static void meet_columns(int groups, int columns, const meeting *m, int32_t sums[4][TILE_ROWS][16]) {
    if (groups > 1 && columns > 1) meet(2, 2, m, sums);
    else if (groups > 1) meet(2, 1, m, sums);
    else if (columns > 3) meet(1, 4, m, sums);
    else meet(1, 3, m, sums);
}

/* Sums of 16 outputs and some rows, from `first` of the batch on; `sums` begins with the same row. */
static void add_sums(const target *to, int panel, int vector, range rows, const float *scales, int32_t sums[][16]) {
    const vf scale = *(const vfu *)scales;
    for (int row = rows.first; row < rows.end; row++) {
        vfu *at = (vfu *)sums_at(to, panel, row, vector);
        *at += rounded_product((vf)_mm512_cvtepi32_ps(_mm512_load_si512(sums[row - rows.first])), scale);
    }
}

static int least(int a, int b) { return a < b ? a : b; }

/* Groups are of equal size. So the last one begins with rows that the one before has, which are added once. */
void avx512_tiles(const product *m, value a, int rows, range panels, target to) {
    const int height = least(rows, TILE_ROWS), vectors = m->vectors;
    const size_t row_bytes = (size_t)vectors * TILE_BYTES;
    int32_t sums[4][TILE_ROWS][16] __attribute__((aligned(64)));
    configure(height);
    for (int panel = panels.first; panel < panels.end; panel++)
        for (int row = 0; row < rows; row += 2 * height) {
            const int groups = row + height < rows ? 2 : 1, most = groups > 1 ? 2 : 4;
            const int begin[2] = {least(row, rows - height), least(row + height, rows - height)};
            for (int vector = 0; vector < vectors; vector += most) {
                const int columns = least(most, vectors - vector);
                const size_t at = (size_t)panel * vectors + vector;
                const meeting here = {
                    a.bytes + begin[0] * a.width,
                    a.bytes + begin[1] * a.width,
                    a.width,
                    (const int8_t *)m->weights + (size_t)panel * (m->rows / 4) * row_bytes + vector * TILE_BYTES,
                    row_bytes,
                    m->start + at * 16,
                    m->rows / TILE_BYTES,
                };
                meet_columns(groups, columns, &here, sums);
                for (int group = 0; group < groups; group++)
                    for (int c = 0; c < columns; c++) {
                        const int fresh = row + group * height, end = begin[group] + height;
                        add_sums(&to, panel, vector + c, (range){fresh, end}, m->scales + (at + c) * 16,
                                 sums[group * 2 + c] + fresh - begin[group]);
                    }
            }
        }
    _tile_release();
}

END_LEVEL

#endif
#endif
