/* The tables of a level's kernels, for `instructions`. A source defines KERNELS, then writes EVERY_SIZE and TABLES. */
#ifndef P2_LANES_TABLES_H
#define P2_LANES_TABLES_H

/* A function for each kind of weights and each size, or its registers would be those of all. */
#define KERNEL(name, call)                                                                                   \
    static __attribute__((noinline)) void name(const part *here, const value *a, const target *t, const errand *e) { \
        call;                                                                                                \
    }

/* KERNELS(name, how, rows, panels, vectors) makes `name`, an array of kernels by the kind of weights; then one finds
 * them. */
#define ONE_SIZE(name, how, rows, panels)                                                                    \
    KERNELS(name##_##rows##_##panels##_3, how, rows, panels, 3)                                              \
    KERNELS(name##_##rows##_##panels##_4, how, rows, panels, 4)                                              \
    static void name##_##rows##_##panels(const part *here, const value *a, const target *t, const errand *e) {   \
        (here->m->vectors == 4 ? name##_##rows##_##panels##_4 : name##_##rows##_##panels##_3)[here->m->kind](    \
            here, a, t, e);                                                                                  \
    }

#define EVERY_SIZE                                                                                           \
    ONE_SIZE(product, 0, 1, 1)                                                                               \
    ONE_SIZE(product, 0, 1, 2)                                                                               \
    ONE_SIZE(product, 0, 2, 1)                                                                               \
    ONE_SIZE(product, 0, 2, 2)                                                                               \
    ONE_SIZE(product, 0, 3, 1)                                                                               \
    ONE_SIZE(product, 0, 4, 1)                                                                               \
    ONE_SIZE(product, 0, 5, 1)                                                                               \
    ONE_SIZE(product, 0, 6, 1)                                                                               \
    ONE_SIZE(looking, LOOKING, 1, 1)                                                                         \
    ONE_SIZE(looking, LOOKING, 1, 2)                                                                         \
    ONE_SIZE(fetching, FETCHING, 3, 1)                                                                       \
    ONE_SIZE(fetching, FETCHING, 4, 1)                                                                       \
    ONE_SIZE(fetching, FETCHING, 5, 1)                                                                       \
    ONE_SIZE(fetching, FETCHING, 6, 1)

/* By the place of the weights. */
#define TABLES                                                                                               \
    {                                                                                                        \
        {product_1_2, product_2_2, product_1_1, product_2_1, product_3_1, product_4_1, product_5_1, product_6_1},    \
        {looking_1_2, product_2_2, looking_1_1, product_2_1, product_3_1, product_4_1, product_5_1, product_6_1},    \
        {product_1_2, product_2_2, product_1_1, product_2_1, fetching_3_1, fetching_4_1, fetching_5_1, fetching_6_1},\
    }

/* Those of weights in 28 bits, for a source that has `compact_kernel`. */
#define ONE_COMPACT_SIZE(name, how, rows, panels)                                                            \
    KERNEL(name##_##rows##_##panels,                                                                         \
           if (here->m->vectors == 4) compact_kernel((shape){how, rows, panels, 4}, here, a, t, e);          \
           else compact_kernel((shape){how, rows, panels, 3}, here, a, t, e))

#define EVERY_COMPACT_SIZE                                                                                   \
    ONE_COMPACT_SIZE(compact, 0, 1, 1)                                                                       \
    ONE_COMPACT_SIZE(compact, 0, 1, 2)                                                                       \
    ONE_COMPACT_SIZE(compact, 0, 2, 1)                                                                       \
    ONE_COMPACT_SIZE(compact, 0, 2, 2)                                                                       \
    ONE_COMPACT_SIZE(asking, LOOKING, 1, 1)                                                                  \
    ONE_COMPACT_SIZE(asking, LOOKING, 1, 2)                                                                  \
    ONE_COMPACT_SIZE(asking, LOOKING, 2, 1)                                                                  \
    ONE_COMPACT_SIZE(asking, LOOKING, 2, 2)                                                                  \
    ONE_COMPACT_SIZE(asking, LOOKING | FETCHING, 3, 1)                                                       \
    ONE_COMPACT_SIZE(asking, LOOKING | FETCHING, 4, 1)                                                       \
    ONE_COMPACT_SIZE(asking, LOOKING | FETCHING, 5, 1)                                                       \
    ONE_COMPACT_SIZE(asking, LOOKING | FETCHING, 6, 1)                                                       \
    ONE_COMPACT_SIZE(widening, LOOKING | FETCHING | LEAVING, 3, 1)                                           \
    ONE_COMPACT_SIZE(widening, LOOKING | FETCHING | LEAVING, 4, 1)                                           \
    ONE_COMPACT_SIZE(widening, LOOKING | FETCHING | LEAVING, 5, 1)                                           \
    ONE_COMPACT_SIZE(widening, LOOKING | FETCHING | LEAVING, 6, 1)

/* Without and with `ahead`. */
#define COMPACT_TABLES                                                                                       \
    {                                                                                                        \
        {compact_1_2, compact_2_2, compact_1_1, compact_2_1, asking_3_1, asking_4_1, asking_5_1, asking_6_1},\
        {asking_1_2, asking_2_2, asking_1_1, asking_2_1, asking_3_1, asking_4_1, asking_5_1, asking_6_1},    \
    }

#define WIDENING_TABLE {NULL, NULL, NULL, NULL, widening_3_1, widening_4_1, widening_5_1, widening_6_1}

#endif
