/* What a team works on: see memory.h. */

#include "memory.h"

#include "instructions.h"

#include <string.h>

static void *take(arena *a, size_t bytes) {
    void *here = a->base ? a->base + a->used : NULL;
    a->used += (bytes + 63) / 64 * 64;
    return here;
}

/* Whether some product of the model has weights of a kind; those that are not there are of kind FLOATS. */
static int has_kind(const model *m, int kind) {
    int found = m->out.kind == kind;
    for (int i = 0; i < m->layers; i++) {
        const layer *l = &m->layer[i];
        found |= l->x.kind == kind || l->h.kind == kind || l->candidate_x.kind == kind || l->candidate_h.kind == kind;
    }
    return found;
}

static value take_value(arena *a, const model *m, size_t rows) {
    const size_t numbers = rows * m->width;
    value made = {take(a, numbers * sizeof(float)), NULL, NULL, m->width};
    const int fours = has_kind(m, INT4);
    if (fours || has_kind(m, INT8)) made.bytes = take(a, numbers);
    if (fours) made.sums = take(a, numbers / 16 * sizeof(int32_t));
    return made;
}

/* Floats of the sums of one row. */
static size_t sums_width(const model *m) { return 4 * m->width > m->vocab_width ? 4 * m->width : m->vocab_width; }

void lay_out_team(team *w, arena *a, int feeding) {
    const model *m = w->m;
    const size_t rows = (size_t)w->rows * (feeding ? w->piece : 1);
    for (int l = w->layers.first; l < w->layers.end; l++) {
        w->old[l] = take_value(a, m, w->rows);
        if (!feeding) w->new[l] = take_value(a, m, w->rows);
        if (m->cell == LSTM) w->cells[l] = take(a, (size_t)w->rows * m->width * sizeof(float));
    }
    if (feeding)
        for (int i = 0; i < 2; i++) w->text[i] = take_value(a, m, rows);
    w->sums = take(a, rows * sums_width(m) * sizeof(float));
    w->logits = take(a, rows * m->vocab_width * sizeof(float));
    w->scratch = take(a, (size_t)w->threads * m->vocab_width * sizeof(float));
    if (!feeding) {
        w->drawn.words = take(a, (size_t)2 * w->threads * m->vocab_width * sizeof(uint32_t));
        w->drawn.nearly = take(a, (size_t)2 * w->threads * m->vocab_width * sizeof(float));
    }
    if (is_staged(m)) {
        w->reset_state = take_value(a, m, w->rows);
        w->updates = take(a, (size_t)w->rows * m->width * sizeof(float));
        w->candidate_sums = take(a, rows * m->width * sizeof(float));
    }
}

void lay_out_passage(passage *p, arena *a, const model *m, size_t rows) {
    for (int i = 0; i < 2; i++) {
        p->text[i] = take_value(a, m, rows);
        p->sums[i] = take(a, rows * 4 * m->width * sizeof(float));
        if (is_staged(m)) p->candidate_sums[i] = take(a, rows * m->width * sizeof(float));
    }
}

void carry(team *w, const value *from, int back) {
    const size_t width = w->m->width, bytes = w->rows * width * sizeof(float);
    for (int l = w->layers.first; l < w->layers.end; l++) {
        const size_t at = ((size_t)l * w->j->batch + w->first) * width;
        float *outside = w->j->states + at;
        memcpy(back ? outside : from[l].floats, back ? from[l].floats : outside, bytes);
        if (w->m->cell == LSTM) {
            float *cells = w->j->cells + at;
            memcpy(back ? cells : w->cells[l], back ? w->cells[l] : cells, bytes);
        }
        if (!back) level->round_rows(from[l], w->rows);
    }
}
