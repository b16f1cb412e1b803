/* Threads that wait for one another by spinning: see team.h. */

#include "team.h"

#include <sched.h>

/* Pauses of a thread that waits, 10 to 40 microseconds, before it lets others have its processor. */
enum { PATIENCE = 1000 };

/* A moment for the other thread of a processor's core. */
static void relax(void) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#else
    __asm__ volatile("isb");
#endif
}

void meet(team *w) {
    if (w->threads == 1) return;
    const int generation = atomic_load_explicit(&w->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&w->arrived, 1, memory_order_acq_rel) == w->threads - 1) {
        atomic_store_explicit(&w->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&w->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&w->generation, memory_order_acquire) == generation; spins++) {
        if (spins < PATIENCE) {
            relax();
            continue;
        }
        if (spins == PATIENCE) atomic_fetch_add_explicit(&w->waits, 1, memory_order_relaxed);
        sched_yield();
    }
}

void await(_Atomic int64_t *counter, int64_t least) {
    for (int spins = 0; atomic_load_explicit(counter, memory_order_acquire) < least; spins++)
        if (spins < PATIENCE)
            relax();
        else
            sched_yield();
}
