/* The cells of a layer, for the panels of one thread: see `instructions`. A level's source includes this once. */
#ifndef P2_LANES_CELLS_H
#define P2_LANES_CELLS_H

#include "../types.h"
#include "arithmetic.h"

LEVEL

/* The first numbers of the vectors in 16. */
#define EACH_VECTOR(at) for (int at = 0; at < 16; at += LANES)

/* Put new numbers of a state into its row, in 8 bits as well where products want that. */
INLINE void keep(value a, int row, int unit, vf numbers) {
    *(vfu *)(a.floats + (size_t)row * a.width + unit) = numbers;
    if (!a.bytes) return;
    const vi rounded = nearest(smaller(larger(numbers * all(127.0f), all(-128)), all(127)));
    *(vbu *)(a.bytes + (size_t)row * a.width + unit) = __builtin_convertvector(rounded + 128, vb);
    if (!a.sums) return;
    int32_t *sum = a.sums + row * (a.width / 16) + unit / 16;
    *sum = total_of(rounded) + (LANES < 16 && unit % 16 ? *sum : 0);
}

static void round_rows(value a, int rows) {
    for (int row = 0; row < rows; row++)
        for (size_t unit = 0; unit < a.width; unit += LANES)
            keep(a, row, unit, *(const vfu *)(a.floats + (size_t)row * a.width + unit));
}

/* The biases of a text in one of `panels` panels: layer 0 has a row of them for each character. */
INLINE const float *bias_of(const character *c, const float *biases, int row, int panels, int panel) {
    const int64_t token = c->tokens ? c->tokens[(size_t)row * c->token_step] : 0;
    return biases + token * (size_t)panels * Z_ROW + panel * Z_ROW;
}

/* The cells below copy their character: what they store could lie anywhere, and the original would be read again after
 * every store. */

INLINE void lstm_of(const int defined, const character *original, range panels) {
    const character c = *original;
    for (int panel = panels.first; panel < panels.end; panel++)
        for (int row = 0; row < c.rows; row++)
            EACH_VECTOR(at) {
                const float *given = c.sums.gates + panel * c.sums.panel + row * Z_ROW + at;
                const float *bias = bias_of(&c, c.l->bias, row, c.new.width / 16, panel) + at;
                vfu *cell = (vfu *)(c.cells + (size_t)row * c.new.width + panel * 16 + at);
                vf input = gate(defined, *(const vfu *)given + *(const vfu *)bias);
                vf forget = gate(defined, *(const vfu *)(given + 16) + *(const vfu *)(bias + 16));
                vf output = gate(defined, *(const vfu *)(given + 32) + *(const vfu *)(bias + 32));
                vf candidate = tangent(defined, *(const vfu *)(given + 48) + *(const vfu *)(bias + 48));
                vf now = defined ? rounded_product(forget, *cell) + rounded_product(input, candidate)
                                 : forget * *cell + input * candidate;
                *cell = now;
                keep(c.new, row, panel * 16 + at, output * tangent(defined, now));
            }
}

INLINE void gru_after_of(const int defined, const character *original, range panels) {
    const character c = *original;
    for (int panel = panels.first; panel < panels.end; panel++)
        for (int row = 0; row < c.rows; row++)
            EACH_VECTOR(at) {
                const float *given = c.sums.gates + panel * c.sums.panel + row * Z_ROW + at;
                const float *bias = bias_of(&c, c.l->bias, row, c.new.width / 16, panel) + at;
                const int unit = panel * 16 + at;
                vf reset = gate(defined, *(const vfu *)given + *(const vfu *)bias);
                vf update = gate(defined, *(const vfu *)(given + 16) + *(const vfu *)(bias + 16));
                vf from_input = *(const vfu *)(given + 32) + *(const vfu *)(bias + 32);
                vf from_state = *(const vfu *)(given + 48) + *(const vfu *)(bias + 48);
                vf candidate = tangent(defined, plus_product(defined, from_input, reset, from_state));
                vf before = *(const vfu *)(c.old.floats + (size_t)row * c.old.width + unit);
                keep(c.new, row, unit, plus_product(defined, candidate, update, before - candidate));
            }
}

INLINE void gru_gates_of(const int defined, const character *original, range panels, value reset_state,
                         float *updates) {
    const character c = *original;
    for (int panel = panels.first; panel < panels.end; panel++)
        for (int row = 0; row < c.rows; row++) {
            const float *given = c.sums.gates + panel * c.sums.panel + row * Z_ROW;
            const float *bias = bias_of(&c, c.l->bias, row, c.old.width / 32, panel);
            for (int part = 0; part < 32; part += LANES) {
                const size_t at = (size_t)row * c.old.width + panel * 32 + part;
                vf reset = gate(defined, *(const vfu *)(given + part) + *(const vfu *)(bias + part));
                vf update = gate(defined, *(const vfu *)(given + 32 + part) + *(const vfu *)(bias + 32 + part));
                *(vfu *)(updates + at) = update;
                keep(reset_state, row, panel * 32 + part, reset * *(const vfu *)(c.old.floats + at));
            }
        }
}

INLINE void plain_of(const int defined, const character *original, range panels, const float *updates) {
    const character c = *original;
    const float *z = updates ? c.sums.candidate : c.sums.gates;
    const float *biases = updates ? c.l->candidate_bias : c.l->bias;
    for (int panel = panels.first; panel < panels.end; panel++)
        for (int row = 0; row < c.rows; row++) {
            const float *given = z + panel * c.sums.panel + row * Z_ROW;
            const float *bias = bias_of(&c, biases, row, c.new.width / 64, panel);
            for (int part = 0; part < 64; part += LANES) {
                const size_t at = (size_t)row * c.new.width + panel * 64 + part;
                vf candidate = tangent(defined, *(const vfu *)(given + part) + *(const vfu *)(bias + part));
                if (updates) {
                    vf before = *(const vfu *)(c.old.floats + at);
                    candidate = plus_product(defined, candidate, *(const vfu *)(updates + at), before - candidate);
                }
                keep(c.new, row, panel * 64 + part, candidate);
            }
        }
}

static void lstm(const character *c, range panels) {
    if (is_float(&c->l->h)) lstm_of(0, c, panels);
    else lstm_of(1, c, panels);
}

/* Panels hold r, z, the candidate's part from the input, and its part from the state. */
static void gru_after(const character *c, range panels) {
    if (is_float(&c->l->h)) gru_after_of(0, c, panels);
    else gru_after_of(1, c, panels);
}

static void first_gates(const character *c, range panels, value reset_state, float *updates) {
    if (is_float(&c->l->h)) gru_gates_of(0, c, panels, reset_state, updates);
    else gru_gates_of(1, c, panels, reset_state, updates);
}

static void plain(const character *c, range panels, const float *updates) {
    if (is_float(&c->l->h)) plain_of(0, c, panels, updates);
    else plain_of(1, c, panels, updates);
}

static void new_state(int cell, const character *c, range panels) {
    if (cell == RNN) plain(c, panels, NULL);
    else if (cell == LSTM) lstm(c, panels);
    else gru_after(c, panels);
}

END_LEVEL

#endif
