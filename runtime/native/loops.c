/* The loops over the characters of a job: see loops.h. */

#include "loops.h"

#include "choice.h"
#include "instructions.h"
#include "multiply.h"
#include "noise.h"
#include "opening.h"
#include "steps.h"
#include "team.h"

#include <string.h>

/* Place number `index` of the noise that is drawn, over and over. */
static drawing drawing_at(const team *w, int64_t index) {
    const size_t at = (size_t)(index % (2 * w->threads)) * w->m->vocab_width;
    return (drawing){w->drawn.words + at, w->drawn.nearly + at};
}

/* Tokens of a text that are not chosen. */
static int64_t known_of(const job *j, size_t text) { return j->known ? j->known[text] : 0; }

void decode(team *w, int thread) {
    const model *m = w->m;
    const job *j = w->j;
    const value *before = w->old, *after = w->new;
    const int alone = w->rows == 1;
    const int drawn_ahead = alone && !j->noise && j->choosing[w->first].temperature != 0;
    float *scratch = w->scratch + (size_t)thread * m->vocab_width;
    int64_t own = j->tokens[w->first], *tokens = alone ? &own : j->tokens + w->first;
    const range mine = alone ? (range){0, 1} : share(w, thread, w->rows);
    character c = {.rows = w->rows, .token_step = 1, .fresh = 1};
    c.sums = sums_of(w->sums, w->candidate_sums, w->rows, 0);
    for (int64_t step = 0; step < j->count; step++) {
        const int64_t mine_next = step + thread - known_of(j, w->first);
        if (drawn_ahead && step % w->threads == 0 && step + thread < j->count && mine_next >= 0)
            draw(drawing_at(w, step + thread), &j->choosing[w->first], mine_next, m->vocab);
        for (int l = 0; l < m->layers; l++) {
            c.l = &m->layer[l];
            c.below = l ? &after[l - 1] : NULL;
            c.old = before[l];
            c.new = after[l];
            c.cells = w->cells[l];
            c.tokens = l ? NULL : tokens;
            advance(w, thread, &c);
        }
        predict(w, thread, after[m->layers - 1], w->rows);
        if (drawn_ahead) ask(drawing_at(w, step).nearly, m->vocab_width * sizeof(float));
        meet(w);
        if (alone) ask(w->logits, m->vocab_width * sizeof(float));
        for (int row = mine.first; row < mine.end; row++) {
            const size_t text = w->first + row;
            const float *logits = w->logits + (size_t)row * m->vocab_width;
            const choosing *how = &j->choosing[text];
            const int64_t chosen = step - known_of(j, text);
            int64_t *place = &j->written[text * j->count + step];
            if (chosen < 0) tokens[row] = *place;
            else if (j->noise || how->temperature == 0) {
                const float *noise = j->noise ? j->noise + (step * j->batch + text) * m->vocab : NULL;
                tokens[row] = choose(logits, noise, m->vocab, &how->filters, scratch);
            } else {
                const drawing d = drawing_at(w, alone ? step : thread);
                if (!alone) draw(d, how, chosen, m->vocab);
                tokens[row] = choose_drawn(logits, d, m->vocab, how, scratch);
            }
            if (chosen >= 0 && (!alone || thread == 0)) *place = tokens[row];
        }
        if (!alone) meet(w);
        const value *other = before;
        before = after;
        after = other;
    }
    if (alone && thread == 0) j->tokens[w->first] = own;
}

/* The input's part of the sums of a layer, for part `index` of `count` of the panels. */
static void take_in(const model *m, const layer *l, value below, int rows, sums s, int index, int count) {
    const target gates = {s.gates, s.panel, IN_ORDER}, candidate = {s.candidate, s.panel, IN_ORDER};
    range panels = divide(gate_panels(m), index, count);
    clear(gates.z, rows, panels);
    if (below.floats) multiply(&l->x, below, rows, panels, 0, gates);
    if (!is_staged(m)) return;
    panels = divide(m->width / 64, index, count);
    clear(candidate.z, rows, panels);
    if (below.floats) multiply(&l->candidate_x, below, rows, panels, 0, candidate);
}

/* The logits of a piece that begins at `start`. */
static void leave_logits(team *w, int thread, int rows, int64_t start) {
    const model *m = w->m;
    const job *j = w->j;
    predict(w, thread, w->text[(m->layers + 1) % 2], rows);
    meet(w);
    const range mine = share(w, thread, rows);
    for (int row = mine.first; row < mine.end; row++) {
        const int64_t position = (w->first + row % w->rows) * j->count + start + row / w->rows;
        memcpy(j->logits + position * m->vocab, w->logits + (size_t)row * m->vocab_width, m->vocab * sizeof(float));
    }
}

void feed(team *w, int thread) {
    const model *m = w->m;
    const job *j = w->j;
    int64_t number = 0;
    for (int64_t start = 0; start < j->count; start += w->piece, number++) {
        const int steps = j->count - start < w->piece ? (int)(j->count - start) : w->piece;
        const int rows = steps * w->rows, turn = number % 2;
        if (w->in) await(&w->in->made, number + 1);
        if (w->out) await(&w->out->used, number - 1);
        for (int l = w->layers.first; l < w->layers.end; l++) {
            const int enters = w->in && l == w->layers.first, leaves = w->out && l == w->layers.end - 1;
            const value none = {0}, below = enters ? w->in->text[turn] : l ? w->text[(l + 1) % 2] : none;
            const value here = leaves ? w->out->text[turn] : w->text[l % 2];
            float *gates = enters ? w->in->sums[turn] : w->sums;
            float *candidate = enters ? w->in->candidate_sums[turn] : w->candidate_sums;
            const int parts = enters ? 2 * w->threads : w->threads;
            take_in(m, &m->layer[l], below, rows, sums_of(gates, candidate, rows, 0), parts - w->threads + thread,
                    parts);
            if (enters) meet(w); /* the other half is divided in another way */
            const layer mine = open_layer(w, thread, &m->layer[l], steps);
            character c = {.l = &mine, .rows = w->rows, .cells = w->cells[l], .token_step = j->count};
            for (int t = 0; t < steps; t++) {
                const size_t at = (size_t)t * w->rows;
                c.old = t ? c.new : w->old[l];
                c.new = rows_from(here, at);
                c.tokens = l ? NULL : j->tokens + w->first * j->count + start + t;
                c.sums = sums_of(gates, candidate, rows, at);
                c.back = t % 2;
                advance(w, thread, &c);
            }
            if (thread == 0) {
                memcpy(w->old[l].floats, c.new.floats, (size_t)w->rows * m->width * sizeof(float));
                level->round_rows(w->old[l], w->rows);
            }
            if (leaves)
                take_in(m, &m->layer[w->layers.end], here, rows,
                        sums_of(w->out->sums[turn], w->out->candidate_sums[turn], rows, 0), thread, 2 * w->threads);
        }
        if (j->logits && w->layers.end == m->layers) leave_logits(w, thread, rows, start);
        meet(w);
        if (thread) continue;
        if (w->in) atomic_store_explicit(&w->in->used, number + 1, memory_order_release);
        if (w->out) atomic_store_explicit(&w->out->made, number + 1, memory_order_release);
    }
}
