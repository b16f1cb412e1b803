/* Recurrent weights in 28 bits, widened for a whole piece of a text.
 *
 * Writing meets all weights for a character and waits for the memory, so fewer bits are sooner read. Reading meets
 * one layer's recurrent weights again and again: where they stay in the cache that processors share, it is the
 * widening that takes time, and it is done once. The numbers and their order in the sums remain. */
#ifndef P2_OPENING_H
#define P2_OPENING_H

#include "types.h"

#pragma GCC visibility push(hidden)
/* Memory for the recurrent weights of any layer, on large pages where the system has them; NULL where pieces of `steps`
 * characters do not pay for it, or there is none. */
float *room_for_opened(const model *m, int steps);

/* A layer as the thread meets it with `steps` characters. */
layer open_layer(const team *w, int thread, const layer *l, int steps);
#pragma GCC visibility pop

#endif
