/* Before every source of a wheel that is to run where the C library is 2.28 or newer: the names of functions that got
 * a newer version since are asked for as they were then. They do the same. */
#ifndef P2_MANYLINUX_H
#define P2_MANYLINUX_H

#ifdef __x86_64__
#define OLD(name) __asm__(".symver " #name "," #name "@GLIBC_2.2.5")
__asm__(".symver pthread_attr_setaffinity_np,pthread_attr_setaffinity_np@GLIBC_2.3.4");
#else
#define OLD(name) __asm__(".symver " #name "," #name "@GLIBC_2.17")
OLD(pthread_attr_setaffinity_np);
#endif
OLD(pthread_create);
OLD(pthread_join);
OLD(log);
#undef OLD

#endif
