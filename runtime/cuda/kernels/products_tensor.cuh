/* Products of all other matrices, by tensor cores: 16 rows of weights meet 8 texts at once. One text costs what eight do,
 * so there is no other way for one: a text is the same to the last bit in any batch.
 *
 * Weights lie in memory as the lanes need them, 16 bytes each for a tile of 16 rows and TILE_K numbers (packing.py).
 * With floats a row is summed in PARTS equal parts of its length, which are added one after the other. Integers may be
 * added in any order up to a block that has a scale of its own; blocks one after the other (contract/integers.py). */
#ifndef P2_PRODUCTS_TENSOR_CUH
#define P2_PRODUCTS_TENSOR_CUH

#include "states.cuh"

enum { TILE_K = KIND == INT4 ? 64 : KIND == FLOAT8 || KIND == INT8 ? 32 : 16, TILES = KP / TILE_K, PARTS = 8 };
enum { X_STRIDE = AT_X_STRIDE }; /* bytes from one text to the next in shared memory */

#if INTEGERS
typedef i32 sum_type;
#else
typedef float sum_type;
#endif

DEVICE constexpr int tiles_of(int rows) { return (rows + 15) / 16; }
DEVICE constexpr int padded(int rows) { return tiles_of(rows) * 16; }

/* Two bytes of FLOAT8 as two of half, less a factor of 256, which `finished` makes good. */
DEVICE u32 two_halves(u32 v) {
    return (v & 0x80) << 8 | (v & 0x7f) << 7 | (v & 0x8000) << 16 | (v & 0x7f00) << 15;
}

/* The numbers of a text that a lane multiplies with; zeros where there is no such text. */
DEVICE Two pair(const char *x, int n) {
    return n < STREAMS ? *(const Two *)(x + n * X_STRIDE) : Two{0, 0};
}
DEVICE u32 single(const char *x, int n) { return n < STREAMS ? *(const u32 *)(x + n * X_STRIDE) : 0; }

/* One tile times texts n0 to n0 + 7. x: where the tile's numbers of the first text are. With INT4 sums are 16 times what
 * they say: a number stands in the upper half of its byte. `part`: INT4: which half of the tile; then which half of that,
 * or both. */
template <int HALVES_OF_BLOCK = 3>
DEVICE void multiply(sum_type c[4], const Four &w, const char *x, int n0, int part = 0) {
    const int n = n0 + (lane() >> 2), t = lane() & 3;
#if KIND == FLOAT8
    const Two first = pair(x + 8 * t, n), second = pair(x + 32 + 8 * t, n);
    const u32 a[4] = {two_halves(w.x & 0xffff), two_halves(w.x >> 16), two_halves(w.y & 0xffff), two_halves(w.y >> 16)};
    const u32 b[2] = {first.x, first.y};
    multiply_half(c, a, b);
    const u32 d[4] = {two_halves(w.z & 0xffff), two_halves(w.z >> 16), two_halves(w.w & 0xffff), two_halves(w.w >> 16)};
    const u32 e[2] = {second.x, second.y};
    multiply_half(c, d, e);
#elif KIND == INT8
    const u32 a[4] = {w.x, w.y, w.z, w.w}, b[2] = {single(x + 4 * t, n), single(x + 16 + 4 * t, n)};
    multiply_bytes(c, a, b);
#elif KIND == INT4
    const u32 upper = 0xf0f0f0f0u, low = part ? w.z : w.x, high = part ? w.w : w.y;
    const u32 a[4] = {HALVES_OF_BLOCK & 1 ? low << 4 & upper : 0, HALVES_OF_BLOCK & 1 ? high << 4 & upper : 0,
                      HALVES_OF_BLOCK & 2 ? low & upper : 0, HALVES_OF_BLOCK & 2 ? high & upper : 0};
    const char *half = x + part * 32 + 4 * t;
    const u32 b[2] = {single(half, n), single(half + 16, n)};
    multiply_bytes(c, a, b);
#else
    const Two v = pair(x + 8 * t, n);
    const u32 a[4] = {w.x, w.y, w.z, w.w}, b[2] = {v.x, v.y};
    multiply_short(c, a, b);
#endif
}

/* The sum of a whole row as a float, before blocks or inputs are added. */
DEVICE float finished(sum_type sum, const float *scales, int row) {
#if KIND == INT4
    return mul((float)(sum >> 4), scales[row]);
#elif KIND == INT8
    return mul((float)sum, scales[row]);
#elif KIND == FLOAT8
    return sum * 256.0f * scales[row];
#else
    return sum;
#endif
}

/* A tile of `matrix` for this lane: from shared memory, or streamed. */
DEVICE Four weight(const Four *tiles, bool near, int number) {
    const Four *at = tiles + (i64)number * 32 + lane();
    return near ? *at : load_stream(at);
}

/* Put a lane's four sums where they belong: [text][rows]; `keep` makes of each what is kept. */
template <typename T, typename Keep> DEVICE void put(T *sums, int rows, int row, int n0, const sum_type c[4], Keep keep) {
    const int q = lane() >> 2, n = n0 + 2 * (lane() & 3);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int s = n + (i & 1), r = row + q + (i & 2) * 4;
        if (s < STREAMS) sums[s * rows + r] = keep(c[i], r);
    }
}

/* ---- up to eight texts: warps share the tiles and the length of the rows ---- */

#if !MANY

/* sums[text][padded(ROWS)] = rows of this block times the values at x in shared memory. `scratch` holds
 * [PARTS][STREAMS][padded(ROWS)] sums. All threads; they have met when it returns. */
template <int ROWS>
DEVICE void product_in_parts(const Product &p, const char *shared, const char *x, float *sums, sum_type *scratch) {
    constexpr int WARPS = THREADS / 32, M = tiles_of(ROWS), WIDTH = padded(ROWS);
    constexpr int SHARE = M >= WARPS ? 1 : WARPS / M >= PARTS ? PARTS : WARPS / M >= 4 ? 4 : WARPS / M >= 2 ? 2 : 1;
    for (int item = warp(); item < M * SHARE; item += WARPS) {
        const int tile = item % M, share = item / M;
        const bool near = tile < p.resident;
        const Four *tiles = near ? (const Four *)(shared + p.place) : (const Four *)p.weights + (i64)block() * M * TILES * 32;
        tiles += (i64)tile * TILES * 32;
        for (int part = share * (PARTS / SHARE); part < (share + 1) * (PARTS / SHARE); part++) {
            const int to = (part + 1) * TILES / PARTS;
            sum_type c[4] = {0, 0, 0, 0};
            for (int k = part * TILES / PARTS; k < to; k += AHEAD) {
                Four w[AHEAD];
#pragma unroll
                for (int i = 0; i < AHEAD; i++)
                    if (k + i < to) w[i] = weight(tiles, near, k + i);
#pragma unroll
                for (int i = 0; i < AHEAD; i++)
                    if (k + i < to) {
                        const char *values = x + (k + i) * TILE_K * (int)sizeof(exchanged);
                        multiply(c, w[i], values, 0);
                        if (KIND == INT4) multiply(c, w[i], values, 0, 1);
                    }
            }
            put(scratch + part * STREAMS * WIDTH, WIDTH, tile * 16, 0, c, [](sum_type sum, int) { return sum; });
        }
    }
    sync();
    const float *scales = p.scales ? p.scales + (i64)block() * WIDTH : nullptr;
    for (int i = thread(); i < STREAMS * WIDTH; i += THREADS) {
        sum_type sum = 0;
#pragma unroll
        for (int part = 0; part < PARTS; part++) sum += scratch[part * STREAMS * WIDTH + i];
        sums[i] = finished(sum, scales, i % WIDTH);
    }
    sync();
}

#if KIND == INT4
/* sums[block of the scales][text][padded(ROWS)], to be added one after the other. Blocks are 16 to 128 rows. */
template <int ROWS> DEVICE void product_in_blocks(const Product &p, const char *shared, const char *x, float *sums) {
    constexpr int WARPS = THREADS / 32, M = tiles_of(ROWS), WIDTH = padded(ROWS);
    const int blocks_of = HIDDEN / p.block, together = p.block > TILE_K ? p.block / TILE_K : 1;
    const int groups = (TILES + together - 1) / together;
    const float *scales = p.scales + (i64)block() * blocks_of * WIDTH;
    for (int item = warp(); item < M * groups; item += WARPS) {
        const int tile = item % M, first = item / M * together;
        const bool near = tile < p.resident;
        const Four *tiles = near ? (const Four *)(shared + p.place) : (const Four *)p.weights + (i64)block() * M * TILES * 32;
        tiles += (i64)tile * TILES * 32;
        sum_type c[4] = {0, 0, 0, 0};
        const auto flush = [&](int number) {
            if (number < blocks_of)
                put(sums + number * STREAMS * WIDTH, WIDTH, tile * 16, 0, c,
                    [&](sum_type sum, int row) { return finished(sum, scales + number * WIDTH, row); });
            for (int i = 0; i < 4; i++) c[i] = 0;
        };
        for (int k = first; k < first + together && k < TILES; k++) {
            const Four w = weight(tiles, near, k);
            const char *values = x + k * TILE_K;
            for (int part = 0; part < 2; part++) {
                const int at = k * TILE_K + part * 32; /* of the row */
                if (p.block == 16) {
                    multiply<1>(c, w, values, 0, part);
                    flush(at / 16);
                    multiply<2>(c, w, values, 0, part);
                    flush(at / 16 + 1);
                } else {
                    multiply(c, w, values, 0, part);
                    if ((at + 32) % p.block == 0) flush(at / p.block);
                }
            }
        }
    }
    sync();
}
#endif

template <int ROWS>
DEVICE void product(const Product &p, const char *shared, const char *x, float *sums, sum_type *scratch) {
#if KIND == INT4
    if (p.block) {
        product_in_blocks<ROWS>(p, shared, x, sums);
        return;
    }
#endif
    product_in_parts<ROWS>(p, shared, x, sums, scratch);
}

#else

/* ---- more texts: each warp takes a tile and some of the texts, over the whole length ---- */

/* Both matrices meet the same values, which stay with the other blocks' [STREAMS][KP] and come into shared memory part
 * after part. Scales of a whole row only. */
template <int ROWS_A, int ROWS_B>
DEVICE void products(const Job &j, const Product *a, const Product *b, char *shared, const exchanged *values,
                     float *sums_a, float *sums_b) {
    constexpr int WARPS = THREADS / 32, MA = tiles_of(ROWS_A), M = MA + tiles_of(ROWS_B), EIGHTS = STREAMS / 8;
    /* Eights of texts that a warp takes, so that all tiles are under way at once if they can be. */
    constexpr int N = M * EIGHTS <= WARPS ? 1 : M * EIGHTS <= 2 * WARPS ? 2 : M * EIGHTS <= 4 * WARPS ? 4 : EIGHTS;
    constexpr int OWN = N < EIGHTS ? N : EIGHTS, ITEMS = M * (EIGHTS / OWN);
    char *stage = shared + AT_X;
    for (int round = 0; round < ITEMS; round += WARPS) {
        const int item = round + warp(), tile = item % M, first = item / M * OWN;
        const bool active = item < ITEMS, second = tile >= MA;
        const Product &p = second ? *b : *a;
        const int own = second ? tile - MA : tile, width = second ? padded(ROWS_B) : padded(ROWS_A);
        const bool near = own < p.resident;
        const Four *tiles =
            near ? (const Four *)(shared + p.place) : (const Four *)p.weights + (i64)block() * (width / 16) * TILES * 32;
        tiles += (i64)own * TILES * 32;
        sum_type total[OWN][4];
#pragma unroll
        for (int n = 0; n < OWN; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) total[n][i] = 0;
        for (int part = 0; part < PARTS; part++) {
            const int from = part * TILES / PARTS, to = (part + 1) * TILES / PARTS;
            constexpr int EACH = 16 / sizeof(exchanged);
            sync();
            const int length = (to - from) * TILE_K / EACH; /* pieces of 16 bytes */
            for (int i = thread(); i < STREAMS * length; i += THREADS) {
                const int s = i / length, k = i % length;
                Four v = {0, 0, 0, 0};
                if (s < j.streams) v = load_l2((const Four *)(values + (i64)s * KP + from * TILE_K) + k);
                *(Four *)(stage + s * X_STRIDE + k * 16) = v;
            }
            sync();
            if (!active) continue;
            sum_type c[OWN][4];
#pragma unroll
            for (int n = 0; n < OWN; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) c[n][i] = 0;
            for (int k = from; k < to; k++) {
                const Four w = weight(tiles, near, k);
                const char *x = stage + (k - from) * TILE_K * (int)sizeof(exchanged);
#pragma unroll
                for (int n = 0; n < OWN; n++) {
                    multiply(c[n], w, x, (first + n) * 8);
                    if (KIND == INT4) multiply(c[n], w, x, (first + n) * 8, 1);
                }
            }
#pragma unroll
            for (int n = 0; n < OWN; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) total[n][i] += c[n][i];
        }
        if (active) {
            const float *scales = p.scales ? p.scales + (i64)block() * width : nullptr;
            for (int n = 0; n < OWN; n++)
                put(second ? sums_b : sums_a, width, own * 16, (first + n) * 8, total[n],
                    [&](sum_type sum, int row) { return finished(sum, scales, row); });
        }
    }
    sync();
}
#endif

#endif
