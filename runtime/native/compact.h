/* float32 weights in 28 bits, without loss: where the weights of a model exceed the caches, the memory decides how
 * fast it writes, and this is an eighth less to read.
 *
 * Trained weights of a panel differ in size by few powers of two. So a number keeps its sign and its 23 bits of
 * fraction in three bytes, and of its exponent 4 bits: a place in the panel's list of 15 neighbouring exponents, the
 * largest one last; place 0 is zero. The few numbers smaller than that are listed apart (`outliers`) and added after
 * every PIECE rows. The sums are those of the same numbers in 32 bits, but for the place of the outliers in them.
 *
 * A group is four vectors, in the order of the matrix: first the low bytes of its 64 numbers, then the middle ones,
 * then the high ones; two places a byte lie in an array of their own. Number i of vector v is byte
 * 16 * (i / 4) + 4 * v + i % 4 of each, so that interleaving the bytes gives back whole vectors. */
#ifndef P2_COMPACT_H
#define P2_COMPACT_H

#include "types.h"

#define GROUP_BYTES 192
#define PLACES_BYTES 32

/* Groups of a panel, or of its first rows. Rows come in multiples of 4. */
static inline size_t groups_of(int rows, int vectors) { return (size_t)rows * vectors / 4; }

/* Make COMPACT weights of float [panels][rows][vectors * 16]: see compact_panel, whose answer this is. */
int64_t p2_compact(const float *weights, int panels, int rows, int vectors, uint8_t *bytes, uint8_t *places,
                   uint8_t *exponents, outlier *outliers, int32_t *outlier_ends, int64_t most);

#endif
