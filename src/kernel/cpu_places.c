/* Places of edges in their runs, and positions in their bags (scalar): see run_places_t. */
#include "kernel/cpu.h"

static void cpu_run_shifts(kernel_t *k, kernel_stream_t *stream, const run_places_t *p, int64_t *shift) {
  (void)k, (void)stream;
  for (int64_t r = p->first; r < p->end; r++)
    shift[r] = p->order[p->run_begin[r]] != p->slot_begin[p->run_slot[r]];
}

static void cpu_edge_places(kernel_t *k, kernel_stream_t *stream, const run_places_t *p, int64_t *place) {
  (void)k, (void)stream;
  for (int64_t r = p->first; r < p->end; r++)
    for (int64_t i = p->run_begin[r]; i < p->run_begin[r + 1]; i++)
      place[i] = i - p->run_begin[r] + p->shift[r];
}

static void cpu_places_to_positions(kernel_t *k, kernel_stream_t *stream, const run_places_t *p,
                                    int64_t *place) {
  (void)k, (void)stream;
  for (int64_t r = p->first; r < p->end; r++) {
    int64_t *here = place + (r - p->first) * p->dim;
    const int64_t *edge = p->order + p->run_begin[r] - p->shift[r];
    int64_t bag = p->slot_begin[p->run_slot[r]];
    for (int64_t c = 0; c < p->dim; c++)
      if (here[c] >= 0) here[c] = edge[here[c]] - bag;
  }
}

/* Where `edge` stands among the ascending edge[count], or -1. */
static int64_t find_edge(const int64_t *edge, int64_t count, int64_t wanted) {
  int64_t first = edge[0], low = 0, high = count;
  if (wanted < first || wanted > edge[count - 1]) return -1;
  if (edge[count - 1] - first == count - 1) return wanted - first; /* neighbours: the usual case */
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (edge[middle] < wanted)
      low = middle + 1;
    else
      high = middle;
  }
  return edge[low] == wanted ? low : -1;
}

static void cpu_positions_to_places(kernel_t *k, kernel_stream_t *stream, const run_places_t *p,
                                    const int64_t *winner, const int64_t *at, int64_t *place) {
  (void)k, (void)stream;
  for (int64_t r = p->first; r < p->end; r++) {
    int64_t *here = place + (r - p->first) * p->dim;
    const int64_t *edge = p->order + p->run_begin[r], *won = winner + at[r];
    int64_t count = p->run_begin[r + 1] - p->run_begin[r], bag = p->slot_begin[p->run_slot[r]];
    for (int64_t c = 0; c < p->dim; c++) {
      int64_t found = won[c] < 0 ? -1 : find_edge(edge, count, bag + won[c]);
      here[c] = found < 0 ? -1 : found + p->shift[r];
    }
  }
}

void cpu_places_ops(kernel_ops_t *ops) {
  ops->run_shifts = cpu_run_shifts;
  ops->edge_places = cpu_edge_places;
  ops->places_to_positions = cpu_places_to_positions;
  ops->positions_to_places = cpu_positions_to_places;
}
