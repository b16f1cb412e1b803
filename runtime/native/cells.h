/* The cells: from a layer's sums and biases to its next state. Each for floats, and as contract/integers.py defines
 * it. */
#ifndef P2_CELLS_H
#define P2_CELLS_H

#include "types.h"

#pragma GCC visibility push(hidden)
/* Make 8 bits and their sums of the floats of a state. */
void round_rows(value a, int rows);

void lstm(const character *c, range panels);

/* Panels hold r, z, the candidate's part from the input, and its part from the state. */
void gru_after(const character *c, range panels);

/* Panels of 32 units: r and r, then z and z. Leaves r * h in `reset_state` and z in `updates`. */
void gru_gates(const character *c, range panels, value reset_state, float *updates);

/* Panels of 64 units: a vanilla RNN's state, or, with `updates`, what a GRU moves towards. */
void plain(const character *c, range panels, const float *updates);
#pragma GCC visibility pop

#endif
