/* What is sorted: distinct keys, and buckets. Stable, by Thrust's radix sort, whose passes are over the bytes
 * of the key's type: so keys are sorted in the narrowest type that holds them. The only file with Thrust: it
 * takes long to compile. */
#include "cuda/cuda_bits.cuh"
#include "cuda/thrust_policy.cuh"

#include <thrust/sort.h>

namespace {

/* ---- what sorts have in common ---- */

template <class Key, class Value>
__global__ void __launch_bounds__(CUDA_BLOCK) number_keys(const int64_t *__restrict__ from, int64_t count,
                                                          Key *__restrict__ key, Value *__restrict__ value) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    key[i] = static_cast<Key>(from[i]);
    value[i] = static_cast<Value>(i);
  }
}

/* Keys and their positions, sorted. */
template <class Key, class Value> struct sorted {
  Key *key;
  Value *value;
};

template <class Key, class Value>
sorted<Key, Value> sort_numbered(cuda_lane_t *lane, const int64_t *from, int64_t count) {
  const sorted<Key, Value> s = {cuda_scratch<Key>(lane, count), cuda_scratch<Value>(lane, count)};
  CUDA_LAUNCH(lane, (number_keys<Key, Value>), cuda_blocks(lane, count), CUDA_BLOCK, 0, from, count, s.key,
              s.value);
  if (count > 0)
    cuda_thrust(lane, "sort", [s, count](auto policy) {
      thrust::stable_sort_by_key(policy, s.key, s.key + count, s.value);
    });
  return s;
}

/* ---- distinct keys ---- */

template <class Key> struct is_new {
  const Key *key;
  __device__ bool operator()(int64_t i) const { return i == 0 || key[i] != key[i - 1]; }
};

template <class Key, class Value>
__global__ void __launch_bounds__(CUDA_BLOCK)
    list_distinct(bits_t news, sorted<Key, Value> s, int64_t count, int64_t *__restrict__ distinct,
                  int64_t *__restrict__ begin, int64_t *__restrict__ member, int64_t *__restrict__ which) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const bool is_first = bits_at(news, i);
    const int64_t number = bits_rank(news, i) - !is_first, from = static_cast<int64_t>(s.value[i]);
    if (member != nullptr) member[i] = from;
    if (which != nullptr) which[from] = number;
    if (is_first) distinct[number] = static_cast<int64_t>(s.key[i]);
    if (is_first && begin != nullptr) begin[number] = i;
    if (i == count - 1 && begin != nullptr) begin[number + 1] = count;
  }
}

/* The count of what is sorted is known on the device alone. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    place_bounds(const int64_t *__restrict__ sorted, const int64_t *__restrict__ count,
                 const int64_t *__restrict__ bound, int64_t bounds, int64_t *__restrict__ place) {
  for (int64_t i = cuda_first(); i < bounds; i += cuda_stride())
    place[i] = lower_bound(sorted, *count, bound[i]);
}

void deliver_places(cuda_lane_t *lane, const unique_request_t *r, const int64_t *count) {
  const int64_t *bound = cuda_upload(lane, r->bound, r->bounds);
  int64_t *place = r->place_at != nullptr ? r->place_at : cuda_scratch<int64_t>(lane, r->bounds);
  CUDA_LAUNCH(lane, place_bounds, cuda_blocks(lane, r->bounds), CUDA_BLOCK, 0, r->distinct, count, bound,
              r->bounds, place);
  cuda_deliver(lane, r->place, place, mem_array_bytes(r->bounds, sizeof *place), nullptr);
}

template <class Key, class Value>
void find_distinct(cuda_lane_t *lane, const unique_request_t *r, int64_t *distinct_count) {
  const sorted<Key, Value> s = sort_numbered<Key, Value>(lane, r->key, r->count);
  const bits_t news = bits_build(lane, r->count, is_new<Key>{s.key});
  CUDA_LAUNCH(lane, (list_distinct<Key, Value>), cuda_blocks(lane, r->count), CUDA_BLOCK, 0, news, s,
              r->count, r->distinct, r->begin, r->member, r->which);
  cuda_deliver(lane, distinct_count, news.before + news.groups, sizeof *distinct_count, nullptr);
  if (r->bounds > 0) deliver_places(lane, r, news.before + news.groups);
}

const int64_t BITS_32 = static_cast<int64_t>(1) << 32;

void cuda_unique(kernel_t *k, kernel_stream_t *stream, const unique_request_t *r, int64_t *distinct_count) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  *distinct_count = 0;
  if (r->count == 0 && r->begin != nullptr)
    CUDA_TRY(lane, cudaMemsetAsync(r->begin, 0, sizeof *r->begin, lane->stream));
  if (r->count == 0) {
    for (int64_t i = 0; i < r->bounds; i++) r->place[i] = 0;
    if (r->place_at != nullptr)
      CUDA_TRY(lane, cudaMemsetAsync(r->place_at, 0, mem_array_bytes(r->bounds, sizeof *r->place_at),
                                     lane->stream));
    return;
  }
  if (r->key_limit <= BITS_32 && r->count <= BITS_32)
    find_distinct<uint32_t, uint32_t>(lane, r, distinct_count);
  else
    find_distinct<uint64_t, int64_t>(lane, r, distinct_count);
}

/* ---- buckets ---- */

template <class Key, class Value>
__global__ void __launch_bounds__(CUDA_BLOCK)
    list_buckets(sorted<Key, Value> s, int64_t count, int64_t buckets, int64_t *__restrict__ begin,
                 int64_t *__restrict__ member) {
  for (int64_t i = cuda_first(); i < count + buckets + 1; i += cuda_stride()) {
    if (i < count)
      member[i] = static_cast<int64_t>(s.value[i]);
    else
      begin[i - count] =
          i == count + buckets ? count : lower_bound(s.key, count, static_cast<Key>(i - count));
  }
}

template <class Key, class Value>
void sort_buckets(cuda_lane_t *lane, const int64_t *bucket, int64_t count, int64_t buckets, int64_t *begin,
                  int64_t *member) {
  const sorted<Key, Value> s = sort_numbered<Key, Value>(lane, bucket, count);
  CUDA_LAUNCH(lane, (list_buckets<Key, Value>), cuda_blocks(lane, count + buckets + 1), CUDA_BLOCK, 0, s,
              count, buckets, begin, member);
}

void cuda_bucket(kernel_t *k, kernel_stream_t *stream, const int64_t *bucket, int64_t count, int64_t buckets,
                 int64_t *begin, int64_t *member) {
  enum : int64_t { BITS_8 = 1 << 8, BITS_16 = 1 << 16 };
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (count > BITS_32 || buckets > BITS_32)
    sort_buckets<uint64_t, int64_t>(lane, bucket, count, buckets, begin, member);
  else if (buckets <= BITS_8)
    sort_buckets<uint8_t, uint32_t>(lane, bucket, count, buckets, begin, member);
  else if (buckets <= BITS_16)
    sort_buckets<uint16_t, uint32_t>(lane, bucket, count, buckets, begin, member);
  else
    sort_buckets<uint32_t, uint32_t>(lane, bucket, count, buckets, begin, member);
}

} // namespace

void cuda_sort_ops(kernel_ops_t *ops) {
  ops->unique = cuda_unique;
  ops->bucket = cuda_bucket;
}
