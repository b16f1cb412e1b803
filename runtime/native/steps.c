/* One character of a layer, and the prediction: see steps.h. */

#include "steps.h"

#include "instructions.h"
#include "multiply.h"
#include "team.h"

#include <string.h>

const int IN_ORDER[4] = {0, 1, 2, 3}, FROM_STATE[4] = {0, 1, 3, 3};

void clear(float *z, int rows, range panels) {
    const size_t panel = (size_t)rows * 64;
    memset(z + panels.first * panel, 0, (panels.end - panels.first) * panel * sizeof(float));
}

void ask(const void *numbers, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)numbers + at);
}

static void ask_for_value(const team *w, value v) {
    if (w->threads == 1 || w->rows > 1) return;
    ask(v.bytes ? (const void *)v.bytes : v.floats, v.bytes ? v.width : v.width * sizeof(float));
}

void advance(team *w, int thread, const character *c) {
    const model *m = w->m;
    const layer *l = c->l;
    const target gates = {c->sums.gates, c->sums.panel, IN_ORDER};
    const target from_state = {c->sums.gates, c->sums.panel, is_apart(m) ? FROM_STATE : IN_ORDER};
    const target candidate = {c->sums.candidate, c->sums.panel, IN_ORDER};
    range panels = share(w, thread, gate_panels(m));
    if (c->fresh) clear(gates.z, c->rows, panels);
    if (c->below) {
        ask_for_value(w, *c->below);
        multiply(&l->x, *c->below, c->rows, panels, c->back, gates);
    }
    multiply(&l->h, c->old, c->rows, panels, c->back, from_state);
    if (!is_staged(m)) level->new_state(m->cell, c, panels);
    else {
        level->first_gates(c, panels, w->reset_state, w->updates);
        meet(w);
        panels = share(w, thread, m->width / 64);
        if (c->fresh) clear(candidate.z, c->rows, panels);
        if (c->below) multiply(&l->candidate_x, *c->below, c->rows, panels, c->back, candidate);
        multiply(&l->candidate_h, w->reset_state, c->rows, panels, c->back, candidate);
        level->plain(c, panels, w->updates);
    }
    meet(w);
}

void predict(team *w, int thread, value top, int rows) {
    const model *m = w->m;
    const target to = {w->sums, (size_t)rows * 64, IN_ORDER};
    const range panels = share(w, thread, m->vocab_width / 64);
    ask_for_value(w, top);
    clear(to.z, rows, panels);
    multiply(&m->out, top, rows, panels, 0, to);
    for (int panel = panels.first; panel < panels.end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = to.z + panel * to.panel + row * 64;
            float *logits = w->logits + (size_t)row * m->vocab_width + panel * 64;
            for (int v = 0; v < 64; v++) logits[v] = given[v] + m->out_bias[panel * 64 + v];
        }
}
