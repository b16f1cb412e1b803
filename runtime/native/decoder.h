/* What Python hands over: see packing.py, which makes it, and binding.py, which mirrors these structures. */
#ifndef P2_DECODER_H
#define P2_DECODER_H

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
 * FLOATS: float [panels][rows][vectors][16]; HALVES (IEEE) and BRAIN (bfloat16): the same with 16 bits a number.
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

/* Settings of the filters; `on` = 0 leaves them out. Meaning: contract/sampling.py. */
typedef struct {
    int32_t on, top_k;
    float tau, top_p, min_p;
} filters;

/* A job. States are float [layers][batch][width], advanced in place; cells only for the LSTM.
 *
 * decode: tokens int64 [batch], replaced by the last ones; written int64 [batch][count]. With `streams` [batch], the
 *         noise of `seed` from `position` on is drawn here and multiplied by the temperature; else it is given, float
 *         [count][batch][vocab], or NULL, for no noise.
 * feed: tokens int64 [batch][count]; logits float [batch][count][vocab], or NULL.
 *
 * waits comes back: how often a thread waited so long for another that it gave its processor away. */
typedef struct {
    int32_t batch, threads, division;
    int64_t count;
    float *states, *cells;
    int64_t *tokens;
    const float *noise;
    const uint64_t *streams;
    uint64_t seed, position;
    float temperature;
    const filters *settings;
    int64_t *written;
    float *logits;
    int64_t waits;
} job;

#endif
