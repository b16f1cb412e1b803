/* The levels: what is compiled for one kind of processor each, and which of them runs. */
#ifndef P2_INSTRUCTIONS_H
#define P2_INSTRUCTIONS_H

#include "types.h"

#pragma GCC visibility push(hidden)
/* Of the folders of these names; `avx512` has two, `avx2` and `neon` three each. Two write VNNI's instruction in two ways. */
extern const instructions amx, avx512, avxvnni, avxvnni_of_avx512, avx2, neon, dotprod, i8mm;

/* The one that runs: p2_use. */
extern const instructions *level;
#pragma GCC visibility pop

/* A level, in a source that has included lanes/cells.h and lanes/noise.h; `folder` begins the names of its kernels. Last comes
 * what not all levels have. */
#define A_LEVEL(variable, word, is_there, folder, products, ...)                                             \
    const instructions variable = {                                                                          \
        .name = word,                                                                                        \
        .there = is_there,                                                                                   \
        .floats = folder##_floats,                                                                           \
        .integers = products,                                                                                \
        .round_rows = round_rows,                                                                            \
        .new_state = new_state,                                                                              \
        .first_gates = first_gates,                                                                          \
        .plain = plain,                                                                                      \
        .approximate = approximate,                                                                          \
        .score = score,                                                                                      \
        __VA_ARGS__                                                                                          \
    };

/* The name of a level, the fastest first; NULL after the last. Several may have one name. */
const char *p2_level(int number);

/* Whether this processor has a level's instructions. */
int p2_there(int number);

/* Let all jobs run on a level that is there; no job runs meanwhile. */
void p2_use(int number);

#endif
