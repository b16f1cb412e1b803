/* Which level runs: see instructions.h. */

#include "instructions.h"

static const instructions *const levels[] = {
#ifdef __x86_64__
    &amx, &avx512, &avxvnni, &avxvnni_of_avx512, &avx2,
#elif defined(__aarch64__)
    &i8mm, &dotprod, &neon,
#endif
    NULL,
};

const instructions *level;

const char *p2_level(int number) { return levels[number] ? levels[number]->name : NULL; }

int p2_there(int number) { return levels[number]->there(); }

void p2_use(int number) { level = levels[number]; }
