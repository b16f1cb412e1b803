/* The cells: what a block's own units become, and what the other blocks are told of it. */
#ifndef P2_CELLS_CUH
#define P2_CELLS_CUH

#include "states.cuh"
#if KIND == FLOAT32
#include "products_float.cuh"
#define WIDTH(rows) (rows)
#else
#include "products_tensor.cuh"
#define WIDTH(rows) padded(rows)
#endif

/* Rows of a unit in the matrices of input and state, and its biases (packing.py). */
enum {
    GATES_X = CELL == RNN ? 1 : CELL == LSTM ? 4 : 3,
    GATES_H = CELL == RNN ? 1 : CELL == LSTM ? 4 : CELL == GRU_AFTER ? 3 : 2,
    BIASES = CELL == RNN ? 1 : STAGED ? 3 : 4,
    ROWS_X = UNITS * GATES_X,
    ROWS_H = UNITS * GATES_H,
};

/* Sums of a matrix: [blocks of its scales][STREAMS][width]. */
struct Sums {
    const float *at; /* NULL where there are none */
    int blocks, width;
};

DEVICE float added(float begun, const Sums &sums, int s, int row) {
    if (sums.at)
        for (int b = 0; b < sums.blocks; b++) begun = add(begun, sums.at[(b * STREAMS + s) * sums.width + row]);
    return begun;
}

/* What the units of this block are made of, in one layer. [STREAMS][UNITS] numbers each. */
struct Own {
    float *h, *c, *update; /* c: LSTM; update: STAGED */
    exchanged *told;       /* fused logits: h as the others see it */
};

/* Call `f(unit of this block, text, unit of the layer)` for what there is of them. */
template <typename F> DEVICE void each_unit(const Job &j, F f) {
    for (int i = thread(); i < UNITS * j.streams; i += THREADS) {
        const int u = i % UNITS, s = i / UNITS, unit = block() * UNITS + u;
        if (unit < HIDDEN) f(u, s, unit);
    }
}

/* Advance the units. Where STAGED only r and z: r * h is told, and `candidates` does the rest.
 *
 * biases(s): those of the layer for a text. tell(s, unit, number): for the other blocks. */
template <typename Biases, typename Tell>
DEVICE void advance(const Job &j, const Own &own, const Sums &x, const Sums &h, Biases biases, Tell tell) {
    each_unit(j, [&](int u, int s, int unit) {
        const float *b = biases(s) + (i64)unit * BIASES;
        [[maybe_unused]] const int at = s * UNITS + u;
        const auto both = [&](int gate) { return added(added(0, x, s, u * GATES_X + gate), h, s, u * GATES_H + gate); };
#if CELL == RNN
        const float fresh = tangent(add(both(0), b[0]));
#elif CELL == LSTM
        const float input = gate(add(both(0), b[0])), forget = gate(add(both(1), b[1])), output = gate(add(both(2), b[2]));
        const float c = plus_product(mul(forget, own.c[at]), input, tangent(add(both(3), b[3])));
        own.c[at] = c;
        const float fresh = mul(output, tangent(c));
#elif CELL == GRU_AFTER
        const float reset = gate(add(both(0), b[0])), update = gate(add(both(1), b[1]));
        const float from_input = add(added(0, x, s, u * GATES_X + 2), b[2]);
        const float from_state = add(added(0, h, s, u * GATES_H + 2), b[3]);
        const float n = tangent(plus_product(from_input, reset, from_state));
        const float fresh = plus_product(n, update, sub(own.h[at], n));
#else
        const float reset = gate(add(both(0), b[0]));
        own.update[at] = gate(add(both(1), b[1]));
        tell(s, unit, to_exchanged(mul(reset, own.h[at])));
#endif
#if !STAGED
        own.h[at] = fresh;
        const exchanged told = to_exchanged(fresh);
        if (own.told) own.told[at] = told;
        tell(s, unit, told);
#endif
    });
}

#if STAGED
/* The rest of a step: `c` are sums of the candidate's product with r * h. */
template <typename Biases, typename Tell>
DEVICE void candidates(const Job &j, const Own &own, const Sums &x, const Sums &c, Biases biases, Tell tell) {
    each_unit(j, [&](int u, int s, int unit) {
        const int at = s * UNITS + u;
        const float n = tangent(add(added(added(0, x, s, u * GATES_X + 2), c, s, u), (biases(s) + (i64)unit * BIASES)[2]));
        const float fresh = plus_product(n, own.update[at], sub(own.h[at], n));
        own.h[at] = fresh;
        const exchanged told = to_exchanged(fresh);
        if (own.told) own.told[at] = told;
        tell(s, unit, told);
    });
}
#endif

#endif
