/* Differences of the trace's rows, which only grow. */
#include "train/phases.h"

void phases_begin(const comm_trace_t *trace, phases_t *phases) {
  *phases = (phases_t){.trace = trace};
  for (int i = 0; i < trace->row_count; i++) phases->left_out[i] = trace->rows[i].seconds;
}

void phases_pause(phases_t *phases) {
  for (int i = 0; i < COMM_TRACE_ROWS; i++)
    phases->paused_at[i] = i < phases->trace->row_count ? phases->trace->rows[i].seconds : 0.0;
}

void phases_resume(phases_t *phases) {
  for (int i = 0; i < phases->trace->row_count; i++)
    phases->left_out[i] += phases->trace->rows[i].seconds - phases->paused_at[i];
}

int phases_count(const phases_t *phases) {
  return phases->trace->row_count;
}

double phases_seconds(const phases_t *phases, int row) {
  return phases->trace->rows[row].seconds - phases->left_out[row];
}
