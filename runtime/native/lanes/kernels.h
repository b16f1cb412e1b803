/* Kernels: products of one to ROWS rows with one panel of weights or two. Every output is summed in the order of the
 * matrix's rows, whatever the batch and the level: a text does not depend on its neighbours, to the last bit.
 *
 * Here is what the kernels of all levels have in common; a level's vectors.h comes before. */
#ifndef P2_LANES_KERNELS_H
#define P2_LANES_KERNELS_H

#include "../types.h"

/* What a kernel does beside its sums. With FETCHING it asks for what is multiplied next, so that the memory works while
 * the processor computes. With LEAVING it leaves COMPACT weights widened for other rows. With LOOKING it asks for what
 * it needs soon itself. */
enum { FETCHING = 1, LEAVING = 2, LOOKING = 4 };

LEVEL

INLINE void fetch(const int how, const errand *e, size_t turn) {
    if (how & FETCHING)
        for (size_t line = 0; line < e->step; line += 64)
            __builtin_prefetch(e->next + turn * e->step + line, 0, 2); /* into the second cache */
}

#define LOOK 1024 /* bytes */

/* For `bytes` of a turn at `here`. */
INLINE void look(const int how, const void *here, const int bytes) {
    if (how & LOOKING) EACH(line, (bytes + 63) / 64) __builtin_prefetch((const char *)here + LOOK + line * 64);
}

/* The place of 16 sums. */
INLINE float *sums_at(const target *t, int panel, int row, int vector) {
    return t->z + panel * t->panel + row * Z_ROW + t->slot[vector] * 16;
}

/* What it points to is read again from here on: else it would take registers in the loop before. */
#define AGAIN(pointer) __asm__("" : "+r"(pointer))

END_LEVEL

#endif
