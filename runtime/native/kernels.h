/* Kernels: products of one to ROWS rows with one panel of weights or two. Every output is summed in the order of the
 * matrix's rows, whatever the batch: a text does not depend on its neighbours, to the last bit. */
#ifndef P2_KERNELS_H
#define P2_KERNELS_H

#include "arithmetic.h"
#include "types.h"

/* What a kernel does beside its sums. With FETCHING it asks for what is multiplied next, so that the memory works while
 * the processor computes. With LEAVING it leaves COMPACT weights widened for other rows. With LOOKING it asks for what
 * it needs soon itself. */
enum { FETCHING = 1, LEAVING = 2, LOOKING = 4 };

AVX512

INLINE void fetch(const int how, const errand *e, size_t turn) {
    if (how & FETCHING)
        for (size_t line = 0; line < e->step; line += 64)
            _mm_prefetch(e->next + turn * e->step + line, _MM_HINT_T1);
}

/* The place of one vector of sums. */
INLINE vfu *sums_at(const target *t, int panel, int row, int vector) {
    return (vfu *)(t->z + panel * t->panel + row * Z_ROW + t->slot[vector] * 16);
}

/* What it points to is read again from here on: else it would take registers in the loop before. */
#define AGAIN(pointer) __asm__("" : "+r"(pointer))

END_AVX512

#pragma GCC visibility push(hidden)
/* By the place of the weights; SHARED for those that are to be asked for in advance, which pays on some processors and
 * costs on others. With as little to compute as for one or two rows the processor fetches by itself what lies in the
 * memory. */
extern const kernel_table kernels[3];
#pragma GCC visibility pop

#endif
