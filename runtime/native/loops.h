/* What each thread of a team does with a job. */
#ifndef P2_LOOPS_H
#define P2_LOOPS_H

#include "types.h"

/* One team passes at most so many rows to the next at a time, and a text in at least so many pieces. */
enum { PASSED = 128, PIECES = 8 };

#pragma GCC visibility push(hidden)
/* Write, with all layers in one team. A single text's character is chosen by every thread for itself: that is sooner
 * done than waited for. The noise for it is drawn a character by each, into one half of the places while others may
 * still look at the other half. */
void decode(team *w, int thread);

/* Read: a piece of the text goes through a whole layer, so that the input's products are those of many characters at
 * once. With several teams each has some of the layers, and they work on pieces that follow one another. */
void feed(team *w, int thread);
#pragma GCC visibility pop

#endif
