/* A product of a batch with a matrix, from kernels of a few rows: which kernel, for which rows and panels. */
#ifndef P2_MULTIPLY_H
#define P2_MULTIPLY_H

#include "types.h"

#pragma GCC visibility push(hidden)
/* z[panel][row] += value @ matrix for `rows` rows and some panels, the last first with `back`: who goes to and fro
 * finds the panels that it met last in its own cache. */
void multiply(const product *m, value a, int rows, range panels, int back, target to);
#pragma GCC visibility pop

#endif
