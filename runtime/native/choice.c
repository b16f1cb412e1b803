/* The choice of a character: see choice.h. */

#include "choice.h"

#include "inline.h"
#include "instructions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

int64_t choose(const float *logits, const float *noise, int vocab, const filters *f, float *scratch) {
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

/* Product and sum are both rounded, as in contract/sampling.py. */
int64_t choose_drawn(const float *logits, drawing d, int vocab, const choosing *text, float *scratch) {
    const float temperature = text->temperature;
    const float least = text->filters.on ? threshold(logits, vocab, &text->filters, scratch) : -INFINITY;
    contest c = {vocab, temperature, least, .scores = scratch};
    if (level->score(logits, d.nearly, &c) == 1) return c.winner;
    float highest = -INFINITY;
    int64_t best = 0;
    for (int v = 0; v < vocab; v++) {
        if (scratch[v] < c.bound || !(logits[v] >= least)) continue;
        const float noise = rounded(gumbel(d.words[v]) * temperature), now = logits[v] + noise;
        if (now > highest) {
            highest = now;
            best = v;
        }
    }
    return best;
}
