/* From a batch of bags to edges, and from winning edges back to index values.
 *
 * All features at once: entries are numbered over all of them, a bit says which are edges (cuda_bits.cuh),
 * and each edge then knows its place. Offsets that are wrong lead nowhere: what is computed with them stays
 * within the arrays, and is not used. */
#include "cuda/cuda_bits.cuh"
#include "cuda/cuda_plan.cuh"

#include <algorithm>
#include <climits>

namespace {

/* A feature in device memory. */
struct feature {
  const void *index, *offset; /* offset NULL: 2-D */
  int wide;                   /* 64-bit indices and offsets */
  int includes_last, touch;
  int64_t index_count, offset_count, bag_length;
  int64_t walked; /* entries that are in a bag, where offsets are right */
  int64_t rows, padding;
  plan_table_t plan;
};

/* `begin` and `faults`: [features + 1]. */
struct batch {
  const feature *features;
  const int64_t *begin;  /* first entry of each feature */
  const int64_t *faults; /* first number of each feature's possible faults: of offset 0, 1, .., of the
                            offsets' end, of entry 0, 1, .. ; so the least fault is the first */
  int64_t feature_count, bag_count;
  int drop;
};

struct totals {
  unsigned long long fault; /* its number; all ones where there is none */
  unsigned long long dropped, longest;
};

__device__ int64_t index_at(const void *from, int wide, int64_t i) {
  return wide ? __ldg(static_cast<const long long *>(from) + i) : __ldg(static_cast<const int *>(from) + i);
}

__device__ int64_t offset_at(const feature &f, int64_t i) {
  return index_at(f.offset, f.wide, i);
}

/* An entry of the batch, found by its number. */
struct entry {
  const feature *of;
  int64_t number; /* of its feature */
  int64_t feature_number, row;
  bool in_bag, in_range;
};

__device__ entry entry_at(const batch &b, int64_t i) {
  entry e;
  e.feature_number = last_not_above(b.begin, b.feature_count, i);
  e.of = b.features + e.feature_number;
  e.number = i - b.begin[e.feature_number];
  e.row = index_at(e.of->index, e.of->wide, e.number);
  e.in_bag = e.number < e.of->walked;
  e.in_range = e.row >= 0 && e.row < e.of->rows;
  return e;
}

/* The bag of an entry. Empty bags before it begin where it does: the last of those is its own. */
__device__ int64_t bag_of(const feature &f, int64_t bag_count, int64_t number) {
  if (f.offset == nullptr) return number / f.bag_length;
  int64_t at = 0;
  for (int64_t left = bag_count; left > 1;) {
    const int64_t half = left / 2;
    at += offset_at(f, at + half) <= number ? half : 0;
    left -= half;
  }
  return at;
}

__device__ int64_t bag_begin(const feature &f, int64_t bag_count, int64_t bag) {
  if (f.offset == nullptr) return bag * f.bag_length;
  if (bag == bag_count && !f.includes_last) return f.index_count;
  return offset_at(f, bag);
}

/* ---- offsets ---- */

/* torch's rules for one offset (and ours where its message is an internal error). */
__device__ edges_fault_t offset_fault(const feature &f, int64_t i) {
  const int64_t offset = offset_at(f, i);
  if (i == 0 && offset != 0) return EDGES_FIRST_OFFSET;
  if (i > 0 && offset < offset_at(f, i - 1)) return EDGES_OFFSET_FALLS;
  return offset > f.index_count ? EDGES_OFFSET_TOO_BIG : EDGES_FINE;
}

/* grid.y: features. */
__global__ void __launch_bounds__(CUDA_BLOCK) check_offsets(batch b, totals *t) {
  for (int64_t j = blockIdx.y; j < b.feature_count; j += gridDim.y) {
    const feature &f = b.features[j];
    const int64_t count = f.offset == nullptr ? 0 : f.offset_count;
    int64_t fault = -1;
    for (int64_t i = cuda_first(); i < count && fault < 0; i += cuda_stride()) {
      if (offset_fault(f, i) != EDGES_FINE)
        fault = i;
      else if (i == count - 1 && f.includes_last && offset_at(f, i) != f.index_count)
        fault = count;
    }
    if (fault >= 0) atomicMin(&t->fault, static_cast<unsigned long long>(b.faults[j] + fault));
  }
}

/* ---- edges ---- */

/* Entries out of range are noted on the way: few, or the first is the end. */
struct is_edge {
  batch b;
  totals *t;
  __device__ bool operator()(int64_t i) const {
    const entry e = entry_at(b, i);
    if (!e.in_bag) return false;
    if (e.in_range) return e.row != e.of->padding;
    if (b.drop)
      atomicAdd(&t->dropped, 1ull);
    else
      atomicMin(&t->fault, static_cast<unsigned long long>(b.faults[e.feature_number] + e.of->offset_count +
                                                           1 + e.number));
    return false;
  }
};

struct is_touched {
  batch b;
  __device__ bool operator()(int64_t i) const {
    const entry e = entry_at(b, i);
    return e.in_bag && e.in_range && e.row == e.of->padding && e.of->touch;
  }
};

/* Where the op writes; NULL: not at all. */
struct lists {
  int64_t *key, *row, *slot, *entry, *touch, *slot_begin;
};

__global__ void __launch_bounds__(CUDA_BLOCK) list_edges(batch b, bits_t edges, int64_t count, lists to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    if (!bits_at(edges, i)) continue;
    const entry e = entry_at(b, i);
    const int64_t at = bits_rank(edges, i);
    if (to.key != nullptr) to.key[at] = plan_key(&e.of->plan, e.row);
    if (to.slot != nullptr)
      to.slot[at] = e.feature_number * b.bag_count + bag_of(*e.of, b.bag_count, e.number);
    if (to.row != nullptr) to.row[at] = e.row;
    if (to.entry != nullptr) to.entry[at] = i;
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    pad_edges(const int64_t *__restrict__ edge_count, int64_t entries, int64_t pad, lists to) {
  for (int64_t i = *edge_count + cuda_first(); i < entries; i += cuda_stride()) {
    if (to.key != nullptr) to.key[i] = pad;
    if (to.slot != nullptr) to.slot[i] = 0;
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK) list_touched(batch b, bits_t touched, int64_t count, lists to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    if (!bits_at(touched, i)) continue;
    const entry e = entry_at(b, i);
    to.touch[bits_rank(touched, i)] = plan_key(&e.of->plan, e.row);
  }
}

/* Edges before a slot; `slots` stands for the end. */
__device__ int64_t edges_before(const batch &b, const bits_t &edges, int64_t slot) {
  if (slot == b.feature_count * b.bag_count) return edges.before[edges.groups];
  const int64_t j = slot / b.bag_count;
  const feature &f = b.features[j];
  const int64_t begin = bag_begin(f, b.bag_count, slot % b.bag_count);
  return bits_rank(edges, b.begin[j] + (begin < 0 ? 0 : begin > f.index_count ? f.index_count : begin));
}

/* A thread a slot: its begin, and the next one's for its length. */
__global__ void __launch_bounds__(CUDA_BLOCK) list_slots(batch b, bits_t edges, lists to, totals *t) {
  const int64_t slots = b.feature_count * b.bag_count;
  int64_t longest = 0;
  for (int64_t s = cuda_first(); s <= slots; s += cuda_stride()) {
    const int64_t begin = edges_before(b, edges, s);
    if (to.slot_begin != nullptr) to.slot_begin[s] = begin;
    const int64_t length = s < slots ? edges_before(b, edges, s + 1) - begin : 0;
    longest = length > longest ? length : longest;
  }
  for (int d = CUDA_WARP / 2; d > 0; d /= 2) {
    const int64_t other = __shfl_xor_sync(CUDA_FULL_MASK, longest, d);
    longest = other > longest ? other : longest;
  }
  if (threadIdx.x % CUDA_WARP == 0 && longest > 0)
    atomicMax(&t->longest, static_cast<unsigned long long>(longest));
}

/* ---- what the host is told ---- */

__device__ edges_info_t fault_of(const batch &b, int64_t number) {
  edges_info_t info = {};
  const int64_t j = last_not_above(b.faults, b.feature_count, number), at = number - b.faults[j];
  const feature &f = b.features[j];
  info.fault_feature = static_cast<int>(j);
  if (at < f.offset_count) {
    info.fault = offset_fault(f, at);
    info.fault_position = at;
    info.fault_before = at > 0 ? offset_at(f, at - 1) : 0;
  } else if (at == f.offset_count) {
    info.fault = EDGES_LAST_OFFSET;
    info.fault_position = at - 1;
  } else {
    info.fault = EDGES_OUT_OF_RANGE;
    info.fault_position = at - f.offset_count - 1;
  }
  info.fault_value = index_at(at > f.offset_count ? f.index : f.offset, f.wide, info.fault_position);
  return info;
}

/* `edge_count`, `touch_count`: of the bits; the latter may be NULL. */
__global__ void tell(batch b, const totals *t, const int64_t *edge_count, const int64_t *touch_count,
                     edges_info_t *to) {
  if (cuda_first() > 0) return;
  edges_info_t info = {};
  if (t->fault != ULLONG_MAX) {
    info = fault_of(b, static_cast<int64_t>(t->fault));
  } else {
    info.edge_count = *edge_count;
    info.touch_count = touch_count != nullptr ? *touch_count : 0;
    info.dropped = static_cast<int64_t>(t->dropped);
    info.longest = static_cast<int64_t>(t->longest);
    info.plain = *edge_count == b.begin[b.feature_count];
  }
  *to = info;
}

/* ---- the op ---- */

int64_t walked_entries(const sbag_bags_t *bags, int64_t bag_count) {
  if (bag_count == 0) return 0;
  return bags->offsets != nullptr ? bags->index_count : bag_count * bags->bag_length;
}

/* The batch and its plans in device memory. Plans of several features are sent once. */
struct sending {
  cuda_lane_t *lane;
  const edges_request_t *request;
  feature *features;
  int64_t *begin, *faults;
};

const int64_t *send_shard_keys(const sending *s, int i) {
  const plan_table_t *plan = s->request->features[i].plan;
  for (int j = 0; j < i; j++)
    if (s->request->features[j].plan == plan) return s->features[j].plan.shard_key;
  return cuda_upload(s->lane, plan->shard_key, plan->shard_count);
}

void send_feature(const sending *s, int i) {
  const edges_feature_t *from = &s->request->features[i];
  const sbag_bags_t *bags = &from->bags;
  const bool has_offsets = bags->offsets != nullptr && bags->offset_count > 0;
  const size_t bytes = bags->index_type == SBAG_I32 ? 4 : 8;
  feature to = {};
  to.index = cuda_input_bytes(s->lane, bags->indices, mem_array_bytes(bags->index_count, bytes));
  if (bags->offsets != nullptr)
    to.offset = cuda_input_bytes(s->lane, bags->offsets, mem_array_bytes(bags->offset_count, bytes));
  to.wide = bags->index_type != SBAG_I32;
  to.includes_last = bags->include_last_offset;
  to.touch = from->touch_padding;
  to.index_count = bags->index_count;
  to.offset_count = has_offsets ? bags->offset_count : 0;
  to.bag_length = bags->bag_length;
  to.walked = walked_entries(bags, s->request->bag_count);
  to.rows = from->num_embeddings;
  to.padding = from->padding_idx;
  to.plan = *from->plan;
  to.plan.ranks = nullptr;
  to.plan.shard_key = send_shard_keys(s, i);
  s->features[i] = to;
  s->begin[i + 1] = s->begin[i] + bags->index_count;
  s->faults[i + 1] = s->faults[i] + to.offset_count + 1 + bags->index_count;
}

/* Sets *entries and *offsets_most: entries in all, and offsets of the feature with most of them. */
batch send_batch(cuda_lane_t *lane, const edges_request_t *r, int64_t *entries, int64_t *offsets_most) {
  const int64_t count = r->feature_count;
  batch b = {nullptr, nullptr, nullptr, count, r->bag_count, r->drop};
  const sending s = {lane, r, cuda_stage<feature>(lane, count), cuda_stage<int64_t>(lane, count + 1),
                     cuda_stage<int64_t>(lane, count + 1)};
  *entries = *offsets_most = 0;
  if (cuda_has_failed(lane)) return b;
  s.begin[0] = s.faults[0] = 0;
  for (int i = 0; i < r->feature_count; i++) {
    send_feature(&s, i);
    *offsets_most = s.features[i].offset_count > *offsets_most ? s.features[i].offset_count : *offsets_most;
  }
  *entries = s.begin[count];
  b.features = cuda_send(lane, s.features, count);
  b.begin = cuda_send(lane, s.begin, count + 1);
  b.faults = cuda_send(lane, s.faults, count + 1);
  return b;
}

totals *start_totals(cuda_lane_t *lane) {
  totals *staged = cuda_stage<totals>(lane, 1);
  if (staged == nullptr) return nullptr;
  *staged = {ULLONG_MAX, 0, 0};
  return const_cast<totals *>(cuda_send(lane, staged, 1));
}

bool touches(const edges_request_t *r) {
  for (int f = 0; f < r->feature_count; f++)
    if (r->features[f].touch_padding && r->features[f].padding_idx >= 0) return true;
  return false;
}

void cuda_edges_build(kernel_t *k, kernel_stream_t *stream, const edges_request_t *r, edges_info_t *info) {
  enum { FEATURES_MOST = 4096 };
  cuda_lane_t *lane = cuda_begin(k, stream);
  int64_t entries, offsets;
  const batch b = send_batch(lane, r, &entries, &offsets);
  totals *t = start_totals(lane);
  edges_info_t *told = cuda_scratch<edges_info_t>(lane, 1);
  const lists to = {r->key, r->row, r->slot, r->entry, r->touch, r->slot_begin};
  const dim3 grid(cuda_blocks(lane, offsets), std::min(std::max(r->feature_count, 1), int{FEATURES_MOST}));
  CUDA_LAUNCH(lane, check_offsets, grid, CUDA_BLOCK, 0, b, t);
  const bits_t edges = bits_build(lane, entries, is_edge{b, t});
  if (to.key != nullptr || to.row != nullptr || to.slot != nullptr || to.entry != nullptr)
    CUDA_LAUNCH(lane, list_edges, cuda_blocks(lane, entries), CUDA_BLOCK, 0, b, edges, entries, to);
  if (r->pad != 0)
    CUDA_LAUNCH(lane, pad_edges, cuda_blocks(lane, entries), CUDA_BLOCK, 0, edges.before + edges.groups,
                entries, r->pad, to);
  const int64_t *touch_count = nullptr;
  if (touches(r)) {
    const bits_t touched = bits_build(lane, entries, is_touched{b});
    if (to.touch != nullptr)
      CUDA_LAUNCH(lane, list_touched, cuda_blocks(lane, entries), CUDA_BLOCK, 0, b, touched, entries, to);
    touch_count = touched.before + touched.groups;
  }
  CUDA_LAUNCH(lane, list_slots, cuda_blocks(lane, r->feature_count * r->bag_count + 1), CUDA_BLOCK, 0, b,
              edges, to, t);
  CUDA_LAUNCH(lane, tell, 1, CUDA_WARP, 0, b, t, edges.before + edges.groups, touch_count, told);
  cuda_deliver(lane, info, told, sizeof *info, nullptr);
}

/* ---- winners ---- */

__global__ void __launch_bounds__(CUDA_BLOCK)
    winner_rows(const void *index, int wide, int64_t first_entry, const int64_t *__restrict__ slot_begin,
                int64_t count, int64_t dim, const int64_t *__restrict__ entry,
                const int64_t *__restrict__ position, int64_t stride, int64_t *__restrict__ to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const int64_t bag = i / dim, at = position[bag * stride + i % dim];
    to[i] = at < 0 ? 0 : index_at(index, wide, entry[slot_begin[bag] + at] - first_entry);
  }
}

void cuda_winner_rows(kernel_t *k, kernel_stream_t *stream, const sbag_bags_t *bags, int64_t first_entry,
                      const int64_t *slot_begin, int64_t bag_count, int64_t dim, const int64_t *entry,
                      const int64_t *position, int64_t stride, int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const int wide = bags->index_type != SBAG_I32;
  const void *index = cuda_input_bytes(lane, bags->indices, mem_array_bytes(bags->index_count, wide ? 8 : 4));
  const bool to_host = cuda_memory_of(to) == MEMORY_HOST; /* the caller's, as the batch is */
  int64_t *found = to_host ? cuda_scratch<int64_t>(lane, bag_count * dim) : to;
  CUDA_LAUNCH(lane, winner_rows, cuda_blocks(lane, bag_count * dim), CUDA_BLOCK, 0, index, wide, first_entry,
              slot_begin, bag_count * dim, dim, entry, position, stride, found);
  if (to_host) cuda_deliver(lane, to, found, mem_array_bytes(bag_count * dim, sizeof *to), nullptr);
}

} // namespace

void cuda_edges_ops(kernel_ops_t *ops) {
  ops->edges_build = cuda_edges_build;
  ops->winner_rows = cuda_winner_rows;
}
