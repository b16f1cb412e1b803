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

#endif
