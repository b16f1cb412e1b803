/* A product of a batch with a matrix, from kernels of a few rows: which kernel, for which rows and panels. */

/* One panel, or two for a single row, by rows `from` to `to`; rows of the batch in groups of almost the same size: 4
 * and 4 are faster than 6 and 2. */
static void multiply_piece(const kernel *by_rows, const product *m, value a, int rows, int panels, int panel, int from,
                           int to, float *z, size_t z_panel, const int *slot) {
    const int groups = (rows + ROWS - 1) / ROWS;
    for (int group = 0, row = 0; group < groups; group++) {
        const int next = rows * (group + 1) / groups;
        by_rows[panels == 2 ? 0 : next - row](m, rows_from(a, row), panel, from, to, z + row * Z_ROW, z_panel, slot);
        row = next;
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

/* For COMPACT weights: small batches widen them in registers, others once for all their rows. */
static __attribute__((noinline)) void multiply_compact(const product *m, value a, int rows, int panels, int panel,
                                                       float *z, size_t z_panel, const int *slot) {
    float expanded[PIECE * 64] __attribute__((aligned(64)));
    product wide = {.kind = FLOATS, .vectors = m->vectors, .weights = expanded};
    for (int from = 0; from < m->rows; from += PIECE) {
        const int to = from + PIECE < m->rows ? from + PIECE : m->rows;
        if (rows > ROWS) {
            expand_rows(m, panel, from, to, expanded);
            value part = a;
            part.floats += from;
            multiply_piece(kernels, &wide, part, rows, 1, 0, 0, to - from, z, z_panel, slot);
        } else
            multiply_piece(compact_kernels, m, a, rows, panels, panel, from, to, z, z_panel, slot);
        for (int p = 0; p < panels; p++) add_outliers(m, a, rows, panel + p, from, z + p * z_panel, slot);
    }
}

/* z[panel][row] += value @ matrix for `rows` rows and the panels `first` to `end`. */
static void multiply(const product *m, value a, int rows, int first, int end, float *z, size_t z_panel,
                     const int *slot) {
    const int piece = is_float(m) && rows > ROWS ? PIECE : m->rows;
    for (int panel = first; panel < end;) {
        const int panels = rows == 1 && panel + 1 < end ? 2 : 1;
        float *here = z + panel * z_panel;
        if (m->kind == COMPACT)
            multiply_compact(m, a, rows, panels, panel, here, z_panel, slot);
        else
            for (int from = 0; from < m->rows; from += piece) {
                const int to = from + piece < m->rows ? from + piece : m->rows;
                multiply_piece(kernels, m, a, rows, panels, panel, from, to, here, z_panel, slot);
            }
        panel += panels;
    }
}
