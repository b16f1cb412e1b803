/* The decode loop of recurrent character models on processors: whole characters per call, threads that wait for one
 * another by spinning, one barrier a layer.
 *
 * Every thread of a team owns some panels of every matrix and the units that they make, so a layer's products, its
 * cell and the rounding of its state stay with one thread and in its cache. Small models can have a team for every few
 * texts, and for every few layers when they read: then nobody waits within a character. What is computed is defined in
 * contract/card.py (step_shapes) and contract/sampling.py.
 *
 * Here: what Python calls, and who does what in a job. p2_approximate_noise is in noise.c, p2_compact in
 * compacting.c, what chooses the level in instructions.c. */

#define _GNU_SOURCE /* processors of a thread */

#include "loops.h"
#include "memory.h"
#include "opening.h"
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

/* Of the structures in types.h; binding.py expects this one. */
int p2_layout(void) { return 11; }

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
        *w = (team){.m = m, .j = j, .layers = {0, m->layers}};
        const range threads = divide(j->threads, i, teams);
        range texts = {0, j->batch};
        w->threads = threads.end - threads.first;
        if (by_layers) {
            w->layers = divide(m->layers, i, teams);
            w->in = i ? &passages[i - 1] : NULL;
            w->out = i + 1 < teams ? &passages[i] : NULL;
        } else
            texts = divide(j->batch, i, teams);
        w->first = texts.first;
        w->rows = texts.end - texts.first;
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
