/* The decoder as a program, for a processor that is emulated. It reads calls and answers them: see emulated.py.
 *
 * A call is four numbers, memory, and where in it addresses lie: those are counted from the memory's beginning. The
 * answer is a number, and of the memory what begins at `changed`. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instructions.h"
#include "noise.h"

int p2_layout(void);
int p2_decode(const model *m, job *j);
int p2_feed(const model *m, job *j);

typedef struct {
    uint64_t what, size, addresses, changed;
} call;

/* Of a job its model comes first. */
typedef struct {
    const model *m;
    job *j;
} work;

typedef struct {
    uint32_t *words;
    float *noise;
    int64_t count;
} approximating;

static void get(void *to, size_t bytes) {
    if (bytes && fread(to, bytes, 1, stdin) != 1) exit(0); /* nobody asks any longer */
}

/* A level's number, and room for its name. */
typedef struct {
    int64_t number;
    char name[24];
} choosing_level;

static int64_t answer(uint64_t what, void *first) {
    const work *w = first;
    const approximating *a = first;
    choosing_level *l = first;
    switch (what) {
    case 0: return p2_layout();
    case 1:
        if (!p2_level(l->number)) return 0;
        strncpy(l->name, p2_level(l->number), sizeof l->name - 1);
        return 1;
    case 2: return p2_there(l->number);
    case 3: p2_use(l->number); return 0;
    case 4: return p2_decode(w->m, w->j);
    case 5: return p2_feed(w->m, w->j);
    case 6: p2_approximate_noise(a->words, a->count, a->noise); return 0;
    }
    exit(2);
}

int main(void) {
    for (;;) {
        call c;
        get(&c, sizeof c);
        char *memory = aligned_alloc(64, (c.size + 63) / 64 * 64);
        uint64_t *addresses = malloc(c.addresses * sizeof *addresses);
        get(memory, c.size);
        get(addresses, c.addresses * sizeof *addresses);
        for (uint64_t i = 0; i < c.addresses; i++) *(uint64_t *)(memory + addresses[i]) += (uint64_t)memory;
        const int64_t said = answer(c.what, memory);
        fwrite(&said, sizeof said, 1, stdout);
        fwrite(memory + c.changed, c.size - c.changed, 1, stdout);
        fflush(stdout);
        free(addresses);
        free(memory);
    }
}
