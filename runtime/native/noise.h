/* The noise of contract/noise.py, by address, and which characters can be the choice that it makes.
 *
 * A choice needs the exact noise of those characters only that can still win. So all get an approximation whose error
 * is bounded, sixteen at a time in float32, and where several lie within the bound of the best one, `choose_drawn` in
 * choice.c computes those as the definition says, in float64. Most of the time there is one, and it has won. */
#ifndef P2_NOISE_H
#define P2_NOISE_H

#include "types.h"

/* Of nearly_gumbel's error, and of the rounding of noise and product; tests hold the former to a quarter of it. */
#define NOISE_ERROR 0x1p-16f

#pragma GCC visibility push(hidden)
/* The noise of a text at `step`. */
void draw(drawing d, const choosing *text, int64_t step, int vocab);

/* Scores, logit + temperature * noise, -INFINITY for logits below `least`. What reaches `bound` can be the highest: the
 * noise is off by so much, both here and in the best one, and so are the roundings of product and sum; those of far
 * lower scores are smaller than the distance. Returns how many do, and the last of them. */
int score(const float *logits, const float *noise, int vocab, float temperature, float least, float *scores,
          float *bound, int *last);
#pragma GCC visibility pop

/* The noise that `draw` makes of words, a multiple of 16 of them; tests ask how far it is off. */
void p2_approximate_noise(uint32_t *words, int count, float *noise);

#endif
