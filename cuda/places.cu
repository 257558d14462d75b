/* Places of edges in their runs, and positions in their bags: see run_places_t. */
#include "cuda/cuda_runs.cuh"

namespace {

__global__ void __launch_bounds__(CUDA_BLOCK) run_shifts(run_places_t p, int64_t *__restrict__ shift) {
  for (int64_t r = p.first + cuda_first(); r < p.end; r += cuda_stride())
    shift[r] = p.order[p.run_begin[r]] != p.slot_begin[p.run_slot[r]];
}

struct write_place {
  const int64_t *run_begin, *shift;
  int64_t *place;
  __device__ void operator()(int64_t i, int64_t r) const { place[i] = i - run_begin[r] + shift[r]; }
};

__global__ void __launch_bounds__(CUDA_BLOCK)
    places_to_positions(run_places_t p, int64_t *__restrict__ place) {
  const int64_t count = (p.end - p.first) * p.dim;
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const int64_t here = place[i], r = p.first + i / p.dim;
    if (here >= 0) place[i] = p.order[p.run_begin[r] - p.shift[r] + here] - p.slot_begin[p.run_slot[r]];
  }
}

/* Where an edge stands among the ascending edge[count], or -1. */
__device__ int64_t find_edge(const int64_t *edge, int64_t count, int64_t wanted) {
  const int64_t first = edge[0], last = edge[count - 1];
  if (wanted < first || wanted > last) return -1;
  if (last - first == count - 1) return wanted - first; /* neighbours: the usual case */
  const int64_t at = lower_bound(edge, count, wanted);
  return edge[at] == wanted ? at : -1;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    positions_to_places(run_places_t p, const int64_t *__restrict__ winner, const int64_t *__restrict__ at,
                        int64_t *__restrict__ place) {
  const int64_t count = (p.end - p.first) * p.dim;
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const int64_t r = p.first + i / p.dim, won = winner[at[r] + i % p.dim], begin = p.run_begin[r];
    int64_t found = -1;
    if (won >= 0)
      found = find_edge(p.order + begin, p.run_begin[r + 1] - begin, p.slot_begin[p.run_slot[r]] + won);
    place[i] = found < 0 ? -1 : found + p.shift[r];
  }
}

void cuda_run_shifts(kernel_t *k, kernel_stream_t *stream, const run_places_t *p, int64_t *shift) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, run_shifts, cuda_blocks(lane, p->end - p->first), CUDA_BLOCK, 0, *p, shift);
}

void cuda_edge_places(kernel_t *k, kernel_stream_t *stream, const run_places_t *p, int64_t *place) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  runs_visit(lane, p->run_begin, p->first, p->end, write_place{p->run_begin, p->shift, place});
}

void cuda_places_to_positions(kernel_t *k, kernel_stream_t *stream, const run_places_t *p, int64_t *place) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, places_to_positions, cuda_blocks(lane, (p->end - p->first) * p->dim), CUDA_BLOCK, 0, *p,
              place);
}

void cuda_positions_to_places(kernel_t *k, kernel_stream_t *stream, const run_places_t *p,
                              const int64_t *winner, const int64_t *at, int64_t *place) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, positions_to_places, cuda_blocks(lane, (p->end - p->first) * p->dim), CUDA_BLOCK, 0, *p,
              winner, at, place);
}

} // namespace

void cuda_places_ops(kernel_ops_t *ops) {
  ops->run_shifts = cuda_run_shifts;
  ops->edge_places = cuda_edge_places;
  ops->places_to_positions = cuda_places_to_positions;
  ops->positions_to_places = cuda_positions_to_places;
}
