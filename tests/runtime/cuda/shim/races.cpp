/* Accesses to one byte that nothing orders, at least one of which writes: on a GPU anything may come of them. The
 * compiler's -fsanitize=thread calls what is here at each load and store of a kernel. Who has seen what of whom is known by vector
 * clocks, as in FastTrack (Flanagan and Freund, PLDI 2009): a barrier tells all of its threads what each has done. What PTX's
 * manual does not say of shuffles and of products in a tensor core, these do not order anything either. */
#include "races.h"

#include <dlfcn.h>

#include <unordered_map>
#include <vector>

namespace {

typedef std::vector<u32> Clock; /* of a fibre: how far it has seen each one */

/* Who did something, and when by its own clock; who counts from 1 over all blocks of the launch. */
struct Epoch {
    u32 who, when;
};

/* Epochs that none of the others follows: mostly one. */
struct Several {
    Epoch last;
    std::vector<Epoch> *others;
};

/* Some bytes of memory, since the last write. */
struct Cell {
    u32 launch; /* that the rest is of */
    bool constant;
    Epoch write;
    const void *place; /* of that write, in the code */
    Several reads, atomics;
};

const u64 PAGE_BYTES = 4096, MOST_PAGES = 1000;
const char *const DOES[] = {"reads", "writes", "uses atomically", "reads as constant"};

/* A cell is of 4 bytes, until less than that is touched: then all of the page are of 1. */
struct Page {
    u64 bytes = 4;
    std::vector<Cell> cells = std::vector<Cell>(PAGE_BYTES / 4);
};

std::unordered_map<u64, Page *> pages;
std::unordered_map<u64, Clock> released; /* by a counter's address */
std::vector<Clock> clocks;               /* of the fibres that run */
std::vector<Clock> clusters;             /* what its blocks have done, of each for two phases of its barrier */
u64 last_number;
Page *last_page;
u32 launch;
bool watching;

Fibre &here() { return *(Fibre *)p2_here; }
u32 index_of(const Fibre &fibre) { return (u32)(&fibre - p2_run.fibres); }
Clock &clock_of(const Fibre &fibre) { return clocks[index_of(fibre)]; }
u32 name_of(u32 block, u32 thread) { return block * (u32)p2_run.threads + thread + 1; }

void begin() {
    if (watching) return;
    watching = true;
    const size_t count = (size_t)p2_run.blocks * (size_t)p2_run.threads;
    clocks.assign(count, Clock(count, 0));
    for (size_t i = 0; i < count; i++) clocks[i][i] = 1;
    clusters.assign(2 * (size_t)p2_run.blocks, Clock());
    released.clear();
}

void forget(Several &all) {
    all.last = Epoch{0, 0};
    if (all.others) all.others->clear();
}

Page &page_of(u64 address) {
    const u64 number = address / PAGE_BYTES;
    if (number != last_number || !last_page) {
        Page *&page = pages[number];
        if (!page) page = new Page();
        last_number = number, last_page = page;
    }
    return *last_page;
}

void split(Page &page) {
    std::vector<Cell> fine(PAGE_BYTES);
    for (u64 i = 0; i < PAGE_BYTES; i++) {
        Cell &cell = fine[i] = page.cells[i / 4];
        for (Several *all : {&cell.reads, &cell.atomics})
            if (all->others && i % 4) all->others = new std::vector<Epoch>(*all->others);
    }
    page.bytes = 1;
    page.cells = fine;
}

/* Whether the fibre that runs comes after it. Of blocks that do not run together nothing is known of one another. */
bool follows(const Clock &mine, Epoch before) {
    if (!before.who) return true;
    const u32 first = name_of((u32)p2_run.grid[0].number, 0);
    const u32 index = before.who - first;
    return before.who >= first && index < mine.size() && before.when <= mine[index];
}

bool follow(const Clock &mine, const Several &all, Epoch *other) {
    *other = all.last;
    if (!follows(mine, all.last)) return false;
    if (!all.others) return true;
    for (const Epoch &one : *all.others) {
        *other = one;
        if (!follows(mine, one)) return false;
    }
    return true;
}

void add(Several &all, const Clock &mine, Epoch own) {
    const Epoch before = all.last;
    all.last = own;
    if (before.who == own.who) return;
    if (all.others) {
        size_t kept = 0;
        for (const Epoch &one : *all.others)
            if (!follows(mine, one)) (*all.others)[kept++] = one;
        all.others->resize(kept);
    }
    if (follows(mine, before)) return;
    if (!all.others) all.others = new std::vector<Epoch>();
    all.others->push_back(before);
}

/* Where in the file of the kernels' code. */
u64 offset_of(const void *place) {
    Dl_info found;
    return place && dladdr(place, &found) ? (u64)place - (u64)found.dli_fbase : 0;
}

[[noreturn]] void report(u64 address, P2Access kind, P2Access theirs, Epoch other, const void *place, const void *before) {
    const Fibre &me = here();
    const u64 shared = address - (u64)me.shared;
    const bool inside = shared < (u64)p2_run.shared_bytes;
    p2_fail("race: block %d: thread %d %s byte %#llx of %s memory, which thread %d of block %d %s, and nothing orders the two; "
            "code %#llx, %#llx",
            me.block, me.thread, DOES[kind], inside ? shared : address, inside ? "shared" : "global",
            (int)((other.who - 1) % (u32)p2_run.threads), (int)((other.who - 1) / (u32)p2_run.threads), DOES[theirs],
            offset_of(place), offset_of(before));
}

void touch(u64 address, Cell &cell, P2Access kind, const void *place) {
    const Fibre &me = here();
    const Clock &mine = clock_of(me);
    const Epoch own = {name_of((u32)me.block, (u32)me.thread), mine[index_of(me)]};
    const bool reads = kind == P2_READ || kind == P2_CONSTANT;
    if (cell.launch != launch) {
        cell.launch = launch, cell.constant = false, cell.write = Epoch{0, 0};
        forget(cell.reads), forget(cell.atomics);
    }
    Epoch other = cell.write;
    if (kind == P2_CONSTANT) cell.constant = true;
    if (cell.constant && (!reads || cell.write.who || cell.atomics.last.who))
        p2_fail("race: block %d: thread %d %s byte %#llx of global memory, which is %s in the same launch; code %#llx, %#llx",
                me.block, me.thread, DOES[kind], address, reads ? "written" : "read as constant", offset_of(place),
                offset_of(cell.place));
    if (!follows(mine, other)) report(address, kind, P2_WRITE, other, place, cell.place);
    if (kind != P2_ATOMIC && !follow(mine, cell.atomics, &other)) report(address, kind, P2_ATOMIC, other, place, nullptr);
    if (!reads && !follow(mine, cell.reads, &other)) report(address, kind, P2_READ, other, place, nullptr);
    if (reads) {
        add(cell.reads, mine, own);
    } else if (kind == P2_ATOMIC) {
        add(cell.atomics, mine, own);
    } else {
        cell.write = own, cell.place = place;
        forget(cell.reads), forget(cell.atomics);
    }
}

void join(Clock &into, const Clock &from) {
    if (into.size() < from.size()) into.resize(from.size());
    for (size_t i = 0; i < from.size(); i++)
        if (from[i] > into[i]) into[i] = from[i];
}

void touched(const void *at, long bytes, P2Access kind, const void *place) {
    if (!p2_here || p2_on_stack(at)) return;
    begin();
    for (u64 address = (u64)at, end = address + (u64)bytes; address < end;) {
        Page &page = page_of(address);
        if (page.bytes > 1 && (address | end) % page.bytes) split(page);
        touch(address, page.cells[address % PAGE_BYTES / page.bytes], kind, place);
        address += page.bytes;
    }
}

}  // namespace

void p2_touch(const void *at, long bytes, P2Access kind) { touched(at, bytes, kind, __builtin_return_address(0)); }

void p2_forget_launch() {
    launch++, watching = false;
    if (pages.size() < MOST_PAGES) return;
    for (const auto &page : pages) {
        for (const Cell &cell : page.second->cells) delete cell.reads.others, delete cell.atomics.others;
        delete page.second;
    }
    pages.clear();
    last_page = nullptr;
}


void p2_forget_blocks() {
    watching = false;
    for (int b = 0; b < p2_run.blocks; b++) {
        const u64 from = (u64)p2_run.grid[b].shared;
        for (u64 at = from; at < from + (u64)p2_run.shared_bytes; at++) {
            const auto page = pages.find(at / PAGE_BYTES);
            if (page != pages.end()) page->second->cells[at % PAGE_BYTES / page->second->bytes].launch = 0;
        }
    }
}

void p2_have_met(Fibre *fibres, int count) {
    if (!watching) return;
    Clock all;
    for (int i = 0; i < count; i++) join(all, clock_of(fibres[i]));
    for (int i = 0; i < count; i++) {
        Clock &own = clock_of(fibres[i]);
        own = all;
        own[index_of(fibres[i])]++;
    }
}

void p2_have_released(const u32 *counter) {
    if (!watching) return;
    const Fibre &me = here();
    touched(counter, sizeof *counter, P2_ATOMIC, nullptr);
    join(released[(u64)counter], clock_of(me));
    clock_of(me)[index_of(me)]++;
}

void p2_have_acquired(const u32 *counter) {
    if (!watching) return;
    join(clock_of(here()), released[(u64)counter]);
    touched(counter, sizeof *counter, P2_ATOMIC, nullptr);
}

static Clock &of_phase(const Fibre &me, u64 phase) {
    return clusters[2 * (size_t)(me.home->cluster - p2_run.clusters) + phase % 2];
}

void p2_have_arrived_in_cluster(bool first) {
    if (!watching) return;
    const Fibre &me = here();
    Clock &all = of_phase(me, me.phase);
    if (first) all.clear();
    join(all, clock_of(me));
    clock_of(me)[index_of(me)]++;
}

void p2_have_met_in_cluster() {
    if (watching) join(clock_of(here()), of_phase(here(), here().phase));
}

#define CALLS(bytes)                                                                                                         \
    void __tsan_read##bytes(const void *at) { touched(at, bytes, P2_READ, __builtin_return_address(0)); }                   \
    void __tsan_write##bytes(const void *at) { touched(at, bytes, P2_WRITE, __builtin_return_address(0)); }                 \
    void __tsan_unaligned_read##bytes(const void *at) { touched(at, bytes, P2_READ, __builtin_return_address(0)); }         \
    void __tsan_unaligned_write##bytes(const void *at) { touched(at, bytes, P2_WRITE, __builtin_return_address(0)); }

extern "C" {
CALLS(1)
CALLS(2)
CALLS(4)
CALLS(8)
CALLS(16)
void __tsan_read_range(const void *at, long bytes) { touched(at, bytes, P2_READ, __builtin_return_address(0)); }
void __tsan_write_range(const void *at, long bytes) { touched(at, bytes, P2_WRITE, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(const void *) {}
void __tsan_func_exit() {}
}
