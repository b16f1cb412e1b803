/* A product of a batch with a matrix, from kernels of a few rows: which kernel, for which rows and panels. */

/* A piece of a matrix and the kernels for it. */
typedef struct {
    const kernel *table;
    const product *m;
    int panel, from, to;
} part;

/* One panel, or two for one row or two, by some of its rows; rows of the batch in groups of almost the same size: 4
 * and 4 are faster than 6 and 2. The first group meets `first`, the others `others`, which holds the same numbers and
 * may begin with another row. Meanwhile kernels may ask for what lies at `next`, in `turns` turns of `bytes` each. */
static void multiply_piece(part first, part others, value a, int rows, int panels, const char *next, size_t bytes,
                           int turns, float *widened, float *z, size_t z_panel, const int *slot) {
    const int groups = (rows + ROWS - 1) / ROWS;
    errand e = {next, groups == 1 ? bytes : bytes / groups, widened};
    for (int group = 0, row = 0; group < groups; group++) {
        const int end = rows * (group + 1) / groups;
        const part p = group ? others : first;
        value here = rows_from(a, row);
        here.floats += first.from - p.from;
        kernel_for(p.table, end - row, panels)(p.m, here, p.panel, p.from, p.to, z + row * Z_ROW, z_panel, slot, &e);
        e.next += turns * e.step;
        row = end;
    }
}

static void add_outliers(const product *m, value a, int rows, int panel, int from, float *z, const int *slot) {
    const int piece = panel * ((m->rows + PIECE - 1) / PIECE) + from / PIECE;
    for (int i = piece ? m->outlier_ends[piece - 1] : 0; i < m->outlier_ends[piece]; i++) {
        const outlier o = m->outliers[i];
        float *at = z + slot[o.column / 16] * 16 + o.column % 16;
        for (int row = 0; row < rows; row++) at[row * Z_ROW] += a.floats[row * a.width + o.row] * o.weight;
    }
}

/* For COMPACT weights: the first rows widen them in registers, and leave them for others. */
static __attribute__((noinline)) void multiply_compact(const product *m, value a, int rows, int panels, int panel,
                                                       int last, float *z, size_t z_panel, const int *slot) {
    float widened[PIECE * 64] __attribute__((aligned(64)));
    const product wide = {.kind = FLOATS, .vectors = m->vectors, .weights = widened};
    for (int from = 0; from < m->rows; from += PIECE) {
        const int to = from + PIECE < m->rows ? from + PIECE : m->rows;
        const part first = {rows > ROWS ? widening_kernels : compact_kernels[m->ahead], m, panel, from, to};
        const part others = {kernels[MEMORY], &wide, 0, 0, to - from};
        const size_t done = groups_of(m->rows, m->vectors) * panel + groups_of(to, m->vectors);
        const size_t bytes = last && to == m->rows ? 0 : m->vectors * GROUP_BYTES / 4;
        multiply_piece(first, others, a, rows, panels, (const char *)m->weights + done * GROUP_BYTES, bytes, to - from,
                       widened, z, z_panel, slot);
        for (int p = 0; p < panels; p++) add_outliers(m, a, rows, panel + p, from, z + p * z_panel, slot);
    }
}

/* For OPENED weights: the sums of COMPACT ones, in the same order. */
static void multiply_opened(const product *m, value a, int rows, int panels, int panel, float *z, size_t z_panel,
                            const int *slot) {
    const product wide = {FLOATS, m->vectors, m->rows, .weights = m->weights};
    for (int from = 0; from < m->rows; from += PIECE) {
        const int to = from + PIECE < m->rows ? from + PIECE : m->rows;
        const part p = {kernels[MEMORY], &wide, panel, from, to};
        multiply_piece(p, p, a, rows, panels, NULL, 0, 0, NULL, z, z_panel, slot);
        for (int i = 0; i < panels; i++) add_outliers(m, a, rows, panel + i, from, z + i * z_panel, slot);
    }
}

/* Bytes ahead that a few rows, met by all weights once, ask for; a piece ahead is more than the second cache holds. */
#define SOON (16 << 10)

/* Rows that a kernel takes in a turn, and the bytes of them in a panel. */
static int turn_rows(const product *m) { return m->kind == INT8 ? 4 : m->kind == INT4 ? 8 : 1; }
static size_t turn_bytes(const product *m) { return m->vectors * (m->kind == HALVES || m->kind == BRAIN ? 32 : 64); }

/* z[panel][row] += value @ matrix for `rows` rows and the panels `first` to `end`, the last first with `back`: who goes
 * to and fro finds the panels that it met last in its own cache. */
static void multiply(const product *m, value a, int rows, int first, int end, int back, float *z, size_t z_panel,
                     const int *slot) {
    const int once = rows <= ROWS, most = rows <= 2 ? PANELS : 1, piece = is_float(m) && !once ? PIECE : m->rows;
    const int count = (end - first + most - 1) / most, place = m->place == SHARED && !m->ahead ? OWN : m->place;
    back = back && m->place != MEMORY;
    for (int number = 0; number < count; number++) {
        const int panel = first + most * (back ? count - 1 - number : number), last = number == count - 1;
        const int panels = panel + most <= end ? most : 1;
        float *here = z + panel * z_panel;
        if (m->kind == COMPACT)
            multiply_compact(m, a, rows, panels, panel, last, here, z_panel, slot);
        else if (m->kind == OPENED)
            multiply_opened(m, a, rows, panels, panel, here, z_panel, slot);
        else
            for (int from = 0; from < m->rows; from += piece) {
                const int to = from + piece < m->rows ? from + piece : m->rows;
                const part p = {kernels[place], m, panel, from, to};
                const size_t before = ((size_t)panel * m->rows + (once ? from : to)) / turn_rows(m);
                const char *next = (const char *)m->weights + turn_bytes(m) * before + (once ? SOON : 0);
                multiply_piece(p, p, a, rows, panels, next, last && to == m->rows && !once ? 0 : turn_bytes(m),
                               (to - from) / turn_rows(m), NULL, here, z_panel, slot);
            }
    }
}
