/* Clock marks and where they are added: see trace.h. */
#include "comm/trace.h"

#include "base/clock.h"
#include <string.h>

const char comm_trace_progress[] = "progress of transfers";

/* By address first: the same constant as a rule. */
static comm_trace_row_t *find_row(comm_trace_t *trace, const char *name, int is_transfer) {
  for (int i = 0; i < trace->row_count; i++)
    if (trace->rows[i].name == name && trace->rows[i].is_transfer == is_transfer) return &trace->rows[i];
  for (int i = 0; i < trace->row_count; i++)
    if (trace->rows[i].is_transfer == is_transfer && strcmp(trace->rows[i].name, name) == 0)
      return &trace->rows[i];
  if (trace->row_count == COMM_TRACE_ROWS) return &trace->rows[COMM_TRACE_ROWS - 1];
  comm_trace_row_t *row = &trace->rows[trace->row_count++];
  *row = (comm_trace_row_t){.name = name, .is_transfer = is_transfer};
  return row;
}

static double busy_at(const comm_trace_t *trace, double now_s) {
  return trace->busy_s + (trace->under_way > 0 ? now_s - trace->busy_since_s : 0.0);
}

/* Gives the time since the last mark to the phase that it was spent in. */
static void charge_phase(comm_trace_t *trace, double now_s) {
  double busy_s = busy_at(trace, now_s);
  if (trace->phase != NULL) {
    comm_trace_row_t *row = find_row(trace, trace->phase, 0);
    int polling = trace->phase == comm_trace_progress;
    row->seconds += now_s - trace->mark_s;
    if (!polling) row->hidden_s += busy_s - trace->busy_mark_s;
    if (polling) trace->polled_s += now_s - trace->mark_s;
  }
  trace->mark_s = now_s;
  trace->busy_mark_s = busy_s;
}

const char *comm_trace_phase(comm_trace_t *trace, const char *phase) {
  const char *before = trace->phase;
  charge_phase(trace, clock_now());
  trace->phase = phase;
  if (trace->listener != NULL && phase != before) trace->listener(trace->listening, phase);
  return before;
}

/* Time in waits and in looks at what is under way: nothing is hidden behind that. */
static double idle_at(const comm_trace_t *trace, double now_s) {
  double idle_s = trace->waited_s + trace->polled_s;
  if (trace->waiting_since_s > 0.0) return idle_s + now_s - trace->waiting_since_s;
  return trace->phase == comm_trace_progress ? idle_s + now_s - trace->mark_s : idle_s;
}

double comm_trace_waited(const comm_trace_t *trace) {
  return trace->waited_s;
}

void comm_trace_begin(comm_trace_t *trace, comm_trace_span_t *span, int64_t bytes) {
  double now_s = clock_now();
  if (trace->under_way++ == 0) trace->busy_since_s = now_s;
  *span = (comm_trace_span_t){.open = 1, .bytes = bytes, .begun_s = now_s, .idle_s = idle_at(trace, now_s)};
}

void comm_trace_done(comm_trace_t *trace, comm_trace_span_t *span) {
  if (!span->open) return;
  double now_s = clock_now();
  span->open = 0;
  span->hidden_s = (now_s - span->begun_s) - (idle_at(trace, now_s) - span->idle_s);
  if (--trace->under_way == 0) trace->busy_s += now_s - trace->busy_since_s;
}

void comm_trace_wait(comm_trace_t *trace) {
  double now_s = clock_now();
  charge_phase(trace, now_s);
  trace->waiting_since_s = now_s;
}

void comm_trace_waited_for(comm_trace_t *trace, const char *what, const comm_trace_span_t *span) {
  double now_s = clock_now(), waited_s = now_s - trace->waiting_since_s;
  comm_trace_row_t *row = find_row(trace, what, 1);
  trace->waited_s += waited_s;
  trace->waiting_since_s = 0.0;
  row->seconds += waited_s;
  row->hidden_s += span->hidden_s;
  row->bytes += span->bytes;
  trace->mark_s = now_s;
  trace->busy_mark_s = busy_at(trace, now_s);
}
