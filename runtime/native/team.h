/* Threads of a team: who has which part, and how they wait for one another. */
#ifndef P2_TEAM_H
#define P2_TEAM_H

#include "types.h"

/* Part `index` of `count`. */
static inline range divide(int whole, int index, int count) {
    return (range){(int)((int64_t)whole * index / count), (int)((int64_t)whole * (index + 1) / count)};
}

/* The panels of a thread. */
static inline range share(const team *w, int thread, int panels) { return divide(panels, thread, w->threads); }

static inline int gate_panels(const model *m) { return m->width / panel_units(m); }

#pragma GCC visibility push(hidden)
/* All threads of a team meet. */
void meet(team *w);

/* Until another team has come so far. */
void await(_Atomic int64_t *counter, int64_t least);
#pragma GCC visibility pop

#endif
