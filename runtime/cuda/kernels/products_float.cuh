/* Products of float32 matrices: a warp takes whole rows, its lanes the numbers of a row.
 *
 * A row is summed in pieces of PIECE numbers: each lane adds its eight, lanes are added in a tree, pieces one after the
 * other. That order is the same for any number of texts and blocks, so a text is the same to the last bit. */
#ifndef P2_PRODUCTS_FLOAT_CUH
#define P2_PRODUCTS_FLOAT_CUH

#include "states.cuh"

enum { PIECE = 256, EACH = 4, TURNS = PIECE / (32 * EACH) };

/* Sums of N numbers over the lanes: afterwards lane i has that of number i * N / 32. N is a power of two up to 32. */
template <int N> DEVICE float reduced(float (&a)[N]) {
#pragma unroll
    for (int mask = 16, left = N; mask; mask >>= 1) {
        if (left > 1) {
            left >>= 1;
            const bool upper = lane() & mask;
#pragma unroll
            for (int i = 0; i < N / 2; i++)
                if (i < left) {
                    const float kept = upper ? a[i + left] : a[i], given = upper ? a[i] : a[i + left];
                    a[i] = kept + shuffle_xor(given, mask);
                }
        } else {
            a[0] += shuffle_xor(a[0], mask);
        }
    }
    return a[0];
}

DEVICE float dot(const Four &w, const float *x, float sum) {
    const Four v = *(const Four *)x;
    sum = fused(from_bits(w.x), from_bits(v.x), sum);
    sum = fused(from_bits(w.y), from_bits(v.y), sum);
    sum = fused(from_bits(w.z), from_bits(v.z), sum);
    return fused(from_bits(w.w), from_bits(v.w), sum);
}

/* Pieces `from` to `from + PIECES` of R rows times S values in shared memory; see `reduced` for which sum a lane has.
 *
 * x: where number 0 of piece `from` of the first value is, `stride` numbers from one value to the next. */
template <int R, int PIECES, int S, typename Load>
DEVICE void pieces(Load load, int from, const float *x, int stride, float (&sums)[R]) {
    Four w[PIECES][TURNS][R];
#pragma unroll
    for (int p = 0; p < PIECES; p++)
#pragma unroll
        for (int turn = 0; turn < TURNS; turn++)
#pragma unroll
            for (int r = 0; r < R; r++) {
                const int k = (from + p) * PIECE + turn * 32 * EACH + lane() * EACH;
                w[p][turn][r] = Four{0, 0, 0, 0};
                if (k < KP) w[p][turn][r] = load(r, k);
            }
#pragma unroll
    for (int r = 0; r < R; r++) {
        float a[PIECES * S];
#pragma unroll
        for (int p = 0; p < PIECES; p++)
#pragma unroll
            for (int s = 0; s < S; s++) {
                float sum = 0;
#pragma unroll
                for (int turn = 0; turn < TURNS; turn++) {
                    const int k = p * PIECE + turn * 32 * EACH + lane() * EACH;
                    if (from * PIECE + k < KP) sum = dot(w[p][turn][r], x + s * stride + k, sum);
                }
                a[p * S + s] = sum;
            }
        sums[r] = reduced(a);
    }
}

/* sums[stream][ROWS] = rows of this block times the values at x, float [STREAMS][KP] in shared memory. */
template <int ROWS> DEVICE void product(const Product &p, const char *shared, const char *x, float *sums) {
    constexpr int WARPS = THREADS / 32;
    constexpr int PIECES = STREAMS >= 4 ? 1 : 4 / STREAMS, N = PIECES * STREAMS;
    constexpr int R = ROWS >= 4 * WARPS && STREAMS >= 2 ? 4 : ROWS >= 2 * WARPS ? 2 : 1;
    const float *weights = (const float *)p.weights + (i64)block() * ROWS * KP;
    const float *resident = (const float *)(shared + p.place);
    for (int row = warp() * R; row < ROWS; row += WARPS * R) {
        const bool near = row + R <= p.resident;
        float total[R];
#pragma unroll
        for (int r = 0; r < R; r++) total[r] = 0;
        for (int from = 0; from * PIECE < KP; from += PIECES) {
            float found[R];
            const float *values = (const float *)x + from * PIECE;
            const auto load_near = [&](int r, int k) { return *(const Four *)(resident + (i64)(row + r) * KP + k); };
            const auto load_far = [&](int r, int k) {
                return row + r < ROWS ? load_stream((const Four *)(weights + (i64)(row + r) * KP + k))
                                      : Four{0, 0, 0, 0};
            };
            if (near) pieces<R, PIECES, STREAMS>(load_near, from, values, KP, found);
            else pieces<R, PIECES, STREAMS>(load_far, from, values, KP, found);
#pragma unroll
            for (int r = 0; r < R; r++) {
                if (PIECES == 1) total[r] += found[r];
                else
#pragma unroll
                    for (int piece = 0; piece < PIECES; piece++) /* of the lane's own text, one after the other */
                        total[r] += shuffle(found[r], (piece * STREAMS + lane() * N / 32 % STREAMS) * (32 / N));
            }
        }
        if (lane() % (32 / N) == 0 && lane() * N / 32 < STREAMS)
#pragma unroll
            for (int r = 0; r < R; r++)
                if (row + r < ROWS) sums[lane() * N / 32 * ROWS + row + r] = total[r];
    }
}

#if MANY
/* The same for many texts and two matrices that meet the same values, which stay with the other blocks' [STREAMS][KP]
 * and come into shared memory piece after piece. */
template <int ROWS_A, int ROWS_B>
DEVICE void products(const Job &j, const Product *a, const Product *b, char *shared, const exchanged *values,
                     float *sums_a, float *sums_b) {
    constexpr int WARPS = THREADS / 32, R = 4, S = 8;
    constexpr int GROUPS_A = (ROWS_A + R - 1) / R, GROUPS = GROUPS_A + (ROWS_B + R - 1) / R;
    float *stage = (float *)(shared + AT_X);
    for (int from = 0; from * PIECE < KP; from++) {
        sync();
        for (int i = thread() * EACH; i < STREAMS * PIECE; i += THREADS * EACH) {
            const int s = i / PIECE, k = from * PIECE + i % PIECE;
            Four v = {0, 0, 0, 0};
            if (s < j.streams && k < KP) v = load_l2((const Four *)(values + s * KP + k));
            *(Four *)(stage + i) = v;
        }
        sync();
        for (int item = warp(); item < GROUPS * (STREAMS / S); item += WARPS) {
            const int group = item % GROUPS, first = item / GROUPS * S;
            const bool second = group >= GROUPS_A;
            const int row = (second ? group - GROUPS_A : group) * R, rows = second ? ROWS_B : ROWS_A;
            const Product &p = second ? *b : *a;
            float *sums = second ? sums_b : sums_a;
            const float *weights = (const float *)p.weights + (i64)block() * rows * KP;
            const float *resident = (const float *)(shared + p.place);
            const bool near = row + R <= p.resident;
            float found[R];
            const auto load = [&](int r, int k) {
                if (near) return *(const Four *)(resident + (i64)(row + r) * KP + k);
                return row + r < rows ? load_stream((const Four *)(weights + (i64)(row + r) * KP + k)) : Four{0, 0, 0, 0};
            };
            pieces<R, 1, S>(load, from, stage + first * PIECE, PIECE, found);
            if (lane() % (32 / S) == 0)
#pragma unroll
                for (int r = 0; r < R; r++)
                    if (row + r < rows) {
                        float *sum = sums + (first + lane() * S / 32) * rows + row + r;
                        *sum = (from ? *sum : 0.0f) + found[r];
                    }
        }
    }
    sync();
}
#endif

#endif
