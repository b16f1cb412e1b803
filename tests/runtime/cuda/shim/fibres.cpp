/* Who runs next, and what threads do with one another. */
#include "races.h"

namespace {

const char *const NAMES[] = {"warp_sync", "shuffle", "multiply_half", "multiply_brain", "multiply_bytes"};
const u64 MOST_POLLS = 1 << 24;

Fibre &here() { return *(Fibre *)p2_here; }

/* Nobody can go on: say what threads of a block wait for. */
[[noreturn]] void stuck() {
    for (int b = 0; b < p2_run.blocks; b++) {
        const Block &block = p2_run.grid[b];
        int waiting = block.arrived;
        const char *name = "sync";
        for (int w = 0; w < p2_run.threads / LANES && !waiting; w++) {
            waiting = __builtin_popcount(block.warps[w].met);
            name = NAMES[block.warps[w].kind];
        }
        if (waiting)
            p2_fail("deadlock: %d threads of block %d wait at %s, and others that should come wait elsewhere", waiting,
                    block.number, name);
    }
    p2_fail("deadlock: threads wait at cluster_wait, and others have not come to cluster_arrive");
}

/* Let another one run: whoever calls waits already, or is among those that can run. */
void leave() {
    Fibre *from = &here(), *to = p2_take();
    if (!to) stuck();
    if (to == from) return;
    p2_here = to;
    p2_switch(&from->context, &to->context);
}

void stay_ready() {
    Fibre &me = here();
    p2_wake(me.warp, 1u << me.thread % LANES);
    leave();
}

/* Come to where all lanes of a warp meet; whether this is the last one, which does not wait. */
bool meet(P2Meeting kind) {
    Fibre &me = here();
    Warp &warp = *me.warp;
    const u32 own = 1u << me.thread % LANES;
    if (warp.left)
        p2_fail("block %d: thread %d is at %s, and lane %d of its warp has left the kernel", me.block, me.thread,
                NAMES[kind], __builtin_ctz(warp.left));
    if (warp.met && warp.kind != kind)
        p2_fail("block %d: thread %d is at %s, and other lanes of its warp wait at %s", me.block, me.thread, NAMES[kind],
                NAMES[warp.kind]);
    warp.kind = kind;
    warp.met |= own;
    if (warp.met != ~0u) {
        leave();
        return false;
    }
    warp.met = 0;
    p2_run.idle = 0;
    if (kind == P2_WARP_SYNC) p2_have_met(warp.lanes, LANES);
    p2_wake(&warp, ~own);
    return true;
}

}  // namespace

P2Place *p2_here;

u32 p2_draw(u32 below) {
    u64 &word = p2_run.random; /* xorshift */
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    return (u32)((word >> 32) * below >> 32);
}

void p2_wake(Warp *warp, u32 lanes) {
    if (!warp->ready && lanes) {
        warp->place = p2_run.ready_count;
        p2_run.ready[p2_run.ready_count++] = warp;
    }
    warp->ready |= lanes;
}

/* Lanes of one warp mostly follow each other: memory is faster so. */
Fibre *p2_take() {
    if (!p2_run.ready_count) return nullptr;
    Warp *warp = p2_run.present;
    if (!warp || !warp->ready || !p2_draw(p2_run.hold)) warp = p2_run.ready[p2_draw((u32)p2_run.ready_count)];
    p2_run.present = warp;
    const u32 turn = p2_draw(LANES), turned = warp->ready >> turn | warp->ready << (-turn & 31);
    const u32 lane = ((u32)__builtin_ctz(turned) + turn) & 31;
    warp->ready &= ~(1u << lane);
    if (!warp->ready) {
        Warp *last = p2_run.ready[--p2_run.ready_count];
        p2_run.ready[last->place = warp->place] = last;
    }
    return warp->lanes + lane;
}

void p2_to_host() {
    Context lost;
    p2_here = nullptr;
    p2_switch(&lost, &p2_run.host);
    __builtin_unreachable();
}

void p2_leave_kernel() {
    Fibre &me = here();
    Warp &warp = *me.warp;
    if (warp.met)
        p2_fail("block %d: thread %d leaves the kernel, and other lanes of its warp wait at %s", me.block, me.thread,
                NAMES[warp.kind]);
    if (me.home->arrived)
        p2_fail("block %d: thread %d leaves the kernel, and others wait at sync", me.block, me.thread);
    if (me.has_arrived) p2_fail("block %d: thread %d leaves the kernel without cluster_wait", me.block, me.thread);
    warp.left |= 1u << me.thread % LANES;
    me.home->left++;
    p2_run.idle = p2_run.polls = 0;
    if (!--p2_run.alive) p2_to_host();
    leave();
    __builtin_unreachable();
}

void p2_sync() {
    Fibre &me = here();
    Block &home = *me.home;
    if (home.left)
        p2_fail("block %d: thread %d is at sync, and %d of the others have left the kernel", me.block, me.thread, home.left);
    if (++home.arrived == p2_run.threads) {
        home.arrived = 0;
        p2_run.idle = 0;
        p2_have_met(home.fibres, p2_run.threads);
        for (int i = 0; i < p2_run.threads / LANES; i++) p2_wake(home.warps + i, ~0u);
    }
    leave();
}

void p2_add(u64 *at, u64 value) { *at += value; }

void p2_warp_sync() { meet(P2_WARP_SYNC); }

u64 p2_shuffle(u64 value, int from) {
    Fibre &me = here();
    Warp &warp = *me.warp;
    const int own = me.thread % LANES;
    warp.values[own] = value;
    warp.sources[own] = from & 31;
    if (meet(P2_SHUFFLE))
        for (int i = 0; i < LANES; i++) warp.lanes[i].answer = warp.values[warp.sources[i]];
    return me.answer;
}

void p2_multiply(P2Meeting kind, void *c, const u32 *a, const u32 *b) {
    Fibre &me = here();
    P2Matrices &all = me.warp->matrices;
    const int own = me.thread % LANES;
    all.a[own] = a, all.b[own] = b, all.c[own] = c;
    if (meet(kind)) p2_tensor_core(kind, all);
}

void p2_arrive(u32 *counter) {
    if (p2_draw(2)) stay_ready();
    p2_have_released(counter);
    ++*counter;
    p2_run.idle = p2_run.polls = 0;
    stay_ready();
}

u32 p2_seen(const u32 *counter) {
    p2_run.idle++;
    p2_run.present = nullptr; /* let others do what it waits for */
    if (++p2_run.polls > MOST_POLLS)
        p2_fail("deadlock: block %d, thread %d and all others look at counters that nobody changes", p2_here->block,
                p2_here->thread);
    stay_ready();
    p2_have_acquired(counter);
    return *(const volatile u32 *)counter;
}

/* Each look costs 100 ns, and more where all only look: a wait that has a limit reaches it soon. */
u64 p2_now() {
    p2_run.clock += 100 + 1000 * p2_run.idle + 100000000 * (p2_run.polls >> 16);
    stay_ready();
    return p2_run.clock;
}

void p2_cluster_arrive() {
    Fibre &me = here();
    Cluster &cluster = *me.home->cluster;
    if (!p2_run.cluster_blocks)
        p2_fail("block %d: thread %d is at cluster_arrive without a cluster", me.block, me.thread);
    if (me.has_arrived) p2_fail("block %d: thread %d is twice at cluster_arrive", me.block, me.thread);
    me.has_arrived = true;
    me.phase = cluster.phase;
    p2_have_arrived_in_cluster(!cluster.arrived);
    if (++cluster.arrived == p2_run.cluster_blocks * p2_run.threads) {
        cluster.arrived = 0;
        cluster.phase++;
        p2_run.idle = p2_run.polls = 0;
        for (int i = 0; i < p2_run.blocks * p2_run.threads; i++) {
            Fibre &fibre = p2_run.fibres[i];
            if (fibre.home->cluster != &cluster || !fibre.waits) continue;
            fibre.waits = false;
            p2_wake(fibre.warp, 1u << i % LANES);
        }
    }
    if (p2_draw(2)) stay_ready();
}

void p2_cluster_wait() {
    Fibre &me = here();
    if (!me.has_arrived) p2_fail("block %d: thread %d is at cluster_wait before cluster_arrive", me.block, me.thread);
    me.has_arrived = false;
    me.waits = me.phase == me.home->cluster->phase;
    if (!me.waits) p2_wake(me.warp, 1u << me.thread % LANES);
    leave();
    p2_have_met_in_cluster();
}
