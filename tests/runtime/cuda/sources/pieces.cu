/* Small kernels that try what the shim says, one by one. */
#include "platform.cuh"

KERNEL(shuffles)(const u32 *given, const int *from, int mask, u32 *words, i32 *numbers, float *floats, i64 *large) {
    const int t = thread();
    words[t] = shuffle(given[t], from[t]);
    numbers[t] = shuffle_xor(-(i32)given[t], mask);
    floats[t] = shuffle_xor(0.5f * (float)given[t], mask);
    large[t] = shuffle((i64)given[t] << 40, from[t]);
}

/* Each thread has the place of its neighbour, if the barrier holds. */
KERNEL(neighbours)(int barrier, int *out) {
    int *places = (int *)shared_memory();
    places[thread()] = block() * 1000 + thread();
    if (barrier) sync();
    out[block() * threads() + thread()] = places[(thread() + 37) % threads()];
}

KERNEL(products)(const u32 *a, const u32 *b, u32 *c, int kind) {
    const int t = thread();
    float sums[4];
    i32 counts[4];
    for (int i = 0; i < 4; i++) sums[i] = from_bits(c[4 * t + i]), counts[i] = (i32)c[4 * t + i];
    if (kind == 0) multiply_half(sums, a + 4 * t, b + 2 * t);
    if (kind == 1) multiply_brain(sums, a + 4 * t, b + 2 * t);
    if (kind == 2) multiply_bytes(counts, a + 4 * t, b + 2 * t);
    for (int i = 0; i < 4; i++) c[4 * t + i] = kind == 2 ? (u32)counts[i] : bits(sums[i]);
}

PLAIN_KERNEL(conversions)(const u32 *given, int count, u16 *halves, u16 *brains, float *half, float *brain) {
    for (int i = block() * threads() + thread(); i < count; i += blocks() * threads()) {
        halves[i] = float_to_half(from_bits(given[i]));
        brains[i] = float_to_brain(from_bits(given[i]));
        half[i] = half_to_float((u16)given[i]);
        brain[i] = brain_to_float((u16)given[i]);
    }
}

KERNEL(arithmetic)(const float *x, int count, float *out, double *logs, i64 *fixed, i32 *nearest) {
    for (int i = thread(); i < count; i += threads()) {
        const float a = x[i], b = x[(i + 1) % count], c = x[(i + 2) % count];
        const float found[7] = {add(a, b), sub(a, b), mul(a, b), divide(a, b), fused(a, b, c), add(mul(a, b), c), exp32(a)};
        for (int k = 0; k < 7; k++) out[7 * i + k] = found[k];
        logs[i] = log64((double)a * a);
        fixed[i] = to_fixed(a);
        nearest[i] = to_nearest(a);
    }
}

KERNEL(integers)(const u64 *x, u64 *high, i32 *dots, i64 *sum) {
    const int t = thread();
    high[t] = high_product(x[t], x[t + 1]);
    dots[t] = dot4((u32)x[t], (u32)x[t + 1], (i32)(x[t] >> 40));
    add_to(sum, (i64)x[t]);
}

KERNEL(loads)(const u32 *at, u32 *out) {
    const Four four = load_l2((const Four *)at), stream = load_stream((const Four *)at + 1);
    const Two two = load_l2((const Two *)at + 1);
    const i64 large = load_l2((const i64 *)at + 1);
    const u32 found[] = {four.x, four.w, stream.y, two.x, two.y, (u32)large, (u32)(large >> 32), load_l2(at),
                         (u32)load_l2((const i32 *)at + 5), bits(load_l2((const float *)at + 7))};
    for (int i = 0; i < 10; i++) out[i] = found[i];
}

/* All blocks but `absent` meet `rounds` times; 1 if somebody waited too long. */
KERNEL(meeting)(u32 *counter, int rounds, int absent, u64 patience, int *failed, int *order) {
    int *shared = (int *)shared_memory();
    if (thread() == 0) *shared = 0;
    for (int round = 1; round <= rounds; round++) {
        order[(round * blocks() + block()) * threads() + thread()] = round;
        sync();
        if (thread() == 0 && block() != absent) {
            arrive(counter);
            const u64 since = now();
            while (seen(counter) < (u32)(round * blocks()))
                if (patience && now() - since > patience) {
                    *shared = 1;
                    break;
                }
        }
        sync();
        if (*shared || block() == absent) break;
        const int other = (block() + 1) % blocks();
        if (order[(round * blocks() + other) * threads() + thread()] != round) *shared = 2;
    }
    sync();
    if (thread() == 0) failed[block()] = *shared;
}

/* Blocks of a cluster write to each other. */
KERNEL(clusters)(int rounds, int *values) {
    for (int i = 0; i < rounds; i++) {
        const int place = block() * threads() + thread(), other = (block() ^ 1) * threads() + thread();
        const int found = values[other];
        cluster_arrive();
        cluster_wait();
        values[place] = found + 1;
        cluster_arrive();
        cluster_wait();
    }
}

PLAIN_KERNEL(counting)(int *at, int *order) {
    if (thread() == 0) order[(*at)++] = block();
    sync();
}

/* Blocks that share nothing. */
PLAIN_KERNEL(apart)(int *out) {
    int *places = (int *)shared_memory();
    places[thread()] = block();
    sync();
    out[block() * threads() + thread()] = places[thread() ^ 1];
}

/* A thread reads what another one has written, with something between the two. */
enum { NOTHING, SHUFFLE, WARP, BLOCK, GRID, SUM, SUM_TOO_SOON, CONSTANT, CONSTANT_BEFORE };

KERNEL(passing)(int between, int *places, i64 *sum, u32 *counter, int *out) {
    const int t = thread(), me = block() * threads() + t;
    const int other = between == GRID ? (me + threads()) % (blocks() * threads()) : block() * threads() + (t ^ 1);
    if (between == CONSTANT_BEFORE) out[me] = (int)load_stream((const Four *)places).x;
    places[me] = me;
    if (between == SHUFFLE) shuffle_xor(t, 1);
    if (between == WARP) warp_sync();
    if (between == SUM || between == SUM_TOO_SOON) add_to(sum, 1);
    if (between == BLOCK || between == GRID || between == SUM || between == CONSTANT) sync();
    if (between == GRID && t == 0) {
        arrive(counter);
        while (seen(counter) < (u32)blocks()) {
        }
    }
    if (between == GRID) sync();
    if (between == SUM || between == SUM_TOO_SOON) out[me] = (int)*sum;
    else if (between == CONSTANT) out[me] = (int)load_stream((const Four *)places).x;
    else if (between != CONSTANT_BEFORE) out[me] = places[other];
}

/* What no kernel may do. */
enum { LEAVES_SYNC, LEAVES_WARP, PARTS, WARPS_PART, WRITES_BEHIND, WRITES_JUST_BEHIND, WRITES_BEFORE, READS_BEHIND, READS_NULL,
       MISALIGNED, MISALIGNED_LOAD, INDEX, SHIFT, ZERO, DEEP, SPINS, NO_CLUSTER, GLOBAL_BEHIND };

int deeper(int depth, volatile int *kept) {
    volatile int more[64];
    more[depth % 64] = kept ? kept[0] : depth;
    return depth < 100000 ? deeper(depth + 1, more) + more[depth % 64] : 0;
}

KERNEL(wrong)(int what, int *out, int n, u32 *counter) {
    char *shared = shared_memory();
    const int t = thread(), last = threads() - 1;
    int array[4] = {1, 2, 3, 4};
    if (what == LEAVES_SYNC && t == 5) return;
    if (what == LEAVES_SYNC) sync();
    if (what == LEAVES_WARP && t == 5) return;
    if (what == LEAVES_WARP) out[t] = shuffle_xor(t, 1);
    if (what == PARTS && warp() == 0) sync();
    if (what == PARTS && warp() == 1 && lane() < 9) warp_sync();
    if (what == PARTS && warp() == 1) sync();
    if (what == WARPS_PART && lane() < 9) warp_sync();
    if (what == WARPS_PART) out[t] = shuffle_xor(t, 1);
    if (what == WRITES_BEHIND && t == last) shared[n + 15] = 1;
    if (what == WRITES_JUST_BEHIND && t == last) shared[n] = 1;
    if (what == WRITES_BEFORE && t == last) shared[-1] = 1;
    if (what == READS_BEHIND && t == last) *out = shared[n + 100];
    if (what == READS_NULL && t == last) *out = *((int *)0 + n);
    if (what == MISALIGNED && t == last) *(u32 *)(shared + 2) = 1;
    if (what == MISALIGNED_LOAD && t == last) *out = (int)load_l2((const Four *)(out + 2)).x;
    if (what == INDEX) *out = array[n];
    if (what == SHIFT) *out = 1 << n;
    if (what == ZERO) *out = n / (t - t);
    if (what == DEEP) *out = deeper(0, nullptr);
    if (what == SPINS)
        while (!seen(counter)) {
        }
    if (what == NO_CLUSTER) cluster_arrive();
    if (what == GLOBAL_BEHIND && t == last) *out = out[n];
}
