/* The names of kernels/platform.cuh on a processor. The compiler reads this file first, and its guard keeps the other one
 * out. A thread of the GPU is a fibre (fibres.h). Compile with -ffp-contract=off: each operation is rounded once. */
#ifndef P2_PLATFORM_CUH
#define P2_PLATFORM_CUH

#include "fibres.h"
#include "numbers.h"

#define PLAIN_KERNEL(name) P2_KERNEL(name, 256, 0, 0)
#define KERNEL(name) P2_KERNEL(name, THREADS, CLUSTER, 1)
/* What a kernel asks of its launch: the most threads of a block, blocks of a cluster, whether all blocks run at once. */
#define P2_KERNEL(name, threads, cluster, together)                                    \
    extern "C" P2_VISIBLE constexpr int name##_limits[3] = {threads, cluster, together}; \
    extern "C" P2_VISIBLE void name
#define P2_VISIBLE __attribute__((visibility("default")))

DEVICE int thread() { return p2_here->thread; }
DEVICE int threads() { return p2_here->threads; }
DEVICE int block() { return p2_here->block; }
DEVICE int blocks() { return p2_here->blocks; }
DEVICE int lane() { return p2_here->thread & 31; }
DEVICE int warp() { return p2_here->thread >> 5; }
DEVICE char *shared_memory() { return p2_here->shared; }

DEVICE void sync() { p2_sync(); }
DEVICE void warp_sync() { p2_warp_sync(); }
DEVICE void cluster_arrive() { p2_cluster_arrive(); }
DEVICE void cluster_wait() { p2_cluster_wait(); }

/* Of 4 or 8 bytes. */
template <typename T> DEVICE T shuffle(T value, int from) {
    u64 word = 0;
    memcpy(&word, &value, sizeof(T));
    word = p2_shuffle(word, from);
    memcpy(&value, &word, sizeof(T));
    return value;
}
template <typename T> DEVICE T shuffle_xor(T value, int mask) { return shuffle(value, lane() ^ mask); }

/* A GPU stops where an address is not a multiple of what is read there. Nothing is cached here. */
template <typename T> DEVICE void p2_check(const T *at, P2Access kind) {
    if ((unsigned long)at % sizeof(T)) p2_fail("%d bytes are read at %p, which is no multiple of it", (int)sizeof(T), at);
#ifdef P2_RACES
    p2_touch(at, sizeof(T), kind);
#endif
}
template <typename T> DEVICE T p2_read(const T *at, P2Access kind = P2_READ) {
    p2_check(at, kind);
    T value;
    memcpy(&value, (const void *)at, sizeof(T));
    return value;
}
DEVICE Four load_stream(const Four *at) { return p2_read(at, P2_CONSTANT); }
DEVICE Four load_l2(const Four *at) { return p2_read(at); }
DEVICE Two load_l2(const Two *at) { return p2_read(at); }
DEVICE u32 load_l2(const u32 *at) { return p2_read(at); }
DEVICE i32 load_l2(const i32 *at) { return p2_read(at); }
DEVICE float load_l2(const float *at) { return p2_read(at); }
DEVICE i64 load_l2(const i64 *at) { return p2_read(at); }
DEVICE void add_to(i64 *at, i64 value) {
    p2_check(at, P2_ATOMIC);
    p2_add((u64 *)at, (u64)value);
}
DEVICE void arrive(u32 *counter) { p2_arrive(counter); }
DEVICE u32 seen(const u32 *counter) { return p2_seen(counter); }
DEVICE u64 now() { return p2_now(); }

DEVICE u64 high_product(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
DEVICE double log64(double x) { return log(x); }
DEVICE float exp32(float x) { return expf(x); }
DEVICE float add(float a, float b) { return a + b; }
DEVICE float sub(float a, float b) { return a - b; }
DEVICE float mul(float a, float b) { return a * b; }
DEVICE float divide(float a, float b) { return a / b; }
DEVICE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE i32 dot4(u32 a, u32 b, i32 c) {
    for (int i = 0; i < 32; i += 8) c += (i8)(a >> i) * (i8)(b >> i);
    return c;
}

DEVICE void multiply_half(float c[4], const u32 a[4], const u32 b[2]) { p2_multiply(P2_HALF, c, a, b); }
DEVICE void multiply_brain(float c[4], const u32 a[4], const u32 b[2]) { p2_multiply(P2_BRAIN, c, a, b); }
DEVICE void multiply_bytes(i32 c[4], const u32 a[4], const u32 b[2]) { p2_multiply(P2_BYTES, c, a, b); }

#endif
