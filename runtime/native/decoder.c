/* The decode loop of recurrent character models on x86 processors: whole characters per call, threads that
 * wait for one another by spinning, one barrier a layer.
 *
 * Every thread of a team owns some panels of every matrix and the units that they make, so a layer's products, its
 * cell and the rounding of its state stay with one thread and in its cache. Small models can have a team for every few
 * texts, and for every few layers when they read: then nobody waits within a character. What is computed is defined in
 * contract/card.py (step_shapes) and contract/sampling.py. */

#define _GNU_SOURCE /* processors of a thread */

#include "decoder.h"

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* Numbers with one row for each text: floats, and where products want them 8 bits (128 + 127 * x), and the sums of
 * 16 of those, less the 128; else NULL. */
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
        if (a.sums) a.sums += row * (a.width / 16);
    }
    return a;
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,prefer-vector-width=512")
#include "kernels.h"
#include "compact.h"
#include "noise.h"
#pragma GCC pop_options
#include "compacting.h"
#include "multiply.h"
#include "team.h"
#include "steps.h"
#include "opening.h"

/* Of the structures in decoder.h; binding.py expects this one. */
int p2_layout(void) { return 7; }

/* Whether this processor has the instructions. */
int p2_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

/* The noise that `draw` makes of words, a multiple of 16 of them; tests ask how far it is off. */
void p2_approximate_noise(uint32_t *words, int count, float *noise) { approximate((drawing){words, noise}, count); }

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

/* Write, with all layers in one team. A single text's character is chosen by every thread for itself: that is sooner
 * done than waited for. The noise for it is drawn a character by each, into one half of the places while others may
 * still look at the other half. */
static void decode(team *w, int thread) {
    const model *m = w->m;
    const job *j = w->j;
    const value *before = w->old, *after = w->new;
    const sums s = sums_of(w->sums, w->candidate_sums, w->rows, 0);
    const int alone = w->rows == 1;
    float *scratch = w->scratch + (size_t)thread * m->vocab_width;
    int64_t own = j->tokens[w->first], *tokens = alone ? &own : j->tokens + w->first;
    int first = 0, end = 1;
    if (!alone) share(w, thread, w->rows, &first, &end);
    for (int64_t step = 0; step < j->count; step++) {
        if (j->streams && alone && step % w->threads == 0 && step + thread < j->count)
            draw(drawing_at(w, step + thread), j, w->first, step + thread, m->vocab);
        for (int l = 0; l < m->layers; l++)
            advance(w, thread, l, &m->layer[l], l ? &after[l - 1] : NULL, before[l], after[l], l ? NULL : tokens, 1,
                    s, 1, 0);
        predict(w, thread, after[m->layers - 1], w->rows);
        if (alone && j->streams) ask(drawing_at(w, step).nearly, m->vocab_width * sizeof(float));
        meet(w);
        if (alone) ask(w->logits, m->vocab_width * sizeof(float));
        for (int row = first; row < end; row++) {
            const size_t text = w->first + row;
            const float *logits = w->logits + (size_t)row * m->vocab_width;
            if (j->streams) {
                const drawing d = drawing_at(w, alone ? step : thread);
                if (!alone) draw(d, j, text, step, m->vocab);
                tokens[row] = choose_drawn(logits, d, m->vocab, j->temperature, j->settings, scratch);
            } else {
                const float *noise = j->noise ? j->noise + (step * j->batch + text) * m->vocab : NULL;
                tokens[row] = choose(logits, noise, m->vocab, j->settings, scratch);
            }
            if (!alone || thread == 0) j->written[text * j->count + step] = tokens[row];
        }
        if (!alone) meet(w);
        const value *other = before;
        before = after;
        after = other;
    }
    if (alone && thread == 0) j->tokens[w->first] = own;
}

/* The input's part of the sums of a layer, for part `index` of `count` of the panels. */
static void take_in(const model *m, const layer *l, value below, int rows, float *gates, float *candidate, int index,
                    int count) {
    const size_t z_panel = (size_t)rows * 64;
    int first, end;
    divide(gate_panels(m), index, count, &first, &end);
    clear(gates, z_panel, rows, first, end);
    if (below.floats) multiply(&l->x, below, rows, first, end, 0, gates, z_panel, IN_ORDER);
    if (m->cell != GRU_BEFORE) return;
    divide(m->width / 64, index, count, &first, &end);
    clear(candidate, z_panel, rows, first, end);
    if (below.floats) multiply(&l->candidate_x, below, rows, first, end, 0, candidate, z_panel, IN_ORDER);
}

/* Read: a piece of the text goes through a whole layer, so that the input's products are those of many characters at
 * once. With several teams each has some of the layers, and they work on pieces that follow one another. */
static void feed(team *w, int thread) {
    const model *m = w->m;
    const job *j = w->j;
    int64_t number = 0;
    for (int64_t start = 0; start < j->count; start += w->piece, number++) {
        const int steps = j->count - start < w->piece ? (int)(j->count - start) : w->piece;
        const int rows = steps * w->rows, turn = number % 2;
        if (w->in) await(&w->in->made, number + 1);
        if (w->out) await(&w->out->used, number - 1);
        for (int l = w->lowest; l < w->top; l++) {
            const int enters = w->in && l == w->lowest, leaves = w->out && l == w->top - 1;
            const value none = {0}, below = enters ? w->in->text[turn] : l ? w->text[(l + 1) % 2] : none;
            const value here = leaves ? w->out->text[turn] : w->text[l % 2];
            float *gates = enters ? w->in->sums[turn] : w->sums;
            float *candidate = enters ? w->in->candidate_sums[turn] : w->candidate_sums;
            const int parts = enters ? 2 * w->threads : w->threads;
            take_in(m, &m->layer[l], below, rows, gates, candidate, parts - w->threads + thread, parts);
            if (enters) meet(w); /* the other half is divided in another way */
            const layer mine = open_layer(w, thread, &m->layer[l], steps);
            for (int t = 0; t < steps; t++) {
                const size_t at = (size_t)t * w->rows;
                const value old = t ? rows_from(here, at - w->rows) : w->old[l];
                const int64_t *tokens = l ? NULL : j->tokens + w->first * j->count + start + t;
                advance(w, thread, l, &mine, NULL, old, rows_from(here, at), tokens, j->count,
                        sums_of(gates, candidate, rows, at), 0, t % 2);
            }
            if (thread == 0) {
                const value last = rows_from(here, (size_t)rows - w->rows);
                memcpy(w->old[l].floats, last.floats, (size_t)w->rows * m->width * sizeof(float));
                round_rows(w->old[l], w->rows);
            }
            if (leaves)
                take_in(m, &m->layer[w->top], here, rows, w->out->sums[turn], w->out->candidate_sums[turn], thread,
                        2 * w->threads);
        }
        if (j->logits && w->top == m->layers) {
            predict(w, thread, w->text[(m->layers + 1) % 2], rows);
            meet(w);
            int first, end;
            share(w, thread, rows, &first, &end);
            for (int row = first; row < end; row++) {
                const int64_t position = (w->first + row % w->rows) * j->count + start + row / w->rows;
                memcpy(j->logits + position * m->vocab, w->logits + (size_t)row * m->vocab_width,
                       m->vocab * sizeof(float));
            }
        }
        meet(w);
        if (thread) continue;
        if (w->in) atomic_store_explicit(&w->in->used, number + 1, memory_order_release);
        if (w->out) atomic_store_explicit(&w->out->made, number + 1, memory_order_release);
    }
}

enum { WAIT, GO, LEAVE };

typedef struct {
    team *w;
    int thread;
    void (*run)(team *, int);
    atomic_int *order;
} task;

static void *begin(void *argument) {
    const task *t = argument;
    int order;
    while ((order = atomic_load_explicit(t->order, memory_order_acquire)) == WAIT) sched_yield();
    if (order == GO) t->run(t->w, t->thread);
    return NULL;
}

/* Start a thread on another processor than this one's. Left to the system both may share one for tens of milliseconds,
 * in which each waits for the other's turn. */
static int start_elsewhere(pthread_t *thread, task *t) {
#ifdef __linux__
    pthread_attr_t attributes;
    cpu_set_t where;
    const int here = sched_getcpu();
    if (here >= 0 && here < CPU_SETSIZE && !sched_getaffinity(0, sizeof where, &where) && CPU_COUNT(&where) > 1 &&
        !pthread_attr_init(&attributes)) {
        CPU_CLR(here, &where);
        int failed = pthread_attr_setaffinity_np(&attributes, sizeof where, &where);
        failed = failed || pthread_create(thread, &attributes, begin, t);
        pthread_attr_destroy(&attributes);
        if (!failed) return 0;
    }
#endif
    return pthread_create(thread, NULL, begin, t);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Who does what. */
static void divide_work(const model *m, const job *j, int by_layers, int teams, team *all, passage *passages) {
    for (int i = 0; i < teams; i++) {
        team *w = &all[i];
        int thread, next_thread, end = j->batch;
        *w = (team){.m = m, .j = j, .top = m->layers};
        divide(j->threads, i, teams, &thread, &next_thread);
        w->threads = next_thread - thread;
        if (by_layers) {
            divide(m->layers, i, teams, &w->lowest, &w->top);
            w->in = i ? &passages[i - 1] : NULL;
            w->out = i + 1 < teams ? &passages[i] : NULL;
        } else
            divide(j->batch, i, teams, &w->first, &end);
        w->rows = end - w->first;
        int64_t piece = (1 << 20) / ((int64_t)4 * m->width * w->rows);
        if (by_layers) piece = least(PASSED / w->rows, j->count / PIECES);
        w->piece = (int)most(1, least(piece, j->count));
    }
}

/* Run a job: 0, or -1 where there is no memory or no thread to be had, or there are too many layers. */
static int run(const model *m, job *j, int feeding) {
    if (m->layers > 64) return -1;
    const int by_layers = feeding && j->division == LAYERS;
    const int teams = by_layers ? least(j->threads, m->layers) : j->division == TEXTS ? least(j->threads, j->batch) : 1;
    team *all = malloc(sizeof(team) * teams);
    passage *passages = calloc(teams, sizeof(passage));
    pthread_t *threads = malloc(sizeof(pthread_t) * j->threads);
    task *tasks = malloc(sizeof(task) * j->threads);
    arena a = {0};
    float *opened = NULL; /* where one team has all layers: others' weights are in their own caches */
    int result = all && passages && threads && tasks ? 0 : -1;
    if (!result) {
        divide_work(m, j, by_layers, teams, all, passages);
        if (feeding && teams == 1) opened = all[0].opened = room_for_opened(m, all[0].piece);
    }
    for (int pass = 0; pass < 2 && !result; pass++) {
        if (pass && !(a.base = aligned_alloc(64, a.used))) result = -1;
        a.used = 0;
        for (int i = 0; i < teams && !result; i++) {
            lay_out_team(&all[i], &a, feeding);
            if (all[i].out) lay_out_passage(all[i].out, &a, m, (size_t)all[i].rows * all[i].piece);
        }
    }
    if (!result) {
        void (*what)(team *, int) = feeding ? feed : decode;
        atomic_int order = WAIT; /* nobody begins before all are there: they wait for one another */
        int number = 0, started = 1;
        for (int i = 0; i < teams; i++) {
            carry(&all[i], all[i].old, 0);
            for (int thread = 0; thread < all[i].threads; thread++)
                tasks[number++] = (task){&all[i], thread, what, &order};
        }
        while (started < j->threads && !start_elsewhere(&threads[started], &tasks[started])) started++;
        if (started < j->threads) result = -1;
        atomic_store_explicit(&order, result ? LEAVE : GO, memory_order_release);
        if (!result) what(tasks[0].w, 0);
        for (int t = 1; t < started; t++) pthread_join(threads[t], NULL);
        j->waits = 0;
        for (int i = 0; i < teams && !result; i++) {
            j->waits += atomic_load_explicit(&all[i].waits, memory_order_relaxed);
            carry(&all[i], !feeding && j->count % 2 ? all[i].new : all[i].old, 1);
        }
    }
    free(opened);
    free(a.base);
    free(tasks);
    free(threads);
    free(passages);
    free(all);
    return result;
}

int p2_decode(const model *m, job *j) { return run(m, j, 0); }

int p2_feed(const model *m, job *j) { return run(m, j, 1); }
