/* Widens recurrent weights: see opening.h. */

#include "opening.h"

#include "instructions.h"
#include "team.h"

#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* Widened weights of a layer that stay there, in the cache of 32 MiB that they were measured with. */
#define OPENED_BYTES (28 << 20)

/* Characters that are worth it: it takes about as long as 30 of them gain by it. */
#define OPENED_STEPS 64

static size_t opened_floats(const product *m, int panels) {
    return m->kind == COMPACT ? (size_t)panels * m->vectors * 16 * m->rows : 0;
}

float *room_for_opened(const model *m, int steps) {
    size_t most = 0;
    for (int l = 0; l < m->layers; l++) {
        const layer *one = &m->layer[l];
        const size_t floats = opened_floats(&one->h, gate_panels(m)) + opened_floats(&one->candidate_h, m->width / 64);
        if (floats > most) most = floats;
    }
    const size_t page = 2 << 20, bytes = most * sizeof(float), pages = (bytes + page - 1) / page;
    if (!bytes || bytes > OPENED_BYTES || steps < OPENED_STEPS) return NULL;
    float *room = aligned_alloc(page, pages * page);
#ifdef MADV_HUGEPAGE
    if (room) madvise(room, pages * page, MADV_HUGEPAGE);
#endif
    return room;
}

/* Widens the thread's own panels, for only it meets them, and turns `m` to them. Returns what follows them all. */
static float *open_product(const team *w, int thread, product *m, int panels, float *room) {
    if (m->kind != COMPACT) return room;
    level->open_panels(m, share(w, thread, panels), room);
    float *next = room + opened_floats(m, panels);
    m->kind = OPENED;
    m->weights = room;
    return next;
}

layer open_layer(const team *w, int thread, const layer *l, int steps) {
    layer mine = *l;
    if (!w->opened || steps < OPENED_STEPS) return mine;
    float *next = open_product(w, thread, &mine.h, gate_panels(w->m), w->opened);
    open_product(w, thread, &mine.candidate_h, w->m->width / 64, next);
    return mine;
}
