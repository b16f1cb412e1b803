/* What Python hands over: job.py mirrors these structures, packing.py makes what they point at. All addresses are of
 * device memory; every size follows from the definitions that geometry.py gives. */
#ifndef P2_TYPES_CUH
#define P2_TYPES_CUH

#include "platform.cuh"

/* What definitions are compared with, so definitions themselves: KIND and CELL. */
#define FLOAT32 0
#define HALF 1
#define BRAIN 2
#define FLOAT8 3
#define INT8 4
#define INT4 5
#define RNN 0
#define LSTM 1
#define GRU_AFTER 2
#define GRU_BEFORE 3

#define INTEGERS (KIND == INT8 || KIND == INT4)
#define STAGED (CELL == GRU_BEFORE) /* the candidate's product waits for the gates */

/* The product of a value with one matrix; layouts are in packing.py.
 *
 * block: INT8, INT4: rows that share a scale; 0 for all.
 * resident: how much of a block's part is copied into shared memory at the start, from its beginning: rows of KP
 *       numbers (FLOAT32), or tiles of 16 rows. place: where to, in bytes from the beginning of shared memory. */
struct Product {
    const void *weights;
    const float *scales;
    int block, resident, place, unused;
};

struct Layer {
    Product x, h, candidate; /* x not in layer 0; candidate only where STAGED */
    const float *bias;       /* [GRID * UNITS][BIASES]; of layer 0 one such for each character */
};

/* How the characters of a text are chosen (contract/sampling.py), and where its noise begins (contract/noise.py).
 *
 * drawn: whether noise takes part. filtered: whether top_k, which is 1 to VOCAB, top_p and min_p count. */
struct Text {
    u64 seed, stream, position;
    float temperature, tau, top_p, min_p;
    int top_k, filtered, drawn, unused;
};

/* A launch.
 *
 * streams: texts, at most STREAMS. count: characters of each.
 * h, c: float [LAYERS][state_stride / KP][KP], advanced in place; state_stride is in floats.
 * exchange: [2][SLOTS][STREAMS][KP] numbers of the type in which states meet weights, zeros at first and from HIDDEN
 *       on for ever. SLOTS is LAYERS, where STAGED twice that: r * h comes after h.
 * sums: i64 [3][STREAMS][VOCAB], zeros at the start. made: float [3][STREAMS][VOCAB]. logits: float [STREAMS][VOCAB].
 * barrier: two words, zeros at the start; the second one says afterwards what went wrong: 1, a block waited longer
 *       than `patience` nanoseconds for the others.
 * fixed: by how much a product of an output's weight and a state is multiplied before it is rounded to an integer, a
 *       power of two; unfixed: its inverse. Not with integer weights.
 * texts: [STREAMS]. noise: 0, or in place of theirs float [count][noise_stride / VOCAB][VOCAB], scaled.
 * tokens: i32 [STREAMS], the newest characters, replaced by the last ones.
 * written: i32 [STREAMS][written_stride]: p2_write puts characters there; p2_read reads them.
 * top: p2_read: where the states of the last layer are kept for p2_logits, as exchanged [STREAMS][count][KP], zeros
 *       at first; or 0.
 * predicted: p2_logits: float [STREAMS][predicted_stride / VOCAB][VOCAB]. */
struct Job {
    int streams, count;
    float fixed;
    int unused;
    double unfixed;
    u64 patience;
    i64 state_stride, noise_stride, written_stride, predicted_stride;
    float *h, *c;
    void *exchange;
    i64 *sums;
    float *made, *logits;
    u32 *barrier;
    const float *noise;
    const Text *texts;
    i32 *tokens, *written;
    void *top;
    float *predicted;
    const void *out;
    const float *out_scale, *out_bias;
    Layer layer[LAYERS];
};

#endif
