/* Matrix products over panels of 64 outputs, and the cells that follow them.
 *
 * ROWS: rows of a batch that a kernel has under way in registers; PANELS: panels that one row or two meet at once, so
 * that enough additions are under way; PIECE: rows of a panel that stay in the second cache while all rows of a
 * batch meet them. Every output is summed in the order of the matrix's rows, whatever the batch: a text does not
 * depend on its neighbours, to the last bit. */

#include "arithmetic.h"

#define ROWS 6
#define PANELS 2
#define PIECE 256
#define Z_ROW 64 /* floats of one row in one panel: [4][16] */

/* A loop over registers: it must not remain one. */
#define EACH(i, count) _Pragma("GCC unroll 12") for (int i = 0; i < count; i++)

/* What a kernel does beside its sums. With FETCHING it asks for what is multiplied next, `step` bytes in each of its
 * turns, so that the memory works while the processor computes. With LEAVING it leaves COMPACT weights widened, as
 * float [rows][vectors][16], for other rows. With LOOKING it asks for what it needs soon itself. */
typedef struct {
    const char *next;
    size_t step;
    float *widened;
} errand;

enum { FETCHING = 1, LEAVING = 2, LOOKING = 4 };
#define LOOK 1024 /* bytes */

static inline __attribute__((always_inline)) void fetch(const int how, const errand *e, size_t turn) {
    if (how & FETCHING)
        for (size_t line = 0; line < e->step; line += 64)
            _mm_prefetch(e->next + turn * e->step + line, _MM_HINT_T1);
}

/* For `bytes` of a turn at `here`. */
static inline __attribute__((always_inline)) void look(const int how, const void *here, const int bytes) {
    if (how & LOOKING) EACH(line, (bytes + 63) / 64) _mm_prefetch((const char *)here + LOOK + line * 64, _MM_HINT_T0);
}

/* 16 weights of a kind of floats, widened; exact. */
static inline __attribute__((always_inline)) vf widened(const int kind, const char *weights) {
    if (kind == FLOATS) return *(const vfu *)weights;
    const __m256i narrow = _mm256_loadu_si256((const __m256i *)weights);
    if (kind == HALVES) return (vf)_mm512_cvtph_ps(narrow);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
}

/* z[panel][row][slot[v]] += a[row][from..to] @ weights, for weights of any kind of floats. */
static inline __attribute__((always_inline)) void float_kernel(
    const int how, const int kind, const int rows, const int panels, const int vectors, const float *a, size_t width,
    const product *m, int panel, int from, int to, float *z, size_t z_panel, const int *slot, const errand *e) {
    const size_t vector_size = kind == FLOATS ? 64 : 32, panel_size = (size_t)m->rows * vectors * vector_size;
    const char *weights = (const char *)m->weights + panel * panel_size;
    vf sum[ROWS * PANELS][4];
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                sum[p * rows + r][v] = *(const vfu *)(z + p * z_panel + r * Z_ROW + slot[v] * 16);
    for (int k = from; k < to; k++) {
        fetch(how, e, k - from);
        EACH(p, panels) {
            const char *w = weights + p * panel_size + (size_t)k * vectors * vector_size;
            vf column[4];
            look(how, w, vectors * (int)vector_size);
            EACH(v, vectors) column[v] = widened(kind, w + v * vector_size);
            EACH(r, rows) {
                vf factor = all(a[r * width + k]);
                EACH(v, vectors) sum[p * rows + r][v] += factor * column[v];
            }
        }
    }
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                *(vfu *)(z + p * z_panel + r * Z_ROW + slot[v] * 16) = sum[p * rows + r][v];
}

static inline __attribute__((always_inline)) __m512i repeat_four(const uint8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return _mm512_set1_epi32(four);
}

/* sum += four products of unsigned and signed bytes, in each of 16 places. The compiler's own function for it makes it
 * copy every sum twice, and run out of registers. */
static inline __attribute__((always_inline)) void add_products(__m512i *sum, __m512i plain, __m512i with_sign) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(plain), "vm"(with_sign));
}

/* The same for int8 weights and activations of 8 bits, as contract/integers.py defines it: the sum is exact. It lies within
 * 32 bits, though not on its way. */
static inline __attribute__((always_inline)) void int8_kernel(
    const int how, const int rows, const int panels, const int vectors, const uint8_t *a, size_t width,
    const product *m, int panel, float *z, size_t z_panel, const int *slot, const errand *e) {
    __m512i sum[ROWS * PANELS][4];
    const size_t panel_size = (size_t)m->rows * vectors * 16;
    const int8_t *weights = (const int8_t *)m->weights + panel * panel_size;
    const int32_t *start = m->start + panel * vectors * 16;
    const float *scales = m->scales + panel * vectors * 16;
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors)
                sum[p * rows + r][v] = _mm512_loadu_si512(start + (p * vectors + v) * 16);
    for (int k = 0; k < m->rows / 4; k++) {
        fetch(how, e, k);
        EACH(p, panels) {
            const int8_t *w = weights + p * panel_size + (size_t)k * vectors * 64;
            __m512i column[4];
            look(how, w, vectors * 64);
            EACH(v, vectors) column[v] = _mm512_loadu_si512(w + v * 64);
            EACH(r, rows) {
                __m512i factor = repeat_four(a + r * width + k * 4);
                EACH(v, vectors) add_products(&sum[p * rows + r][v], factor, column[v]);
            }
        }
    }
    EACH(p, panels)
        EACH(r, rows)
            EACH(v, vectors) {
                vfu *at = (vfu *)(z + p * z_panel + r * Z_ROW + slot[v] * 16);
                vf scale = *(const vfu *)(scales + (p * vectors + v) * 16);
                *at += rounded_product((vf)_mm512_cvtepi32_ps(sum[p * rows + r][v]), scale);
            }
}

/* The same for int4 weights, a scale for each block of rows. `sums` holds the activations of 16 rows each, added
 * up: the weights are stored plus 8. */
static inline __attribute__((always_inline)) void int4_kernel(
    const int how, const int rows, const int panels, const int vectors, const uint8_t *a, size_t width,
    const int32_t *sums, const product *m, int panel, float *z, size_t z_panel, const int *slot, const errand *e) {
    const __m512i low_half = _mm512_set1_epi8(0x0f), sign = _mm512_set1_epi8((char)0x80);
    const size_t panel_size = (size_t)m->rows * vectors * 8;
    const int blocks = m->rows / m->block;
    const uint8_t *weights = (const uint8_t *)m->weights + panel * panel_size;
    const float *scales = m->scales + (size_t)panel * blocks * vectors * 16;
    for (int b = 0; b < blocks; b++) {
        __m512i sum[ROWS * PANELS][4];
        EACH(r, rows) {
            uint32_t total = 0; /* modulo 2**32, as the products are added */
            for (int i = 0; i < m->block / 16; i++) total += (uint32_t)sums[r * (width / 16) + b * (m->block / 16) + i];
            EACH(p, panels)
                EACH(v, vectors) sum[p * rows + r][v] = _mm512_set1_epi32((int32_t)(0u - 8u * total));
        }
        for (int k = b * m->block / 8; k < (b + 1) * m->block / 8; k++) {
            fetch(how, e, k);
            EACH(p, panels) {
                const uint8_t *w = weights + p * panel_size + (size_t)k * vectors * 64;
                look(how, w, vectors * 64);
                EACH(half, 2) { /* rows 0 to 3 of eight, then 4 to 7 */
                    __m512i column[4];
                    EACH(v, vectors) {
                        __m512i both = _mm512_loadu_si512(w + v * 64);
                        column[v] = _mm512_and_si512(half ? _mm512_srli_epi16(both, 4) : both, low_half);
                    }
                    EACH(r, rows) {
                        __m512i factor = _mm512_xor_si512(repeat_four(a + r * width + k * 8 + half * 4), sign);
                        EACH(v, vectors)
                            add_products(&sum[p * rows + r][v], column[v], factor);
                    }
                }
            }
        }
        EACH(p, panels)
            EACH(r, rows)
                EACH(v, vectors) {
                    vfu *at = (vfu *)(z + p * z_panel + r * Z_ROW + slot[v] * 16);
                    vf scale = *(const vfu *)(scales + (((size_t)p * blocks + b) * vectors + v) * 16);
                    *at += rounded_product((vf)_mm512_cvtepi32_ps(sum[p * rows + r][v]), scale);
                }
    }
}

/* One kernel call with sizes that the compiler knows. */
static inline __attribute__((always_inline)) void sized_product(
    const int how, const int rows, const int panels, const int vectors, const product *m, value a, int panel,
    int from, int to, float *z, size_t z_panel, const int *slot, const errand *e) {
    if (m->kind == FLOATS)
        float_kernel(how, FLOATS, rows, panels, vectors, a.floats, a.width, m, panel, from, to, z, z_panel, slot, e);
    else if (m->kind == HALVES)
        float_kernel(how, HALVES, rows, panels, vectors, a.floats, a.width, m, panel, from, to, z, z_panel, slot, e);
    else if (m->kind == BRAIN)
        float_kernel(how, BRAIN, rows, panels, vectors, a.floats, a.width, m, panel, from, to, z, z_panel, slot, e);
    else if (m->kind == INT8)
        int8_kernel(how, rows, panels, vectors, a.bytes, a.width, m, panel, z, z_panel, slot, e);
    else
        int4_kernel(how, rows, panels, vectors, a.bytes, a.width, a.sums, m, panel, z, z_panel, slot, e);
}

#define ONE_SIZE(name, how, rows, panels)                                                                    \
    static __attribute__((noinline)) void name##_##rows##_##panels(                                          \
        const product *m, value a, int panel, int from, int to, float *z, size_t z_panel, const int *slot,   \
        const errand *e) {                                                                                   \
        if (m->vectors == 4)                                                                                 \
            sized_product(how, rows, panels, 4, m, a, panel, from, to, z, z_panel, slot, e);                 \
        else                                                                                                 \
            sized_product(how, rows, panels, 3, m, a, panel, from, to, z, z_panel, slot, e);                 \
    }
ONE_SIZE(product, 0, 1, 1)
ONE_SIZE(product, 0, 1, 2)
ONE_SIZE(product, 0, 2, 1)
ONE_SIZE(product, 0, 2, 2)
ONE_SIZE(product, 0, 3, 1)
ONE_SIZE(product, 0, 4, 1)
ONE_SIZE(product, 0, 5, 1)
ONE_SIZE(product, 0, 6, 1)
ONE_SIZE(looking, LOOKING, 1, 1)
ONE_SIZE(looking, LOOKING, 1, 2)
ONE_SIZE(fetching, FETCHING, 3, 1)
ONE_SIZE(fetching, FETCHING, 4, 1)
ONE_SIZE(fetching, FETCHING, 5, 1)
ONE_SIZE(fetching, FETCHING, 6, 1)

typedef void (*kernel)(const product *, value, int panel, int from, int to, float *z, size_t z_panel, const int *slot,
                       const errand *);

/* Kernels for one and two rows and two panels, then for one row to ROWS and one panel. */
typedef kernel kernel_table[ROWS + 2];

/* By the place of the weights; SHARED for those that are to be asked for in advance, which pays on some processors and
 * costs on others. With as little to compute as for one or two rows the processor fetches by itself what lies in the
 * memory. */
static const kernel_table kernels[3] = {
    {product_1_2, product_2_2, product_1_1, product_2_1, product_3_1, product_4_1, product_5_1, product_6_1},
    {looking_1_2, product_2_2, looking_1_1, product_2_1, product_3_1, product_4_1, product_5_1, product_6_1},
    {product_1_2, product_2_2, product_1_1, product_2_1, fetching_3_1, fetching_4_1, fetching_5_1, fetching_6_1},
};

static inline kernel kernel_for(const kernel *table, int rows, int panels) {
    return table[panels == PANELS ? rows - 1 : rows + 1];
}

/* Put 16 new numbers of a state into its row, in 8 bits as well where products want that. */
static inline __attribute__((always_inline)) void keep(value a, int row, int unit, vf numbers) {
    *(vfu *)(a.floats + (size_t)row * a.width + unit) = numbers;
    if (!a.bytes) return;
    const __m512 steps = (__m512)(numbers * all(127.0f)), least = _mm512_set1_ps(-128), most = _mm512_set1_ps(127);
    const vi rounded = (vi)_mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(steps, least), most));
    *(vbu *)(a.bytes + (size_t)row * a.width + unit) = __builtin_convertvector(rounded + 128, vb);
    if (!a.sums) return;
    int total = 0;
    for (int i = 0; i < 16; i++) total += rounded[i];
    a.sums[row * (a.width / 16) + unit / 16] = total;
}

static void round_rows(value a, int rows) {
    for (int row = 0; row < rows; row++)
        for (size_t unit = 0; unit < a.width; unit += 16)
            keep(a, row, unit, *(const vfu *)(a.floats + (size_t)row * a.width + unit));
}

/* A bias row for a token: layer 0 has one for each character. */
#define BIAS(base, panels) ((base) + (tokens ? tokens[(size_t)row * token_step] : 0) * (size_t)(panels) * Z_ROW)

static inline __attribute__((always_inline)) void lstm_of(
    const int defined, const layer *l, int rows, int first, int end, const float *z, size_t z_panel,
    const int64_t *tokens, size_t token_step, value new, float *cells) {
    const int panels = new.width / 16;
    for (int panel = first; panel < end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = z + panel * z_panel + row * Z_ROW, *bias = BIAS(l->bias, panels) + panel * Z_ROW;
            vfu *cell = (vfu *)(cells + (size_t)row * new.width + panel * 16);
            vf input = gate(defined, *(const vfu *)given + *(const vfu *)bias);
            vf forget = gate(defined, *(const vfu *)(given + 16) + *(const vfu *)(bias + 16));
            vf output = gate(defined, *(const vfu *)(given + 32) + *(const vfu *)(bias + 32));
            vf candidate = tangent(defined, *(const vfu *)(given + 48) + *(const vfu *)(bias + 48));
            vf now = defined ? rounded_product(forget, *cell) + rounded_product(input, candidate)
                             : forget * *cell + input * candidate;
            *cell = now;
            keep(new, row, panel * 16, output * tangent(defined, now));
        }
}

/* Panels hold r, z, the candidate's part from the input, and its part from the state. */
static inline __attribute__((always_inline)) void gru_after_of(
    const int defined, const layer *l, int rows, int first, int end, const float *z, size_t z_panel,
    const int64_t *tokens, size_t token_step, value old, value new) {
    const int panels = new.width / 16;
    for (int panel = first; panel < end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = z + panel * z_panel + row * Z_ROW, *bias = BIAS(l->bias, panels) + panel * Z_ROW;
            vf reset = gate(defined, *(const vfu *)given + *(const vfu *)bias);
            vf update = gate(defined, *(const vfu *)(given + 16) + *(const vfu *)(bias + 16));
            vf from_input = *(const vfu *)(given + 32) + *(const vfu *)(bias + 32);
            vf from_state = *(const vfu *)(given + 48) + *(const vfu *)(bias + 48);
            vf candidate = tangent(defined, plus_product(defined, from_input, reset, from_state));
            vf before = *(const vfu *)(old.floats + (size_t)row * old.width + panel * 16);
            keep(new, row, panel * 16, plus_product(defined, candidate, update, before - candidate));
        }
}

/* Panels of 32 units: r and r, then z and z. Leaves r * h in `reset_state` and z in `updates`. */
static inline __attribute__((always_inline)) void gru_gates_of(
    const int defined, const layer *l, int rows, int first, int end, const float *z, size_t z_panel,
    const int64_t *tokens, size_t token_step, value old, value reset_state, float *updates) {
    const int panels = old.width / 32;
    for (int panel = first; panel < end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = z + panel * z_panel + row * Z_ROW, *bias = BIAS(l->bias, panels) + panel * Z_ROW;
            for (int half = 0; half < 32; half += 16) {
                const size_t at = (size_t)row * old.width + panel * 32 + half;
                vf reset = gate(defined, *(const vfu *)(given + half) + *(const vfu *)(bias + half));
                vf update = gate(defined, *(const vfu *)(given + 32 + half) + *(const vfu *)(bias + 32 + half));
                *(vfu *)(updates + at) = update;
                keep(reset_state, row, panel * 32 + half, reset * *(const vfu *)(old.floats + at));
            }
        }
}

/* Panels of 64 units: a vanilla RNN's state, or, with `updates`, what a GRU moves towards. */
static inline __attribute__((always_inline)) void plain_of(
    const int defined, const float *biases, int rows, int first, int end, const float *z, size_t z_panel,
    const int64_t *tokens, size_t token_step, value old, value new, const float *updates) {
    const int panels = new.width / 64;
    for (int panel = first; panel < end; panel++)
        for (int row = 0; row < rows; row++) {
            const float *given = z + panel * z_panel + row * Z_ROW, *bias = BIAS(biases, panels) + panel * Z_ROW;
            for (int part = 0; part < 64; part += 16) {
                const size_t at = (size_t)row * new.width + panel * 64 + part;
                vf candidate = tangent(defined, *(const vfu *)(given + part) + *(const vfu *)(bias + part));
                if (updates) {
                    vf before = *(const vfu *)(old.floats + at);
                    candidate = plus_product(defined, candidate, *(const vfu *)(updates + at), before - candidate);
                }
                keep(new, row, panel * 64 + part, candidate);
            }
        }
}
#undef BIAS

/* Each of them for floats, and as contract/integers.py defines it. */
static void lstm(const layer *l, int rows, int first, int end, const float *z, size_t z_panel,
                 const int64_t *tokens, size_t token_step, value new, float *cells) {
    if (is_float(&l->h)) lstm_of(0, l, rows, first, end, z, z_panel, tokens, token_step, new, cells);
    else lstm_of(1, l, rows, first, end, z, z_panel, tokens, token_step, new, cells);
}
static void gru_after(const layer *l, int rows, int first, int end, const float *z, size_t z_panel,
                      const int64_t *tokens, size_t token_step, value old, value new) {
    if (is_float(&l->h)) gru_after_of(0, l, rows, first, end, z, z_panel, tokens, token_step, old, new);
    else gru_after_of(1, l, rows, first, end, z, z_panel, tokens, token_step, old, new);
}
static void gru_gates(const layer *l, int rows, int first, int end, const float *z, size_t z_panel,
                      const int64_t *tokens, size_t token_step, value old, value reset_state, float *updates) {
    if (is_float(&l->h)) gru_gates_of(0, l, rows, first, end, z, z_panel, tokens, token_step, old, reset_state,
                        updates);
    else gru_gates_of(1, l, rows, first, end, z, z_panel, tokens, token_step, old, reset_state, updates);
}
static void plain(const layer *l, const float *biases, int rows, int first, int end, const float *z,
                  size_t z_panel, const int64_t *tokens, size_t token_step, value old, value new,
                  const float *updates) {
    if (is_float(&l->h)) plain_of(0, biases, rows, first, end, z, z_panel, tokens, token_step, old, new, updates);
    else plain_of(1, biases, rows, first, end, z, z_panel, tokens, token_step, old, new, updates);
}
