/* Threads that run a job, and their memory. */

/* Characters and layers between two teams that each run some of the layers. Two pieces: one is made while the other is
 * used. The sums are those of the products with the first layer above, half made by each side. */
typedef struct {
    value text[2];
    float *sums[2], *candidate_sums[2];
    _Atomic int64_t made, used; /* pieces so far */
} passage;

/* Some texts and some layers of a job, and the threads that run them. */
typedef struct {
    const model *m;
    const job *j;
    int first, rows;    /* texts */
    int lowest, top;    /* layers, without the top */
    int threads;
    passage *in, *out;
    value old[64], new[64]; /* decode: a layer's state before and after a step */
    float *cells[64];       /* LSTM: of each layer, advanced in place */
    value text[2];          /* feed: a piece of text after one layer, and after the next */
    value reset_state;      /* GRU_BEFORE: r * h */
    float *updates;         /* GRU_BEFORE: z */
    float *sums, *candidate_sums, *logits, *scratch;
    drawing drawn; /* decode: 2 * threads of vocab_width numbers */
    float *opened; /* feed: room for a layer's recurrent weights, or NULL */
    int piece;     /* feed: characters of a text that go through a layer together */
    atomic_int arrived, generation, waits;
} team;

/* Pauses of a thread that waits, 10 to 40 microseconds, before it lets others have its processor. */
enum { PATIENCE = 1000 };

/* One team passes at most so many rows to the next at a time, and a text in at least so many pieces. */
enum { PASSED = 128, PIECES = 8 };

/* All threads of a team meet. */
static void meet(team *w) {
    if (w->threads == 1) return;
    const int generation = atomic_load_explicit(&w->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&w->arrived, 1, memory_order_acq_rel) == w->threads - 1) {
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

/* Until another team has come so far. */
static void await(_Atomic int64_t *counter, int64_t least) {
    for (int spins = 0; atomic_load_explicit(counter, memory_order_acquire) < least; spins++)
        if (spins < PATIENCE)
            _mm_pause();
        else
            sched_yield();
}

/* Part `index` of `count`. */
static void divide(int whole, int index, int count, int *first, int *end) {
    *first = (int)((int64_t)whole * index / count);
    *end = (int)((int64_t)whole * (index + 1) / count);
}

/* The panels of a thread. */
static void share(const team *w, int thread, int panels, int *first, int *end) {
    divide(panels, thread, w->threads, first, end);
}

static int gate_panels(const model *m) {
    return m->width / (m->cell == RNN ? 64 : m->cell == GRU_BEFORE ? 32 : 16);
}

/* Memory of a job, from one block: the first pass adds up, the second hands out. */
typedef struct {
    char *base;
    size_t used;
} arena;

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

static void lay_out_team(team *w, arena *a, int feeding) {
    const model *m = w->m;
    const size_t rows = (size_t)w->rows * (feeding ? w->piece : 1);
    for (int l = w->lowest; l < w->top; l++) {
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
    if (m->cell == GRU_BEFORE) {
        w->reset_state = take_value(a, m, w->rows);
        w->updates = take(a, (size_t)w->rows * m->width * sizeof(float));
        w->candidate_sums = take(a, rows * m->width * sizeof(float));
    }
}

/* Place number `index` of the noise that is drawn, over and over. */
static drawing drawing_at(const team *w, int64_t index) {
    const size_t at = (size_t)(index % (2 * w->threads)) * w->m->vocab_width;
    return (drawing){w->drawn.words + at, w->drawn.nearly + at};
}

static void lay_out_passage(passage *p, arena *a, const model *m, size_t rows) {
    for (int i = 0; i < 2; i++) {
        p->text[i] = take_value(a, m, rows);
        p->sums[i] = take(a, rows * 4 * m->width * sizeof(float));
        if (m->cell == GRU_BEFORE) p->candidate_sums[i] = take(a, rows * m->width * sizeof(float));
    }
}

/* The states of a team's texts and layers, from the job (`back` = 0) and to it. Those of the caller may begin anywhere
 * in a line of the cache, and a line that two threads write goes to and fro between them. */
static void carry(team *w, const value *from, int back) {
    const size_t width = w->m->width, bytes = w->rows * width * sizeof(float);
    for (int l = w->lowest; l < w->top; l++) {
        const size_t at = ((size_t)l * w->j->batch + w->first) * width;
        float *outside = w->j->states + at;
        memcpy(back ? outside : from[l].floats, back ? from[l].floats : outside, bytes);
        if (w->m->cell == LSTM) {
            float *cells = w->j->cells + at;
            memcpy(back ? cells : w->cells[l], back ? w->cells[l] : cells, bytes);
        }
        if (!back) round_rows(from[l], w->rows);
    }
}
