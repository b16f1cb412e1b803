/* Which kernels make a product: see multiply.h. */

#include "multiply.h"

#include "compact.h"
#include "inline.h"
#include "instructions.h"

/* Rows that a kernel takes in a turn, and the bytes of them in a panel. */
static int turn_rows(const product *m) { return m->kind == INT8 ? 4 : m->kind == INT4 ? 8 : 1; }
static size_t turn_bytes(const product *m) { return m->vectors * (is_short(m) ? 32 : 64); }

static kernel kernel_for(const part *p, int rows) { return p->table[p->panels == PANELS ? rows - 1 : rows + 1]; }

/* The end of a group of the rows of a batch. All have almost the same size: 4 and 4 are faster than 6 and 2. */
static int end_of(int group, int groups, int rows, const product *m) {
    return level->uneven && is_float(m) && rows == 8 && !group ? 5 : rows * (group + 1) / groups;
}

/* Groups that ask for what comes. With more of them a step would be part of a line, asked for again and again. */
#define ASKING 3

/* A part of a matrix, for the rows of the batch in groups. The first one meets `first`, the others `others`, which holds the
 * same numbers and may begin with another row. The errand is that of all groups together. */
static void multiply_part(part first, part others, value a, int rows, errand e, target to) {
    const int groups = (rows + ROWS - 1) / ROWS, turns = (first.to - first.from) / turn_rows(first.m);
    const int asking = groups < ASKING ? groups : ASKING;
    if (asking > 1) e.step /= asking;
    for (int group = 0, row = 0; group < groups; group++) {
        const int end = end_of(group, groups, rows, first.m);
        const part *p = group ? &others : &first;
        const target here = {to.z + row * Z_ROW, to.panel, to.slot};
        value part_of_a = rows_from(a, row);
        part_of_a.floats += first.from - p->from;
        kernel_for(p, end - row)(p, &part_of_a, &here, &e);
        e.next += turns * e.step;
        if (group + 1 == asking) e.step = 0;
        row = end;
    }
}

/* Those of the rows of a part, which is a piece. */
static void add_outliers(part p, value a, int rows, target to) {
    const product *m = p.m;
    for (int number = 0; number < p.panels; number++) {
        const int piece = (p.panel + number) * ((m->rows + PIECE - 1) / PIECE) + p.from / PIECE;
        for (int i = piece ? m->outlier_ends[piece - 1] : 0; i < m->outlier_ends[piece]; i++) {
            const outlier o = m->outliers[i];
            float *at = to.z + number * to.panel + to.slot[o.column / 16] * 16 + o.column % 16;
            for (int row = 0; row < rows; row++) at[row * Z_ROW] += rounded(a.floats[row * a.width + o.row] * o.weight);
        }
    }
}

static int least(int a, int b) { return a < b ? a : b; }

/* For COMPACT weights: the first rows widen them in registers, and leave them for others. `last`: no panel follows. */
static __attribute__((noinline)) void multiply_compact(part p, value a, int rows, int last, target to) {
    float widened[PIECE * 64] __attribute__((aligned(64)));
    const product *m = p.m, wide = {.kind = FLOATS, .vectors = m->vectors, .weights = widened};
    p.table = rows > ROWS ? *level->widening : level->compact[m->ahead];
    for (p.from = 0; p.from < m->rows; p.from = p.to) {
        p.to = least(p.from + PIECE, m->rows);
        const part others = {level->floats[MEMORY], &wide, 0, p.panels, 0, p.to - p.from};
        const size_t done = groups_of(m->rows, m->vectors) * p.panel + groups_of(p.to, m->vectors);
        const errand e = {(const char *)m->weights + done * GROUP_BYTES,
                          last && p.to == m->rows ? 0 : m->vectors * GROUP_BYTES / 4, widened};
        multiply_part(p, others, a, rows, e, to);
        add_outliers(p, a, rows, to);
    }
}

/* For OPENED weights: the sums of COMPACT ones, in the same order. */
static void multiply_opened(part p, value a, int rows, target to) {
    const product *m = p.m, wide = {FLOATS, m->vectors, m->rows, .weights = m->weights};
    for (p.from = 0; p.from < m->rows; p.from = p.to) {
        p.to = least(p.from + PIECE, m->rows);
        part opened = p;
        opened.table = level->floats[MEMORY];
        opened.m = &wide;
        multiply_part(opened, opened, a, rows, (errand){0}, to);
        add_outliers(p, a, rows, to);
    }
}

/* Bytes ahead that a few rows, met by all weights once, ask for; a piece ahead is more than the second cache holds. */
#define SOON (16 << 10)

/* For weights of other kinds. */
static void multiply_plain(part p, value a, int rows, int last, target to) {
    const product *m = p.m;
    const int once = rows <= ROWS, piece = is_float(m) && !once ? PIECE : m->rows;
    p.table = (is_float(m) ? level->floats : level->integers)[m->place == SHARED && !m->ahead ? OWN : m->place];
    for (p.from = 0; p.from < m->rows; p.from = p.to) {
        p.to = least(p.from + piece, m->rows);
        const size_t before = ((size_t)p.panel * m->rows + (once ? p.from : p.to)) / turn_rows(m);
        const errand e = {(const char *)m->weights + turn_bytes(m) * before + (once ? SOON : 0),
                          last && p.to == m->rows && !once ? 0 : turn_bytes(m), NULL};
        multiply_part(p, p, a, rows, e, to);
    }
}

void multiply(const product *m, value a, int rows, range panels, int back, target to) {
    if (m->kind == INT8 && rows > ROWS && level->tiles) {
        level->tiles(m, a, rows, panels, to);
        return;
    }
    const int most = rows <= 2 ? PANELS : 1, count = (panels.end - panels.first + most - 1) / most;
    back = back && m->place != MEMORY;
    for (int number = 0; number < count; number++) {
        const int panel = panels.first + most * (back ? count - 1 - number : number), last = number == count - 1;
        const part p = {.m = m, .panel = panel, .panels = panel + most <= panels.end ? most : 1};
        const target here = {to.z + panel * to.panel, to.panel, to.slot};
        if (m->kind == COMPACT) multiply_compact(p, a, rows, last, here);
        else if (m->kind == OPENED) multiply_opened(p, a, rows, here);
        else multiply_plain(p, a, rows, last, here);
    }
}
