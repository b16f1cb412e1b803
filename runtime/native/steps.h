/* One character of a layer, the prediction, and the choice. */

static void clear(float *z, size_t z_panel, int rows, int first, int end) {
    for (int panel = first; panel < end; panel++) memset(z + panel * z_panel, 0, (size_t)rows * 64 * sizeof(float));
}

/* Ask for numbers that other threads have just made, all at once: one after the other they come later. */
static void ask(const void *numbers, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) _mm_prefetch((const char *)numbers + at, _MM_HINT_T0);
}

static void ask_for_value(const team *w, value v) {
    if (w->threads == 1 || w->rows > 1) return;
    ask(v.bytes ? (const void *)v.bytes : v.floats, v.bytes ? v.width : v.width * sizeof(float));
}

static const int IN_ORDER[4] = {0, 1, 2, 3}, FROM_STATE[4] = {0, 1, 3, 3};

/* Sums of one layer, from the row that belongs to the first text on. */
typedef struct {
    float *gates, *candidate;
    size_t panel; /* floats from one panel to the next */
} sums;

static sums sums_of(float *gates, float *candidate, size_t rows, size_t at) {
    return (sums){gates + at * 64, candidate ? candidate + at * 64 : NULL, rows * 64};
}

/* One layer, `l`, by one character. `below` is the input; NULL if it has been multiplied, or there is none. `fresh`:
 * the sums begin here. `back`: see multiply; it pays where the same layer comes again and again. */
static void advance(team *w, int thread, int number, const layer *l, const value *below, value old, value new,
                    const int64_t *tokens, size_t token_step, sums s, int fresh, int back) {
    const model *m = w->m;
    const int rows = w->rows;
    const size_t z_panel = s.panel;
    float *z = s.gates, *candidate = s.candidate;
    int first, end;
    share(w, thread, gate_panels(m), &first, &end);
    if (fresh) clear(z, z_panel, rows, first, end);
    if (below) {
        ask_for_value(w, *below);
        multiply(&l->x, *below, rows, first, end, back, z, z_panel, IN_ORDER);
    }
    multiply(&l->h, old, rows, first, end, back, z, z_panel, m->cell == GRU_AFTER ? FROM_STATE : IN_ORDER);
    if (m->cell == RNN)
        plain(l, l->bias, rows, first, end, z, z_panel, tokens, token_step, old, new, NULL);
    else if (m->cell == LSTM)
        lstm(l, rows, first, end, z, z_panel, tokens, token_step, new, w->cells[number]);
    else if (m->cell == GRU_AFTER)
        gru_after(l, rows, first, end, z, z_panel, tokens, token_step, old, new);
    else {
        gru_gates(l, rows, first, end, z, z_panel, tokens, token_step, old, w->reset_state, w->updates);
        meet(w);
        share(w, thread, m->width / 64, &first, &end);
        if (fresh) clear(candidate, z_panel, rows, first, end);
        if (below) multiply(&l->candidate_x, *below, rows, first, end, back, candidate, z_panel, IN_ORDER);
        multiply(&l->candidate_h, w->reset_state, rows, first, end, back, candidate, z_panel, IN_ORDER);
        plain(l, l->candidate_bias, rows, first, end, candidate, z_panel, tokens, token_step, old, new, w->updates);
    }
    meet(w);
}

/* NaN comes last, as numpy has it: without an order for all numbers a sort may read anywhere. */
static int descending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    if (isnan(x) || isnan(y)) return !!isnan(x) - !!isnan(y);
    return (x < y) - (x > y);
}

/* The smallest logit that survives the filters: contract.sampling.threshold. */
static float threshold(const float *logits, int vocab, const filters *f, float *sorted) {
    memcpy(sorted, logits, vocab * sizeof(float));
    qsort(sorted, vocab, sizeof(float), descending);
    const int count = f->top_k && f->top_k < vocab ? f->top_k : vocab;
    float total = 0, before = 0, lowest = sorted[0];
    for (int v = 0; v < count; v++) total += expf((sorted[v] - sorted[0]) * f->tau);
    for (int v = 0; v < count; v++) {
        const float weight = expf((sorted[v] - sorted[0]) * f->tau);
        if ((f->top_p < 1 && before >= f->top_p) || weight < f->min_p) break;
        lowest = sorted[v];
        before += weight / total;
    }
    return lowest;
}

/* With no noise the most probable one. */
static int64_t choose(const float *logits, const float *noise, int vocab, const filters *f, float *scratch) {
    const float least = f->on ? threshold(logits, vocab, f, scratch) : -INFINITY;
    int64_t best = 0;
    float highest = -INFINITY;
    for (int v = 0; v < vocab; v++) {
        const float now = noise ? logits[v] + noise[v] : logits[v];
        if (logits[v] >= least && now > highest) {
            highest = now;
            best = v;
        }
    }
    return best;
}

/* -log(-log((word + 1/2) / 2**32)), as contract/noise.py has it. */
static float gumbel(uint32_t word) { return (float)-log(-log((word + 0.5) * 0x1p-32)); }

/* The same as `choose` for the noise that was drawn. Here no product and sum become one instruction: both are rounded,
 * as in contract/sampling.py. */
static int64_t choose_drawn(const float *logits, drawing d, int vocab, float temperature, const filters *f,
                            float *scratch) {
    const float least = f->on ? threshold(logits, vocab, f, scratch) : -INFINITY;
    float bound, highest = -INFINITY;
    int last = 0;
    if (score(logits, d.nearly, vocab, temperature, least, scratch, &bound, &last) == 1) return last;
    int64_t best = 0;
    for (int v = 0; v < vocab; v++) {
        if (scratch[v] < bound || !(logits[v] >= least)) continue;
        const float noise = gumbel(d.words[v]) * temperature, now = logits[v] + noise;
        if (now > highest) {
            highest = now;
            best = v;
        }
    }
    return best;
}

/* Logits [rows][vocab_width] of the thread's panels. */
static void predict(team *w, int thread, value top, int rows) {
    const model *m = w->m;
    const size_t z_panel = (size_t)rows * 64;
    int first, end;
    share(w, thread, m->vocab_width / 64, &first, &end);
    ask_for_value(w, top);
    clear(w->sums, z_panel, rows, first, end);
    multiply(&m->out, top, rows, first, end, 0, w->sums, z_panel, IN_ORDER);
    for (int panel = first; panel < end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = w->sums + panel * z_panel + row * 64;
            float *target = w->logits + (size_t)row * m->vocab_width + panel * 64;
            for (int v = 0; v < 64; v++) target[v] = given[v] + m->out_bias[panel * 64 + v];
        }
}
