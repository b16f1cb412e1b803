/* Which character follows, from its logits, the filters and the noise: contract/sampling.py. */
#ifndef P2_CHOICE_H
#define P2_CHOICE_H

#include "types.h"

#pragma GCC visibility push(hidden)
/* With no noise the most probable one. `scratch`: room for vocab floats. */
int64_t choose(const float *logits, const float *noise, int vocab, const filters *f, float *scratch);

/* The same for the noise that was drawn; room for a multiple of 16 floats. */
int64_t choose_drawn(const float *logits, drawing d, int vocab, const choosing *text, float *scratch);
#pragma GCC visibility pop

#endif
