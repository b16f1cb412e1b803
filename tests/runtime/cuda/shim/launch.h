/* A launch on its way: what fibres.cpp and launch.cpp share. */
#ifndef P2_LAUNCH_H
#define P2_LAUNCH_H

#include "context.h"
#include "fibres.h"

enum { LANES = 32 };

struct Warp;
struct Block;

struct Fibre : P2Place {
    Context context;
    Warp *warp;
    Block *home;
    bool has_arrived, waits; /* at the cluster's barrier */
    u64 phase;               /* of that barrier, when it arrived */
    u64 answer;              /* of a shuffle */
};

struct Warp {
    Fibre *lanes;
    u32 ready;        /* lanes that can run */
    u32 left;         /* lanes that have left the kernel */
    u32 met;          /* lanes that wait for the others of the warp, for: */
    P2Meeting kind;
    int place;        /* among the warps that can run */
    u64 values[LANES];
    int sources[LANES];
    P2Matrices matrices;
};

struct Cluster {
    int arrived;
    u64 phase;
};

struct Block {
    Warp *warps;
    Fibre *fibres;
    Cluster *cluster;
    int number, arrived, left;
    char *mapped, *shared;
};

/* threads: of a block. blocks: that run together. random: state of the generator. clock: nanoseconds. idle, polls: looks at
 * counters since anybody did anything else, and since anybody arrived or left. alive: fibres. ready: warps that can run.
 * hold: a warp is left by chance after about so many of its lanes. */
struct Launch {
    void (*kernel)();
    const u64 *integers;
    const float *floats;
    int threads, blocks, cluster_blocks, ready_count;
    u64 random, clock, idle, polls, alive;
    u32 hold;
    long shared_bytes;
    size_t mapped_bytes;
    Fibre *fibres;
    Warp *warps, **ready, *present;
    Block *grid;
    Cluster *clusters;
    Context host;
    bool failed;
};

extern Launch p2_run;

[[noreturn]] void p2_to_host();

u32 p2_draw(u32 below);              /* a random number */
void p2_wake(Warp *warp, u32 lanes); /* they can go on */
Fibre *p2_take();                    /* one that can go on, or null; it is no longer among them */
[[noreturn]] void p2_leave_kernel(); /* of the fibre that runs */
bool p2_on_stack(const void *at);

#endif
