/* All types. First what Python hands over: see packing.py, which makes it, and binding.py, which mirrors these
 * structures; then what threads and kernels work on. */
#ifndef P2_TYPES_H
#define P2_TYPES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { FLOATS = 0, INT8 = 1, INT4 = 2, HALVES = 3, BRAIN = 4, COMPACT = 5 };
enum { OPENED = 6 }; /* the decoder's own: COMPACT, for a while as FLOATS with outliers apart */
enum { RNN = 0, LSTM = 1, GRU_AFTER = 2, GRU_BEFORE = 3 };

/* Where the weights of a model stay between two characters: in the caches of single processors, in the one that
 * processors share, or in the memory. */
enum { OWN = 0, SHARED = 1, MEMORY = 2 };

/* What the threads of a job divide: the panels of every matrix; the texts; the layers (feed only). */
enum { PANELS_OF_ALL = 0, TEXTS = 1, LAYERS = 2 };

/* A weight that stands apart from its matrix (COMPACT). */
typedef struct {
    int32_t row, column; /* of its panel */
    float weight;
} outlier;

/* The product of one value [rows] with a matrix [rows, outputs], outputs in panels of `vectors` times 16.
 *
 * FLOATS: float [panels][rows][vectors][16]; HALVES (IEEE) and BRAIN (bfloat16): the same with 16 bits a number. For AVX2
 *       [panels][pieces][strips][rows of the piece][vectors of the strip][16]: PIECE rows a piece and two vectors a
 *       strip; of both the last one may have fewer.
 * COMPACT: the numbers of FLOATS in 28 bits, see compact.h: bytes [panels][groups][3][64], with groups = rows *
 *       vectors / 4; places bytes [panels][groups][32]; exponents bytes [panels][16]; outlier_ends int32 [panels]
 *       [pieces of rows].
 * INT8: int8 [panels][rows / 4][vectors][16][4], one scale for each output.
 * INT4: two numbers a byte, plus 8: [panels][rows / 8][vectors][16][4], rows 0..3 of eight in the low
 *       halves, 4..7 in the high ones; a scale for each `block` rows of an output.
 * scales: float [panels][blocks][vectors][16] of weights times 1/127, the step of the activations, and times 1/2 for
 *       gates with a sigmoid, as their biases are (contract/integers.py).
 * place: OWN, SHARED or MEMORY.
 * ahead: whether one row asks for weights in advance, with COMPACT also two: else where place is SHARED only.
 * start: INT8 only, int32 [panels][vectors][16]: -128 times the sum over the rows. */
typedef struct {
    int32_t kind, vectors, rows, block, place;
    const void *weights;
    const float *scales;
    const int32_t *start;
    const uint8_t *places, *exponents;
    const outlier *outliers;
    const int32_t *outlier_ends;
    int32_t ahead;
} product;

static inline int is_float(const product *m) { return m->kind != INT8 && m->kind != INT4; }
static inline int is_short(const product *m) { return m->kind == HALVES || m->kind == BRAIN; }

/* One layer. `x` and `h` meet the input (not in layer 0) and the state; with GRU_BEFORE they make the gates, and
 * `candidate_x`, `candidate_h` the candidate. `bias` and `candidate_bias` are in the order of the panels, for
 * layer 0 one row for each character of the vocabulary. */
typedef struct {
    product x, h, candidate_x, candidate_h;
    const float *bias, *candidate_bias;
} layer;

typedef struct {
    int32_t cell, layers, width, vocab, vocab_width; /* widths are padded to multiples of 64 */
    const layer *layer;
    product out;
    const float *out_bias;
} model;

/* Whether the candidate's products wait for the gates; whether the reset gate acts between input and state. */
static inline int is_staged(const model *m) { return m->cell == GRU_BEFORE; }
static inline int is_apart(const model *m) { return m->cell == GRU_AFTER; }

/* Units of which a panel has all gates that are known at once. */
static inline int panel_units(const model *m) { return m->cell == RNN ? 64 : is_staged(m) ? 32 : 16; }

/* Settings of the filters; `on` = 0 leaves them out. Meaning: contract/sampling.py. */
typedef struct {
    int32_t on, top_k;
    float tau, top_p, min_p;
} filters;

/* How the characters of one text are chosen: with the noise of `seed` and `stream` from `position` on, drawn here and
 * multiplied by the temperature; 0 needs none. */
typedef struct {
    uint64_t seed, stream, position;
    float temperature;
    filters filters;
} choosing;

/* A job. States are float [layers][batch][width], advanced in place; cells only for the LSTM.
 *
 * decode: tokens int64 [batch], replaced by the last ones; written int64 [batch][count]; choosing [batch]. Where noise is
 *         given, float [count][batch][vocab], none is drawn. Where known is given, int64 [batch], so many tokens of a
 *         text are in `written` already, and those after them are chosen; its noise begins there.
 * feed: tokens int64 [batch][count]; logits float [batch][count][vocab], or NULL.
 *
 * waits comes back: how often a thread waited so long for another that it gave its processor away. */
typedef struct {
    int32_t batch, threads, division;
    int64_t count;
    float *states, *cells;
    int64_t *tokens;
    const float *noise;
    const choosing *choosing;
    const int64_t *known;
    int64_t *written;
    float *logits;
    int64_t waits;
} job;

/* ROWS: rows of a batch that a kernel has under way in registers; PANELS: panels that one row or two meet at once, so
 * that enough additions are under way; PIECE: rows of a panel that stay in the second cache while all rows of a
 * batch meet them. */
#define ROWS 6
#define PANELS 2
#define PIECE 256
#define Z_ROW 64 /* floats of one row in one panel of sums: [4][16] */

/* Numbers with one row for each text: floats, and where products want them 8 bits (128 + 127 * x), and the sums of
 * 16 of those, less the 128; else NULL. */
typedef struct {
    float *floats;
    uint8_t *bytes;
    int32_t *sums;
    size_t width;
} value;

static inline value rows_from(value a, size_t row) {
    a.floats += row * a.width;
    if (a.bytes) {
        a.bytes += row * a.width;
        if (a.sums) a.sums += row * (a.width / 16);
    }
    return a;
}

/* From `first` on, without the end. */
typedef struct {
    int first, end;
} range;

/* Where a product's sums go: z[panel of 64][row][slot[vector]][16], with `panel` floats from one panel to the next. */
typedef struct {
    float *z;
    size_t panel;
    const int *slot;
} target;

/* What a kernel does beside its sums: asks for what lies at `next`, `step` bytes in each of its turns; leaves COMPACT
 * weights `widened`, as float [rows][vectors][16]. */
typedef struct {
    const char *next;
    size_t step;
    float *widened;
} errand;

/* What the compiler knows of a kernel; `how` is of kernels.h. */
typedef struct {
    int how, rows, panels, vectors;
} shape;

/* `count` rows of a strip, see avx2/floats.c: `columns` of 8 outputs each, `first` of the panel and those after it. */
typedef struct {
    const char *weights;
    const float *a; /* of the first row of the batch */
    size_t width;
    int count, first, columns;
} stretch;

/* Rows `from` to `to` of a panel, or of two side by side, and the kernels for them. */
typedef struct part part;
typedef void (*kernel)(const part *, const value *, const target *, const errand *);
typedef kernel kernel_table[ROWS + 2]; /* one and two rows and two panels, then one row to ROWS and one panel */
struct part {
    const kernel *table;
    const product *m;
    int panel, panels, from, to;
};

/* Sums of one layer, from the row that belongs to the first text on. */
typedef struct {
    float *gates, *candidate;
    size_t panel; /* floats from one panel to the next */
} sums;

/* One character of `rows` texts in a layer. */
typedef struct {
    const layer *l;
    int rows;
    const value *below; /* the input; NULL if it has been multiplied, or there is none */
    value old, new;
    float *cells;          /* LSTM: advanced in place */
    const int64_t *tokens; /* layer 0: of each text, `token_step` apart; else NULL */
    size_t token_step;
    sums sums;
    int fresh, back; /* the sums begin here; see multiply: it pays where the same layer comes again and again */
} character;

/* A choice among `vocab` characters. Scores, of a multiple of 16, are logit + temperature * noise, -INFINITY for logits
 * below `least`. What reaches `bound` can be the highest: the noise is off by so much, both here and in the best one,
 * and so are the roundings of product and sum; those of far lower scores are smaller than the distance. `winner` is the
 * only one that does. */
typedef struct {
    int vocab;
    float temperature, least, bound;
    float *scores;
    int winner;
} contest;

/* Noise for one choice: words, and what they are nearly; room for a multiple of 64. */
typedef struct {
    uint32_t *words;
    float *nearly;
} drawing;

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
    int first, rows; /* texts */
    range layers;
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

/* What is compiled for one kind of processor. Numbers are the same on all, to the last bit.
 *
 * floats, integers: by the place of the weights; SHARED for those that are to be asked for in advance, which pays on
 *         some processors and costs on others. With as little to compute as for one or two rows the processor fetches by
 *         itself what lies in the memory.
 * uneven: whether 8 rows of a batch are faster with weights of `floats` as 5 and 3 than as 4 and 4.
 * compact: without and with `ahead`; widening: for the first rows of a batch of more than ROWS. NULL, as `open_panels`, for
 *         levels that are given no COMPACT weights.
 * tiles: for INT8 weights and any number of rows of a batch, the same sums; faster where there are more than ROWS. NULL for
 *         levels that have no such instructions.
 * open_panels: panels of COMPACT weights as float [panels][rows][vectors][16], without the outliers. */
typedef struct {
    const char *name;   /* as P2_CPU calls it */
    int (*there)(void); /* whether this processor has the instructions */
    const kernel_table *floats, *integers, *compact, *widening;
    int uneven;
    void (*open_panels)(const product *m, range panels, float *opened);
    void (*tiles)(const product *m, value a, int rows, range panels, target to);

    /* The cells, lanes/cells.h: from a layer's sums and biases to its next state. For floats, and as
     * contract/integers.py defines it. First, 8 bits and their sums of the floats of a state. */
    void (*round_rows)(value a, int rows);

    /* The next state of a cell whose gates are all known at once. */
    void (*new_state)(int cell, const character *c, range panels);

    /* Of a staged cell: panels of 32 units, r and r, then z and z. Leaves r * h in `reset_state` and z in `updates`. */
    void (*first_gates)(const character *c, range panels, value reset_state, float *updates);

    /* Panels of 64 units: a vanilla RNN's state, or, with `updates`, what a staged cell moves towards. */
    void (*plain)(const character *c, range panels, const float *updates);

    /* The noise, lanes/noise.h: of words, a multiple of 16 of them. */
    void (*approximate)(const uint32_t *words, int count, float *noise);

    /* The scores of a text's characters, and what can win: see `contest`. Returns how many can. */
    int (*score)(const float *logits, const float *noise, contest *c);
} instructions;

/* Memory of a job, from one block: the first pass adds up, the second hands out. */
typedef struct {
    char *base;
    size_t used;
} arena;

#endif
