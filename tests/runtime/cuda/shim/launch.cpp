/* A launch from its beginning to its end: memory, stacks, signals. */
#include "races.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Launch p2_run;

namespace {

const size_t PAGE = (size_t)sysconf(_SC_PAGESIZE), STACK = PAGE + (60 << 10);
const size_t GUARD = 256; /* before shared memory, at least */
const u32 POISON = 0x7fa5ffc3; /* as in memory.py */
const u8 GUARDED = 0xdb;
const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

char problem[512];
char *stacks; /* each behind a page that nobody may touch; kept for the next launch */
size_t stack_count;

/* What went wrong. */
void note(const char *format, va_list arguments) {
    vsnprintf(problem, sizeof problem, format, arguments);
    p2_run.failed = true;
}

__attribute__((format(printf, 1, 2))) void note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
}

void begin() {
    const u64 *i = p2_run.integers;
    const float *f = p2_run.floats;
    /* Both calling conventions number integers and floats apart, and a function may get more than it takes. */
    ((void (*)(u64, u64, u64, u64, u64, u64, u64, u64, float, float, float, float))p2_run.kernel)(
        i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], f[0], f[1], f[2], f[3]);
    p2_leave_kernel();
}

void *map(size_t bytes) {
    void *made = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) perror("mmap"), abort();
    return made;
}

void reserve_stacks(size_t count) {
    if (count <= stack_count) return;
    if (stacks) munmap(stacks, stack_count * STACK);
    stacks = (char *)map(count * STACK);
    stack_count = count;
    for (size_t i = 0; i < count; i++) mprotect(stacks + i * STACK, PAGE, PROT_NONE);
}

/* Shared memory ends where a page ends that nobody may touch, but for what the alignment leaves. */
void map_shared(Block &block) {
    block.mapped = (char *)map(p2_run.mapped_bytes);
    mprotect(block.mapped, PAGE, PROT_NONE);
    mprotect(block.mapped + p2_run.mapped_bytes - PAGE, PAGE, PROT_NONE);
    block.shared = block.mapped + p2_run.mapped_bytes - PAGE - (p2_run.shared_bytes + 15) / 16 * 16;
}

void poison(Block &block) {
    memset(block.mapped + PAGE, GUARDED, p2_run.mapped_bytes - 2 * PAGE);
    long i = 0;
    for (; i + 4 <= p2_run.shared_bytes; i += 4) memcpy(block.shared + i, &POISON, 4);
    memcpy(block.shared + i, &POISON, (size_t)(p2_run.shared_bytes - i));
}

void check_guards(const Block &block) {
    const char *from = block.mapped + PAGE, *to = block.mapped + p2_run.mapped_bytes - PAGE;
    for (const char *at = from; at < to; at++) {
        if (at == block.shared) at += p2_run.shared_bytes;
        const long offset = at - block.shared;
        if (at < to && (u8)*at != GUARDED)
            return note("block %d wrote at byte %ld of its %ld bytes of shared memory", block.number, offset,
                        p2_run.shared_bytes);
    }
}

/* A signal while a fibre runs. */
void hit(int, siginfo_t *info, void *) {
    const char *at = (const char *)info->si_addr;
    if (!p2_here) { /* not a kernel's fault */
        signal(info->si_signo, SIG_DFL);
        return;
    }
    const P2Place &me = *p2_here;
    if (info->si_signo == SIGFPE) p2_fail("block %d: thread %d divides by zero", me.block, me.thread);
    if (info->si_signo == SIGILL) p2_fail("block %d: thread %d came where no code is", me.block, me.thread);
    if (p2_on_stack(at))
        p2_fail("block %d: the stack of thread %d is full", me.block, me.thread);
    for (int b = 0; b < p2_run.blocks; b++) {
        const Block &block = p2_run.grid[b];
        if (at >= block.mapped && at < block.mapped + p2_run.mapped_bytes)
            p2_fail("block %d: thread %d touched byte %ld of the %ld bytes of shared memory of block %d", me.block,
                    me.thread, (long)(at - block.shared), p2_run.shared_bytes, block.number);
    }
    p2_fail("block %d: thread %d touched %p, where nothing is", me.block, me.thread, at);
}

void set_up(Block &block, int index, int number, int blocks) {
    const int warps = p2_run.threads / LANES;
    const auto mapped = block.mapped, shared = block.shared;
    Cluster *cluster = p2_run.clusters + (p2_run.cluster_blocks ? index / p2_run.cluster_blocks : 0);
    block = Block{p2_run.warps + index * warps, p2_run.fibres + index * p2_run.threads, cluster, number, 0, 0, mapped, shared};
    poison(block);
    for (int i = 0; i < p2_run.threads; i++) {
        Fibre &fibre = block.fibres[i];
        fibre = Fibre{};
        fibre.thread = i, fibre.threads = p2_run.threads, fibre.block = number, fibre.blocks = blocks;
        fibre.shared = block.shared;
        fibre.warp = block.warps + i / LANES;
        fibre.home = &block;
        const size_t which = (size_t)index * (size_t)p2_run.threads + (size_t)i;
        /* Not all at the same place of a page: they would share few lines of the cache. */
        p2_prepare(&fibre.context, stacks + which * STACK, STACK - which * 832 % 8192 / 64 * 64, begin);
    }
    for (int i = 0; i < warps; i++) {
        block.warps[i] = Warp{};
        block.warps[i].lanes = block.fibres + i * LANES;
        p2_wake(block.warps + i, ~0u);
    }
}

/* Some blocks from the first thread's beginning to the last one's end. */
void run_together() {
    p2_run.present = nullptr;
    p2_run.idle = p2_run.polls = 0;
    p2_run.alive = (u64)p2_run.blocks * (u64)p2_run.threads;
    p2_forget_blocks();
    Fibre *first = p2_take();
    p2_here = first;
    p2_switch(&p2_run.host, &first->context);
    for (int b = 0; b < p2_run.blocks && !p2_run.failed; b++) check_guards(p2_run.grid[b]);
}

}  // namespace

void p2_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    p2_to_host();
}

bool p2_on_stack(const void *at) { return (const char *)at >= stacks && (const char *)at < stacks + stack_count * STACK; }

extern "C" const char *p2_problem() { return problem; }

/* Launch a kernel; whether it went well: p2_problem says what else. Where not all blocks run at once it is one after the
 * other, in an order that the seed tells. */
extern "C" int p2_emulate(
    void (*kernel)(), const int limits[3], int blocks, int threads, long shared_bytes, u64 seed, const u64 integers[8],
    const float floats[4]) {
    const int cluster = limits[1], once = limits[2] ? blocks : 1;
    p2_run = Launch{};
    p2_forget_launch();
    problem[0] = 0;
    if (threads <= 0 || threads % LANES || threads > limits[0] || blocks <= 0 || (cluster && once % cluster)) {
        note("%d blocks of %d threads cannot be launched: the kernel takes at most %d threads, and clusters of %d", blocks,
             threads, limits[0], cluster);
        return 0;
    }
    const size_t fibres = (size_t)once * (size_t)threads, clusters = cluster ? (size_t)(once / cluster) : 1;
    reserve_stacks(fibres);
    p2_run.kernel = kernel, p2_run.integers = integers, p2_run.floats = floats;
    p2_run.threads = threads, p2_run.cluster_blocks = cluster, p2_run.blocks = once;
    p2_run.random = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
    p2_run.clock = 1000000000;
    const u32 holds[] = {3, 16, 1u << 31}; /* all in turn; or one as far as it can go while another has not begun */
    p2_run.hold = holds[p2_draw(3)];
    p2_run.shared_bytes = shared_bytes;
    p2_run.mapped_bytes = 2 * PAGE + ((size_t)shared_bytes + 16 + GUARD + PAGE - 1) / PAGE * PAGE;
    p2_run.fibres = new Fibre[fibres];
    p2_run.warps = new Warp[fibres / LANES];
    p2_run.ready = new Warp *[fibres / LANES];
    p2_run.grid = new Block[(size_t)once];
    p2_run.clusters = new Cluster[clusters];
    for (int b = 0; b < once; b++) map_shared(p2_run.grid[b]);

    stack_t own = {}, before;
    own.ss_size = 64 << 10;
    own.ss_sp = map(own.ss_size);
    sigaltstack(&own, &before);
    struct sigaction action = {}, kept[4];
    action.sa_sigaction = hit;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &action, kept + i);

    int *order = new int[(size_t)(blocks / once)];
    for (int i = 0; i < blocks / once; i++) {
        const u32 other = p2_draw((u32)i + 1);
        order[i] = order[other], order[other] = i;
    }
    for (int i = 0; i < blocks / once && !p2_run.failed; i++) {
        for (size_t c = 0; c < clusters; c++) p2_run.clusters[c] = Cluster{};
        for (int b = 0; b < once; b++) set_up(p2_run.grid[b], b, order[i] * once + b, blocks);
        run_together();
    }

    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], kept + i, nullptr);
    sigaltstack(&before, nullptr);
    munmap(own.ss_sp, own.ss_size);
    for (int b = 0; b < once; b++) munmap(p2_run.grid[b].mapped, p2_run.mapped_bytes);
    delete[] order;
    delete[] p2_run.fibres, delete[] p2_run.warps, delete[] p2_run.ready, delete[] p2_run.grid, delete[] p2_run.clusters;
    return !p2_run.failed;
}
