/* The noise of contract/noise.py, by address, and which characters can be the choice that it makes.
 *
 * A choice needs the exact noise of those characters only that can still win. So all get an approximation whose error
 * is bounded, many at a time in float32 (lanes/noise.h), and where several lie within the bound of the best one, `choose_drawn` in
 * choice.c computes those as the definition says, in float64. Most of the time there is one, and it has won. */
#ifndef P2_NOISE_H
#define P2_NOISE_H

#include "types.h"

/* Of nearly_gumbel's error, and of the rounding of noise and product; tests hold the former to a quarter of it. */
#define NOISE_ERROR 0x1p-16f

#pragma GCC visibility push(hidden)
/* The noise of a text at `step`. */
void draw(drawing d, const choosing *text, int64_t step, int vocab);
#pragma GCC visibility pop

/* The noise that `draw` makes of words, a multiple of 16 of them; tests ask how far it is off. */
void p2_approximate_noise(uint32_t *words, int count, float *noise);

#endif
