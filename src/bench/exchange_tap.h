/* Listening to an exchange at work: which messages it sends, and how long its choice takes. A tap stands in
 * the place of a comm's or a kernel's table of functions, and passes everything on. */
#ifndef BENCH_EXCHANGE_TAP_H
#define BENCH_EXCHANGE_TAP_H

#include "comm/comm.h"
#include "kernel/kernel.h"

enum { BENCH_MESSAGES_MAX = 64 };

/* ops first: a function finds its tap by it. */
typedef struct bench_comm_tap {
  comm_ops_t ops;
  const comm_ops_t *real;
  comm_t *comm;
  int leg;         /* what the next messages belong to, the caller's number */
  int count, lost; /* all-to-all messages since bench_comm_tap_clear; and those beyond the most */
  int legs[BENCH_MESSAGES_MAX], on_device[BENCH_MESSAGES_MAX];
  int64_t *send, *recv; /* [BENCH_MESSAGES_MAX][ranks] bytes, this rank's own left out */
} bench_comm_tap_t;

sbag_code_t bench_comm_tap_open(comm_t *comm, mem_t *mem, bench_comm_tap_t *tap, sbag_status_t *status);
void bench_comm_tap_close(bench_comm_tap_t *tap);
void bench_comm_tap_clear(bench_comm_tap_t *tap);

/* Seconds of this thread on a core: ranks that share cores do not count each other's. */
double bench_core_now(void);

/* The choice: from the cover's start to the next op that goes by it, in seconds on a core. */
typedef struct bench_kernel_tap {
  kernel_ops_t ops;
  const kernel_ops_t *real;
  kernel_t *kernel;
  double since_s, choice_s; /* since_s: 0 outside of it */
} bench_kernel_tap_t;

void bench_kernel_tap_open(kernel_t *kernel, bench_kernel_tap_t *tap);
void bench_kernel_tap_close(bench_kernel_tap_t *tap);

#endif
