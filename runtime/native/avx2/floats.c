/* Products with weights in 32 and 16 bits; those of 28 bits are in compact.c. */

#ifdef __x86_64__

#include "kernels.h"

#include "strips.h"
#include "vectors.h"

#include "../lanes/kernels.h"
#include "../lanes/tables.h"

LEVEL

/* z[panel][row][slot[v]] += a[row][from..to] @ weights, for weights of any kind of floats. */
INLINE void float_kernel(const shape s, const int kind, const part *here, const value *value, const target *t,
                         const errand *e) {
    const product *m = here->m;
    const size_t turn = (size_t)s.vectors * (kind == FLOATS ? 64 : 32);
    for (int panel = 0; panel < s.panels; panel++)
        for (int from = here->from; from < here->to; from += CHUNK) {
            const int count = here->to - from < CHUNK ? here->to - from : CHUNK;
            const char *weights = (const char *)m->weights + ((size_t)(here->panel + panel) * m->rows + from) * turn;
            const errand soon = {e->next + (from - here->from) * e->step, e->step, NULL};
            const chunk c = {weights, value->floats + from, value->width, count};
            add_chunk(s, kind, &c, t, panel, &soon);
        }
}

#define KERNELS(name, how, rows, panels, vectors)                                                               \
    KERNEL(name##_floats, float_kernel(((shape){how, rows, panels, vectors}), FLOATS, here, a, t, e))           \
    KERNEL(name##_halves, float_kernel(((shape){how, rows, panels, vectors}), HALVES, here, a, t, e))           \
    KERNEL(name##_brain, float_kernel(((shape){how, rows, panels, vectors}), BRAIN, here, a, t, e))             \
    static const kernel name[] = {[FLOATS] = name##_floats, [HALVES] = name##_halves, [BRAIN] = name##_brain};
EVERY_SIZE

const kernel_table avx2_floats[3] = TABLES;

END_LEVEL

#endif
