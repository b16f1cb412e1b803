/* The decode loop of recurrent character models on x86 processors: whole characters per call, threads that
 * wait for one another by spinning, one barrier a layer.
 *
 * Every thread owns some panels of every matrix and the units that they make, so a layer's products, its cell and
 * the rounding of its state stay with one thread and in its cache. What is computed is defined in
 * spec/card.py (step_shapes) and spec/sampling.py. */

#include "decoder.h"

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Numbers with one row for each text: floats, and where products want them 8 bits (128 + 127 * x) and the sums of
 * 16 of those, less the 128. */
typedef struct {
    float *floats;
    uint8_t *bytes;
    int32_t *sums;
    size_t width;
} value;

static value rows_from(value a, size_t row) {
    a.floats += row * a.width;
    if (a.bytes) {
        a.bytes += row * a.width;
        a.sums += row * (a.width / 16);
    }
    return a;
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,prefer-vector-width=512")
#include "kernels.h"
#include "compact.h"
#pragma GCC pop_options
#include "compacting.h"
#include "multiply.h"

/* Of the structures in decoder.h; binding.py expects this one. */
int p2_layout(void) { return 4; }

/* Whether this processor has the instructions. */
int p2_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

/* Make COMPACT weights of float [panels][rows][vectors * 16]: see compact_panel, whose answer this is. */
int64_t p2_compact(const float *weights, int panels, int rows, int vectors, uint8_t *bytes, uint8_t *places,
                   uint8_t *exponents, outlier *outliers, int32_t *outlier_ends, int64_t most) {
    const size_t groups = groups_of(rows, vectors);
    int64_t count = 0;
    for (int panel = 0; panel < panels && count >= 0; panel++)
        count = compact_panel(weights + panel * groups * 64, rows, vectors, bytes + panel * groups * GROUP_BYTES,
                              places + panel * groups * PLACES_BYTES, exponents + panel * 16, outliers,
                              outlier_ends + panel * ((rows + PIECE - 1) / PIECE), count, most);
    return count;
}

typedef struct {
    const model *m;
    const job *j;
    value old[64], new[64]; /* decode: a layer's state before and after a step */
    value text[2];          /* feed: a piece of text after one layer, and after the next */
    value reset_state;      /* GRU_BEFORE: r * h */
    float *updates;         /* GRU_BEFORE: z */
    float *sums, *candidate_sums, *logits, *sorted;
    int piece; /* feed: characters of a text that go through a layer together */
    atomic_int arrived, generation, waits;
} work;

/* Pauses of a thread that waits, 10 to 40 microseconds, before it lets others have its processor. */
enum { PATIENCE = 1000 };

/* All threads meet. */
static void meet(work *w) {
    if (w->j->threads == 1) return;
    const int generation = atomic_load_explicit(&w->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&w->arrived, 1, memory_order_acq_rel) == w->j->threads - 1) {
        atomic_store_explicit(&w->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&w->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&w->generation, memory_order_acquire) == generation; spins++) {
        if (spins < PATIENCE) {
            _mm_pause();
            continue;
        }
        if (spins == PATIENCE) atomic_fetch_add_explicit(&w->waits, 1, memory_order_relaxed);
        sched_yield();
    }
}

/* The panels of a thread. */
static void share(const work *w, int thread, int panels, int *first, int *end) {
    *first = panels * thread / w->j->threads;
    *end = panels * (thread + 1) / w->j->threads;
}

static void clear(float *z, size_t z_panel, int rows, int first, int end) {
    for (int panel = first; panel < end; panel++) memset(z + panel * z_panel, 0, (size_t)rows * 64 * sizeof(float));
}

static const int IN_ORDER[4] = {0, 1, 2, 3}, FROM_STATE[4] = {0, 1, 3, 3};

static int gate_panels(const model *m) {
    return m->width / (m->cell == RNN ? 64 : m->cell == GRU_BEFORE ? 32 : 16);
}

/* One layer by one character. `at` is the row of the sums that belongs to the first text, `below` the input if it
 * has not been multiplied yet. */
static void advance(work *w, int thread, const layer *l, int number, const value *below, value old, value new,
                    const int64_t *tokens, size_t token_step, size_t at, size_t z_rows, int fresh) {
    const model *m = w->m;
    const int rows = w->j->batch;
    const size_t z_panel = z_rows * 64;
    float *z = w->sums + at * 64, *candidate = w->candidate_sums + at * 64;
    int first, end;
    share(w, thread, gate_panels(m), &first, &end);
    if (fresh) clear(z, z_panel, rows, first, end);
    if (below) multiply(&l->x, *below, rows, first, end, z, z_panel, IN_ORDER);
    multiply(&l->h, old, rows, first, end, z, z_panel, m->cell == GRU_AFTER ? FROM_STATE : IN_ORDER);
    if (m->cell == RNN)
        plain(l->bias, rows, first, end, z, z_panel, tokens, token_step, old, new, NULL);
    else if (m->cell == LSTM)
        lstm(l, rows, first, end, z, z_panel, tokens, token_step, new,
             w->j->cells + (size_t)number * rows * m->width);
    else if (m->cell == GRU_AFTER)
        gru_after(l, rows, first, end, z, z_panel, tokens, token_step, old, new);
    else {
        gru_gates(l, rows, first, end, z, z_panel, tokens, token_step, old, w->reset_state, w->updates);
        meet(w);
        share(w, thread, m->width / 64, &first, &end);
        if (fresh) clear(candidate, z_panel, rows, first, end);
        if (below) multiply(&l->candidate_x, *below, rows, first, end, candidate, z_panel, IN_ORDER);
        multiply(&l->candidate_h, w->reset_state, rows, first, end, candidate, z_panel, IN_ORDER);
        plain(l->candidate_bias, rows, first, end, candidate, z_panel, tokens, token_step, old, new, w->updates);
    }
    meet(w);
}

static int descending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The smallest logit that survives the filters: spec.sampling.threshold. */
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

static int64_t choose(const float *logits, const float *noise, int vocab, const filters *f, float *sorted) {
    const float least = f->on ? threshold(logits, vocab, f, sorted) : -INFINITY;
    int64_t best = 0;
    float highest = -INFINITY;
    for (int v = 0; v < vocab; v++) {
        const float now = logits[v] + noise[v];
        if (logits[v] >= least && now > highest) {
            highest = now;
            best = v;
        }
    }
    return best;
}

/* Logits [rows][vocab_width] of the thread's panels. */
static void predict(work *w, int thread, value top, int rows) {
    const model *m = w->m;
    const size_t z_panel = (size_t)rows * 64;
    int first, end;
    share(w, thread, m->vocab_width / 64, &first, &end);
    clear(w->sums, z_panel, rows, first, end);
    multiply(&m->out, top, rows, first, end, w->sums, z_panel, IN_ORDER);
    for (int panel = first; panel < end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = w->sums + panel * z_panel + row * 64;
            float *target = w->logits + (size_t)row * m->vocab_width + panel * 64;
            for (int v = 0; v < 64; v++) target[v] = given[v] + m->out_bias[panel * 64 + v];
        }
}

static void decode(work *w, int thread) {
    const model *m = w->m;
    const job *j = w->j;
    const value *before = w->old, *after = w->new;
    float *sorted = w->sorted + (size_t)thread * m->vocab;
    for (int64_t step = 0; step < j->count; step++) {
        for (int l = 0; l < m->layers; l++)
            advance(w, thread, &m->layer[l], l, l ? &after[l - 1] : NULL, before[l], after[l], l ? NULL : j->tokens, 1,
                    0, j->batch, 1);
        predict(w, thread, after[m->layers - 1], j->batch);
        meet(w);
        int first, end;
        share(w, thread, j->batch, &first, &end);
        for (int row = first; row < end; row++) {
            const float *noise = j->noise + (step * j->batch + row) * m->vocab;
            j->tokens[row] = choose(w->logits + (size_t)row * m->vocab_width, noise, m->vocab, j->settings, sorted);
            j->written[row * j->count + step] = j->tokens[row];
        }
        meet(w);
        const value *other = before;
        before = after;
        after = other;
    }
}

static void feed(work *w, int thread) {
    const model *m = w->m;
    const job *j = w->j;
    for (int64_t start = 0; start < j->count; start += w->piece) {
        const int steps = j->count - start < w->piece ? (int)(j->count - start) : w->piece;
        const int rows = steps * j->batch;
        for (int l = 0; l < m->layers; l++) {
            const value below = w->text[(l + 1) % 2], here = w->text[l % 2];
            const size_t z_panel = (size_t)rows * 64;
            int first, end;
            share(w, thread, gate_panels(m), &first, &end);
            clear(w->sums, z_panel, rows, first, end);
            if (l) multiply(&m->layer[l].x, below, rows, first, end, w->sums, z_panel, IN_ORDER);
            if (m->cell == GRU_BEFORE) {
                share(w, thread, m->width / 64, &first, &end);
                clear(w->candidate_sums, z_panel, rows, first, end);
                if (l)
                    multiply(&m->layer[l].candidate_x, below, rows, first, end, w->candidate_sums, z_panel,
                                      IN_ORDER);
            }
            for (int t = 0; t < steps; t++) {
                const size_t at = (size_t)t * j->batch;
                const value old = t ? rows_from(here, at - j->batch) : w->old[l];
                const int64_t *tokens = l ? NULL : j->tokens + start + t;
                advance(w, thread, &m->layer[l], l, NULL, old, rows_from(here, at), tokens, j->count, at, rows, 0);
            }
            if (thread == 0) {
                const value last = rows_from(here, (size_t)rows - j->batch);
                memcpy(w->old[l].floats, last.floats, (size_t)j->batch * m->width * sizeof(float));
                round_rows(w->old[l], j->batch);
            }
        }
        if (j->logits) {
            predict(w, thread, w->text[(m->layers + 1) % 2], rows);
            meet(w);
            int first, end;
            share(w, thread, rows, &first, &end);
            for (int row = first; row < end; row++) {
                const int64_t position = (row % j->batch) * j->count + start + row / j->batch;
                memcpy(j->logits + position * m->vocab, w->logits + (size_t)row * m->vocab_width,
                       m->vocab * sizeof(float));
            }
        }
        meet(w);
    }
}

enum { WAIT, GO, LEAVE };

typedef struct {
    work *w;
    int thread;
    void (*run)(work *, int);
    atomic_int *order;
} task;

static void *begin(void *argument) {
    const task *t = argument;
    int order;
    while ((order = atomic_load_explicit(t->order, memory_order_acquire)) == WAIT) sched_yield();
    if (order == GO) t->run(t->w, t->thread);
    return NULL;
}

/* Memory of one job, from one block: the first pass adds up, the second hands out. */
typedef struct {
    char *base;
    size_t used;
} arena;

static void *take(arena *a, size_t bytes) {
    void *here = a->base ? a->base + a->used : NULL;
    a->used += (bytes + 63) / 64 * 64;
    return here;
}

static value take_value(arena *a, const model *m, size_t rows) {
    const size_t numbers = rows * m->width;
    const int rounded = !is_float(&m->out);
    value made = {take(a, numbers * sizeof(float)), NULL, NULL, m->width};
    if (rounded) {
        made.bytes = take(a, numbers);
        made.sums = take(a, numbers / 16 * sizeof(int32_t));
    }
    return made;
}

static void lay_out(work *w, arena *a, int feeding) {
    const model *m = w->m;
    const job *j = w->j;
    const size_t rows = (size_t)j->batch * (feeding ? w->piece : 1);
    const size_t sums = 4 * m->width > m->vocab_width ? 4 * m->width : m->vocab_width;
    for (int l = 0; l < m->layers; l++) {
        w->old[l] = take_value(a, m, j->batch);
        if (!feeding) w->new[l] = take_value(a, m, j->batch);
    }
    if (feeding)
        for (int i = 0; i < 2; i++) w->text[i] = take_value(a, m, rows);
    w->sums = take(a, rows * sums * sizeof(float));
    w->logits = take(a, rows * m->vocab_width * sizeof(float));
    w->sorted = take(a, (size_t)j->threads * m->vocab * sizeof(float));
    if (m->cell == GRU_BEFORE) {
        w->reset_state = take_value(a, m, j->batch);
        w->updates = take(a, (size_t)j->batch * m->width * sizeof(float));
        w->candidate_sums = take(a, rows * m->width * sizeof(float));
    }
}

/* Run a job: 0, or -1 where there is no memory or no thread to be had, or there are too many layers. */
static int run(const model *m, job *j, int feeding) {
    work w = {.m = m, .j = j};
    if (m->layers > 64) return -1;
    const int64_t limit = (1 << 20) / ((int64_t)4 * m->width * j->batch);
    w.piece = (int)(limit < 1 ? 1 : limit > j->count ? j->count : limit);
    arena a = {0};
    lay_out(&w, &a, feeding);
    a.base = aligned_alloc(64, a.used);
    pthread_t *threads = malloc(sizeof(pthread_t) * j->threads);
    task *tasks = malloc(sizeof(task) * j->threads);
    int result = a.base && threads && tasks ? 0 : -1;
    if (!result) {
        a.used = 0;
        lay_out(&w, &a, feeding);
        const size_t numbers = (size_t)j->batch * m->width;
        for (int l = 0; l < m->layers; l++) {
            memcpy(w.old[l].floats, j->states + l * numbers, numbers * sizeof(float));
            round_rows(w.old[l], j->batch);
        }
        void (*what)(work *, int) = feeding ? feed : decode;
        atomic_int order = WAIT; /* nobody begins before all are there: they meet after every layer */
        int started = 1;
        while (started < j->threads) {
            tasks[started] = (task){&w, started, what, &order};
            if (pthread_create(&threads[started], NULL, begin, &tasks[started])) break;
            started++;
        }
        if (started < j->threads) result = -1;
        atomic_store_explicit(&order, result ? LEAVE : GO, memory_order_release);
        if (!result) what(&w, 0);
        for (int t = 1; t < started; t++) pthread_join(threads[t], NULL);
        j->waits = atomic_load_explicit(&w.waits, memory_order_relaxed);
        const value *end = !feeding && j->count % 2 ? w.new : w.old;
        for (int l = 0; l < m->layers && !result; l++)
            memcpy(j->states + l * numbers, end[l].floats, numbers * sizeof(float));
    }
    free(tasks);
    free(threads);
    free(a.base);
    return result;
}

int p2_decode(const model *m, job *j) { return run(m, j, 0); }

int p2_feed(const model *m, job *j) { return run(m, j, 1); }
