/* Lists of the route: searches, runs, groups, and what is done element by element. */
#include "cuda/cuda_plan.cuh"
#include "cuda/cuda_runs.cuh"

namespace {

/* ---- element by element ---- */

__global__ void __launch_bounds__(CUDA_BLOCK)
    edge_positions(const int64_t *__restrict__ order, const int64_t *__restrict__ slot,
                   const int64_t *__restrict__ slot_begin, int64_t count, int64_t *__restrict__ position) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride())
    position[i] = order[i] - __ldg(slot_begin + __ldg(slot + order[i]));
}

/* `to` may be any of the others. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    select_each(const int64_t *test, const int64_t *from, int64_t otherwise, int64_t count, int64_t *to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = test[i] >= 0 ? from[i] : otherwise;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    invert_each(const int64_t *__restrict__ order, int64_t count, int64_t *__restrict__ to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[order[i]] = i;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    global_rows(plan_table_t plan, int shard, const int64_t *local, int64_t count, int64_t *rows) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) rows[i] = plan_row(&plan, shard, local[i]);
}

template <class Narrow>
__global__ void __launch_bounds__(CUDA_BLOCK)
    narrow_each(const int64_t *__restrict__ from, int64_t count, Narrow *__restrict__ to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = static_cast<Narrow>(from[i]);
}

/* One more than the value, unsigned, less one: so all ones is -1. */
template <class Narrow>
__global__ void __launch_bounds__(CUDA_BLOCK)
    widen_each(const Narrow *__restrict__ from, int64_t count, int64_t *__restrict__ to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride())
    to[i] = static_cast<int64_t>(static_cast<Narrow>(from[i] + 1)) - 1;
}

void cuda_edge_positions(kernel_t *k, kernel_stream_t *stream, const int64_t *order, const int64_t *slot,
                         const int64_t *slot_begin, int64_t count, int64_t *position) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, edge_positions, cuda_blocks(lane, count), CUDA_BLOCK, 0, order, slot, slot_begin, count,
              position);
}

void cuda_select_i64(kernel_t *k, kernel_stream_t *stream, const int64_t *test, const int64_t *from,
                     int64_t otherwise, int64_t count, int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, select_each, cuda_blocks(lane, count), CUDA_BLOCK, 0, test, from, otherwise, count, to);
}

void cuda_invert(kernel_t *k, kernel_stream_t *stream, const int64_t *order, int64_t count, int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, invert_each, cuda_blocks(lane, count), CUDA_BLOCK, 0, order, count, to);
}

/* plan_row needs no list of the plan's, so the plan travels as an argument. */
void cuda_global_rows(kernel_t *k, kernel_stream_t *stream, const plan_table_t *plan, int shard,
                      const int64_t *local, int64_t count, int64_t *rows) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, global_rows, cuda_blocks(lane, count), CUDA_BLOCK, 0, *plan, shard, local, count, rows);
}

template <class Narrow> void narrow_to(cuda_lane_t *lane, const int64_t *from, int64_t count, void *to) {
  CUDA_LAUNCH(lane, narrow_each<Narrow>, cuda_blocks(lane, count), CUDA_BLOCK, 0, from, count,
              static_cast<Narrow *>(to));
}

template <class Narrow> void widen_from(cuda_lane_t *lane, const void *from, int64_t count, int64_t *to) {
  CUDA_LAUNCH(lane, widen_each<Narrow>, cuda_blocks(lane, count), CUDA_BLOCK, 0,
              static_cast<const Narrow *>(from), count, to);
}

void copy_all(cuda_lane_t *lane, const void *from, int64_t count, void *to) {
  const size_t bytes = mem_array_bytes(count, sizeof(int64_t));
  if (count > 0) CUDA_TRY(lane, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, lane->stream));
}

void cuda_narrow_i64(kernel_t *k, kernel_stream_t *stream, const int64_t *from, int64_t count, int width,
                     void *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (width == 8) copy_all(lane, from, count, to);
  if (width == 4) narrow_to<uint32_t>(lane, from, count, to);
  if (width == 2) narrow_to<uint16_t>(lane, from, count, to);
  if (width == 1) narrow_to<uint8_t>(lane, from, count, to);
}

void cuda_widen_i64(kernel_t *k, kernel_stream_t *stream, const void *from, int64_t count, int width,
                    int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (width == 8) copy_all(lane, from, count, to);
  if (width == 4) widen_from<uint32_t>(lane, from, count, to);
  if (width == 2) widen_from<uint16_t>(lane, from, count, to);
  if (width == 1) widen_from<uint8_t>(lane, from, count, to);
}

/* ---- searches ---- */

__global__ void __launch_bounds__(CUDA_BLOCK)
    lower_bounds(const int64_t *__restrict__ sorted, int64_t count, const int64_t *__restrict__ bound,
                 int64_t bounds, int64_t *__restrict__ place) {
  for (int64_t i = cuda_first(); i < bounds; i += cuda_stride())
    place[i] = lower_bound(sorted, count, bound[i]);
}

void cuda_lower_bounds(kernel_t *k, kernel_stream_t *stream, const int64_t *sorted, int64_t count,
                       const int64_t *bound, int64_t bounds, int64_t *place) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const int64_t *device_bound = cuda_upload(lane, bound, bounds);
  int64_t *found = cuda_scratch<int64_t>(lane, bounds);
  CUDA_LAUNCH(lane, lower_bounds, cuda_blocks(lane, bounds), CUDA_BLOCK, 0, sorted, count, device_bound,
              bounds, found);
  cuda_deliver(lane, place, found, mem_array_bytes(bounds, sizeof *place), nullptr);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    fill_blocks(const int64_t *__restrict__ begin, const int64_t *__restrict__ first,
                const int64_t *__restrict__ step, int64_t blocks, int64_t count, int64_t *__restrict__ to) {
  for (int64_t i = begin[0] + cuda_first(); i < begin[0] + count; i += cuda_stride()) {
    const int64_t b = last_not_above(begin, blocks, i);
    to[i] = first[b] + (i - begin[b]) * step[b];
  }
}

void cuda_fill_blocks(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *first,
                      const int64_t *step, int64_t blocks, int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (blocks == 0) return;
  const int64_t count = begin[blocks] - begin[0];
  const int64_t *device_begin = cuda_upload(lane, begin, blocks + 1);
  const int64_t *device_first = cuda_upload(lane, first, blocks),
                *device_step = cuda_upload(lane, step, blocks);
  CUDA_LAUNCH(lane, fill_blocks, cuda_blocks(lane, count), CUDA_BLOCK, 0, device_begin, device_first,
              device_step, blocks, count, to);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    edge_groups(edge_groups_t q, const int64_t *__restrict__ owner_key) {
  const int64_t left_out = static_cast<int64_t>(q.ranks) * q.features;
  for (int64_t i = cuda_first(); i < q.count; i += cuda_stride()) {
    const int64_t key = q.which[i];
    int64_t group = left_out;
    if (q.keep == nullptr || __ldg(q.keep + key) != 0)
      group = last_not_above(owner_key, q.ranks, key) * q.features + q.slot[i] / q.bag_count;
    q.group[i] = group;
  }
}

void cuda_edge_groups(kernel_t *k, kernel_stream_t *stream, const edge_groups_t *q) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const int64_t *owner_key = cuda_upload(lane, q->owner_key, static_cast<int64_t>(q->ranks) + 1);
  CUDA_LAUNCH(lane, edge_groups, cuda_blocks(lane, q->count), CUDA_BLOCK, 0, *q, owner_key);
}

/* ---- runs ---- */

struct write_value {
  const int64_t *begin, *value;
  int64_t *to;
  __device__ void operator()(int64_t i, int64_t r) const { to[i - begin[0]] = value[r]; }
};

void cuda_expand(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *value,
                 int64_t runs, int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  runs_visit(lane, begin, 0, runs, write_value{begin, value, to});
}

struct is_nonempty {
  const int64_t *begin;
  __device__ bool operator()(int64_t i) const { return begin[i] < begin[i + 1]; }
};

__global__ void __launch_bounds__(CUDA_BLOCK)
    list_items(bits_t full, int64_t count, int64_t *__restrict__ which) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride())
    if (bits_at(full, i)) which[bits_rank(full, i)] = i;
}

void cuda_nonempty(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, int64_t count, int64_t *which,
                   int64_t *nonempty) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const bits_t full = bits_build(lane, count, is_nonempty{begin});
  CUDA_LAUNCH(lane, list_items, cuda_blocks(lane, count), CUDA_BLOCK, 0, full, count, which);
  cuda_deliver(lane, nonempty, full.before + full.groups, sizeof *nonempty, nullptr);
}

/* Whether a place begins a run: only where its slot is that of the place before is a group's begin looked
 * for. Places behind the last group begin none. */
struct begins_run {
  run_list_t q;
  __device__ bool operator()(int64_t i) const {
    if (i >= q.group_begin[q.groups]) return false;
    if (i == 0 || q.slot[q.order[i]] != q.slot[q.order[i - 1]]) return true;
    return q.group_begin[last_not_above(q.group_begin, q.groups, i)] == i;
  }
};

/* Threads beyond the places count the runs before each group, and end the last run. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    list_runs(bits_t begins, run_list_t q, int64_t *__restrict__ group_run) {
  for (int64_t i = cuda_first(); i < q.most + q.groups + 1; i += cuda_stride()) {
    if (i >= q.most) {
      const int64_t group = i - q.most, place = q.group_begin[group], runs = bits_rank(begins, place);
      group_run[group] = runs;
      if (group == q.groups) q.run_begin[runs] = place;
    } else if (bits_at(begins, i)) {
      const int64_t run = bits_rank(begins, i);
      q.run_begin[run] = i;
      q.run_slot[run] = q.slot[q.order[i]];
    }
  }
}

void cuda_runs(kernel_t *k, kernel_stream_t *stream, const run_list_t *q) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const bits_t begins = bits_build(lane, q->most, begins_run{*q});
  int64_t *found = q->group_run_at != nullptr ? q->group_run_at : cuda_scratch<int64_t>(lane, q->groups + 1);
  CUDA_LAUNCH(lane, list_runs, cuda_blocks(lane, q->most + q->groups + 1), CUDA_BLOCK, 0, begins, *q, found);
  if (q->group_run != nullptr)
    cuda_deliver(lane, q->group_run, found, mem_array_bytes(q->groups + 1, sizeof *found), nullptr);
}

} // namespace

void cuda_lists_ops(kernel_ops_t *ops) {
  ops->lower_bounds = cuda_lower_bounds;
  ops->runs = cuda_runs;
  ops->expand = cuda_expand;
  ops->edge_positions = cuda_edge_positions;
  ops->nonempty = cuda_nonempty;
  ops->select_i64 = cuda_select_i64;
  ops->invert = cuda_invert;
  ops->fill_blocks = cuda_fill_blocks;
  ops->edge_groups = cuda_edge_groups;
  ops->global_rows = cuda_global_rows;
  ops->narrow_i64 = cuda_narrow_i64;
  ops->widen_i64 = cuda_widen_i64;
}
