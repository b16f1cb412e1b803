/* Kernels for NEON. The sums of 16 outputs take four registers, so those of six texts 24 of the 32; with fewer texts a
 * kernel meets more vectors at once. The rows of each sum come in the order of all levels. Weights are not asked for in
 * advance: nobody has measured where that would pay. */
#ifndef P2_NEON_KERNELS_H
#define P2_NEON_KERNELS_H

#include "../types.h"

/* Instructions that the compiler knows: Clang only those that it may use everywhere, GCC the second from 10 on. */
#if !defined(__clang__) || defined(__ARM_FEATURE_DOTPROD)
#define P2_DOTPROD 1
#else
#define P2_DOTPROD 0
#endif
#if defined(__clang__) ? P2_DOTPROD && defined(__ARM_FEATURE_MATMUL_INT8) : __GNUC__ >= 10
#define P2_I8MM 1
#else
#define P2_I8MM 0
#endif

#pragma GCC visibility push(hidden)
extern const kernel_table neon_floats[3];

/* With the instructions of every such processor, with products of four bytes (DotProd), and with those of matrices of
 * bytes (I8MM) too. The same numbers. */
extern const kernel_table neon_integers[3], dotprod_integers[3], i8mm_integers[3];
#pragma GCC visibility pop

/* A table of functions name_1 to name_6, which take as many panels as they are given. */
#define TABLE(name) {name##_1, name##_2, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}

/* The place of so many rows in a table. */
#define SLOT(rows) ((rows) + 1)

#endif
