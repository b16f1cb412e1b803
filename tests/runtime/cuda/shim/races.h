/* What races.cpp is told of a launch. */
#ifndef P2_RACES_H
#define P2_RACES_H

#include "launch.h"

void p2_forget_launch();
void p2_forget_blocks();                      /* others run next, with shared memory of their own */
void p2_have_met(Fibre *fibres, int count);   /* at a barrier */
void p2_have_released(const u32 *counter);    /* by the fibre that runs, as all that follow */
void p2_have_acquired(const u32 *counter);
void p2_have_arrived_in_cluster(bool first);  /* in its phase */
void p2_have_met_in_cluster();

#endif
