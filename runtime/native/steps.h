/* One character of a layer, and the prediction. */
#ifndef P2_STEPS_H
#define P2_STEPS_H

#include "types.h"

static inline sums sums_of(float *gates, float *candidate, size_t rows, size_t at) {
    return (sums){gates + at * 64, candidate ? candidate + at * 64 : NULL, rows * 64};
}

#pragma GCC visibility push(hidden)
/* The vectors of a panel of sums that a product's go to: all four, or those of a GRU's state (GRU_AFTER). */
extern const int IN_ORDER[4], FROM_STATE[4];

/* Zeros for the sums of some panels. */
void clear(float *z, int rows, range panels);

/* Ask for numbers that other threads have just made, all at once: one after the other they come later. */
void ask(const void *numbers, size_t bytes);

/* The thread's part of one character; returns when all threads have done theirs. */
void advance(team *w, int thread, const character *c);

/* Logits [rows][vocab_width] of the thread's panels. */
void predict(team *w, int thread, value top, int rows);
#pragma GCC visibility pop

#endif
