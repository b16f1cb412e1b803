/* Memory of a job's teams, and the states that it brings and takes. */
#ifndef P2_MEMORY_H
#define P2_MEMORY_H

#include "types.h"

#pragma GCC visibility push(hidden)
void lay_out_team(team *w, arena *a, int feeding);
void lay_out_passage(passage *p, arena *a, const model *m, size_t rows);

/* The states of a team's texts and layers, from the job (`back` = 0) and to it. Those of the caller may begin anywhere
 * in a line of the cache, and a line that two threads write goes to and fro between them. */
void carry(team *w, const value *from, int back);
#pragma GCC visibility pop

#endif
