/* The threads of a GPU as fibres of one thread of the processor. A fibre runs until it waits for others; then one of those
 * that can go on is taken at random. What no barrier orders comes in another order with another seed. */
#ifndef P2_FIBRES_H
#define P2_FIBRES_H

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

struct alignas(16) Four {
    u32 x, y, z, w;
};
struct alignas(8) Two {
    u32 x, y;
};

#pragma GCC visibility push(default) /* in a library of their own */

struct P2Place {
    int thread, threads, block, blocks;
    char *shared;
};
extern P2Place *p2_here; /* of the fibre that runs */

/* What the lanes of a warp do together. */
enum P2Meeting { P2_WARP_SYNC, P2_SHUFFLE, P2_HALF, P2_BRAIN, P2_BYTES };

/* Where the lanes of a warp have their parts of C += A B. */
struct P2Matrices {
    const u32 *a[32], *b[32];
    void *c[32];
};

void p2_sync();
void p2_warp_sync();
u64 p2_shuffle(u64 value, int from);
void p2_multiply(P2Meeting kind, void *c, const u32 *a, const u32 *b);
void p2_tensor_core(P2Meeting kind, const P2Matrices &all);
void p2_arrive(u32 *counter);
u32 p2_seen(const u32 *counter);
u64 p2_now();
void p2_cluster_arrive();
void p2_cluster_wait();

/* What a kernel does with memory; constant is what nobody writes in the launch. */
enum P2Access { P2_READ, P2_WRITE, P2_ATOMIC, P2_CONSTANT };
void p2_touch(const void *at, long bytes, P2Access kind);
void p2_add(u64 *at, u64 value);

/* End the launch. */
[[noreturn]] void p2_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#pragma GCC visibility pop

#endif
