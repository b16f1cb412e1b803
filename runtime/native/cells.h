/* The cells: from a layer's sums and biases to its next state. Each for floats, and as contract/integers.py defines
 * it. */
#ifndef P2_CELLS_H
#define P2_CELLS_H

#include "types.h"

#pragma GCC visibility push(hidden)
/* Make 8 bits and their sums of the floats of a state. */
void round_rows(value a, int rows);

/* The next state of a cell whose gates are all known at once. */
void new_state(int cell, const character *c, range panels);

/* Of a staged cell: panels of 32 units, r and r, then z and z. Leaves r * h in `reset_state` and z in `updates`. */
void first_gates(const character *c, range panels, value reset_state, float *updates);

/* Panels of 64 units: a vanilla RNN's state, or, with `updates`, what a staged cell moves towards. */
void plain(const character *c, range panels, const float *updates);
#pragma GCC visibility pop

#endif
