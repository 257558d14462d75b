/* Which machine a rank runs on, and what share of its cores the rank has. */
#ifndef COLLECTION_MACHINE_H
#define COLLECTION_MACHINE_H

#include "comm/comm.h"

/* A machine's name, and its kernel's random id since it started. */
typedef struct machine {
  char host[64], boot[40];
} machine_t;

void machine_name(machine_t *machine);
int machine_same(const machine_t *a, const machine_t *b);

/* The threads that this rank may use, at least 1: its part of the cores that the ranks of its machine may run
 * on, and no more than it may run on itself. OMP_NUM_THREADS, where it is set, is taken instead. Collective.
 */
sbag_code_t machine_threads(mem_t *mem, comm_t *comm, int *threads, sbag_status_t *status);

#endif
