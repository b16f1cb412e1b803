/* The blocks of a launch meet: what each wrote before is there for all afterwards. */
#ifndef P2_GRID_CUH
#define P2_GRID_CUH

#include "platform.cuh"
#include "types.cuh"

enum { SPINS = 1 << 10 }; /* between two looks at the clock */

struct Meeting {
    u32 *counter;
    u32 target;  /* of the counter, when all have arrived */
    int *failed; /* in shared memory */
    u64 patience;
};

/* All threads come here; the block's own threads have met when it returns. */
DEVICE void arrive_at(Meeting &m) {
    sync();
#if CLUSTER > 0
    cluster_arrive();
#else
    m.target += GRID;
    if (thread() == 0) arrive(m.counter);
#endif
}

#if CLUSTER == 0
/* Whether all came in time. A grid that cannot meet would hang the GPU. */
DEVICE bool wait_for_others(const Meeting &m) {
    u64 since = 0;
    for (u32 spins = 1; (i32)(seen(m.counter) - m.target) < 0; spins++) {
        if (spins % SPINS) continue;
        const u64 time = now();
        if (!since) since = time;
        if (time - since > m.patience || seen(m.counter + 1)) return false;
    }
    return true;
}
#endif

/* Whether all have arrived: else the launch is over. */
DEVICE bool met(Meeting &m) {
#if CLUSTER > 0
    cluster_wait();
    return true;
#else
    if (thread() == 0 && !wait_for_others(m)) {
        arrive(m.counter + 1); /* not a plain store: others look at it */
        *m.failed = 1;
    }
    sync();
    return !*m.failed;
#endif
}

#endif
