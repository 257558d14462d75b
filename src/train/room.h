/* Whether machines have memory for more, before it is taken: what is granted and then not there ends a
 * process, or another one of the machine. */
#ifndef TRAIN_ROOM_H
#define TRAIN_ROOM_H

#include "comm/comm.h"

/* Collective: this rank is about to take `bytes` of its machine's memory. SBAG_ERR_MEMORY on all ranks where,
 * with what the machine's other ranks take, that is more than it has left, or more than a limit of the
 * process. */
sbag_code_t room_check(comm_t *comm, mem_t *mem, int64_t bytes, sbag_status_t *status);

#endif
