/* What moves a GPU's memory between ranks, under a comm that moves the host's by itself.
 *
 * A comm that has a device asks it about the memory of every operation, and hands it those on memory that it
 * owns; all of an operation's memory, on all ranks, is of one kind. A device's operations run and end in the
 * order of their begins, which is the same on all ranks, so a number says which have ended. Everything else
 * is the comm's: requests, waits, the deadline, and what peers tell. */
#ifndef COMM_DEVICE_H
#define COMM_DEVICE_H

#include "comm/comm.h"

typedef struct comm_device_ops {
  const char *name;
  int (*owns)(comm_device_t *device, const void *data);
  /* As the operations of comm_ops_t, with arguments that were checked. *ticket: the operation's number. */
  sbag_code_t (*exchange_begin)(comm_device_t *device, const comm_part_t *send, const comm_part_t *recv,
                                int64_t *ticket, sbag_status_t *status);
  sbag_code_t (*allreduce_begin)(comm_device_t *device, void *data, int64_t count, comm_type_t type,
                                 comm_reduce_t op, int64_t *ticket, sbag_status_t *status);
  sbag_code_t (*reduce_scatter_begin)(comm_device_t *device, const void *send, const int64_t *counts,
                                      void *recv, comm_type_t type, int64_t *ticket, sbag_status_t *status);
  sbag_code_t (*broadcast_begin)(comm_device_t *device, void *data, int64_t bytes, int root, int64_t *ticket,
                                 sbag_status_t *status);
  /* Starts what can be started and sees what has ended; *moved is set if there was any. Never waits. */
  sbag_code_t (*progress)(comm_device_t *device, int *moved, sbag_status_t *status);
  /* Of a comm that broke; not collective: nothing that is under way waits for a peer any longer. */
  void (*abort)(comm_device_t *device);
  void (*destroy)(comm_device_t **device);
} comm_device_ops_t;

/* The part that all implementations share; each puts it first in its own struct. */
struct comm_device {
  const comm_device_ops_t *ops;
  int64_t ended; /* operations, by ticket */
};

/* The comm's device if the memory is its, else NULL. */
comm_device_t *comm_device_of(const comm_t *comm, const void *data);
/* The same for an exchange; an error where its parts are of both kinds. */
sbag_code_t comm_device_of_parts(const comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                 comm_device_t **device, sbag_status_t *status);

#endif
