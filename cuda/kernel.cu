/* The GPU's kernel object: its streams, its memory and its failure. An op cannot return an error, so the
 * first one is kept here, nothing runs after it, and stream_sync returns it. */
#include "cuda/cuda_common.cuh"

#include <cstdio>
#include <nvtx3/nvToolsExt.h>

enum { LANES = 16 };

struct cuda_kernel {
  kernel_t base; /* first: a kernel_t of this kernel is a cuda_kernel_t */
  kernel_ops_t ops;
  int device, multiprocessors;
  cudaStream_t own;
  cudaEvent_t order; /* for stream_wait */
  cuda_lane_t lane[LANES];
  int lanes;
  cuda_lane_t spare; /* of a stream that is not ours: takes the failure */
  int64_t alloc_count;
  bool in_phase; /* a range of NVTX is open */
  sbag_status_t failure;
};

static cuda_kernel_t *cuda_of(kernel_t *k) {
  return reinterpret_cast<cuda_kernel_t *>(k);
}

/* ---- failures ---- */

static sbag_code_t cuda_code(cudaError_t error) {
  switch (error) {
  case cudaErrorMemoryAllocation:
    return SBAG_ERR_MEMORY;
  case cudaErrorNoDevice:
  case cudaErrorInsufficientDriver:
    return SBAG_ERR_UNSUPPORTED;
  default:
    return SBAG_ERR_STATE;
  }
}

void cuda_failed(cuda_lane_t *lane, cudaError_t error, const char *what, const char *file, int line) {
  sbag_status_t *failure = &lane->kernel->failure;
  if (failure->code != SBAG_OK) return;
  status_set(failure, cuda_code(error), "GPU %d: %s: %s (%s:%d)", lane->kernel->device, what,
             cudaGetErrorString(error), file, line);
}

int cuda_has_failed(const cuda_lane_t *lane) {
  return lane->kernel->failure.code != SBAG_OK;
}

/* ---- phases ---- */

/* Neighbours, not one in the other: so Nsight shows a step as the trace tells it. */
static void cuda_phase(kernel_t *k, const char *name) {
  cuda_kernel_t *self = cuda_of(k);
  if (self->in_phase) (void)nvtxRangePop();
  self->in_phase = name != nullptr;
  if (self->in_phase) (void)nvtxRangePushA(name);
}

/* ---- memory ---- */

static cudaError_t memory_get(kernel_memory_t kind, size_t bytes, void **block) {
  *block = nullptr;
  if (bytes == 0) bytes = 1; /* a valid pointer, as the CPU's */
  return kind == MEMORY_DEVICE ? cudaMalloc(block, bytes) : cudaHostAlloc(block, bytes, cudaHostAllocDefault);
}

static void memory_put(kernel_memory_t kind, void *block) {
  if (block == nullptr) return;
  if (kind == MEMORY_DEVICE)
    (void)cudaFree(block);
  else
    (void)cudaFreeHost(block);
}

static sbag_code_t out_of_memory(const cuda_kernel_t *self, kernel_memory_t kind, size_t bytes,
                                 const char *what, cudaError_t error, sbag_status_t *status) {
  const double gib = 1 << 30;
  size_t free_bytes = 0, total_bytes = 0;
  (void)cudaGetLastError(); /* what failed here is told here */
  if (kind == MEMORY_DEVICE && error == cudaErrorMemoryAllocation &&
      cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess)
    return status_set(status, SBAG_ERR_MEMORY,
                      "%s needs %.3f GiB of GPU %d's memory, of which %.3f of %.3f GiB are free", what,
                      static_cast<double>(bytes) / gib, self->device, static_cast<double>(free_bytes) / gib,
                      static_cast<double>(total_bytes) / gib);
  return status_set(status, cuda_code(error), "%s needs %.3f GiB of %s memory for GPU %d: %s", what,
                    static_cast<double>(bytes) / gib, kind == MEMORY_DEVICE ? "device" : "pinned host",
                    self->device, cudaGetErrorString(error));
}

static sbag_code_t cuda_alloc(kernel_t *k, kernel_memory_t kind, size_t bytes, const char *what, void **block,
                              sbag_status_t *status) {
  cuda_kernel_t *self = cuda_of(k);
  if (kind == MEMORY_HOST) return mem_alloc(k->mem, bytes, what, block, status);
  void *made = nullptr;
  const cudaError_t error = memory_get(kind, bytes, &made);
  if (error != cudaSuccess) return out_of_memory(self, kind, bytes, what, error, status);
  self->alloc_count++;
  *block = made;
  return SBAG_OK;
}

static void cuda_release(kernel_t *k, kernel_memory_t kind, void *block) {
  if (kind == MEMORY_HOST)
    mem_free(k->mem, block);
  else
    memory_put(kind, block);
}

/* ---- arenas ---- */

static void arena_free(cuda_arena_t *arena) {
  for (int i = 0; i < arena->count; i++) memory_put(arena->kind, arena->chunk[i].data);
  arena->count = 0;
}

static bool arena_add(cuda_lane_t *lane, cuda_arena_t *arena, size_t bytes) {
  enum : size_t { LEAST = 64 << 10 };
  const size_t last = arena->count == 0 ? size_t{LEAST} : 2 * arena->chunk[arena->count - 1].bytes;
  const size_t chunk_bytes = bytes + bytes / 4 < last ? last : bytes + bytes / 4;
  void *made = nullptr;
  if (arena->count == cuda_arena_t::CHUNKS) {
    cuda_failed(lane, cudaErrorMemoryAllocation, "an op's workspace", __FILE__, __LINE__);
    return false;
  }
  const cudaError_t error = memory_get(arena->kind, chunk_bytes, &made);
  if (error != cudaSuccess) {
    if (!cuda_has_failed(lane))
      (void)out_of_memory(lane->kernel, arena->kind, chunk_bytes, "an op's workspace", error,
                          &lane->kernel->failure);
    return false;
  }
  lane->kernel->alloc_count++;
  arena->chunk[arena->count++] = {static_cast<char *>(made), chunk_bytes, 0};
  return true;
}

static void *arena_get(cuda_lane_t *lane, cuda_arena_t *arena, size_t bytes) {
  enum : size_t { ALIGN = 256 };
  if (cuda_has_failed(lane)) return nullptr;
  if (bytes > SIZE_MAX / 4) {
    cuda_failed(lane, cudaErrorMemoryAllocation, "an op's workspace of too many bytes", __FILE__, __LINE__);
    return nullptr;
  }
  const size_t taken = (bytes + ALIGN) & ~(ALIGN - 1); /* never 0: pointers differ */
  if (arena->count == 0 || arena->chunk[arena->count - 1].bytes - arena->chunk[arena->count - 1].used < taken)
    if (!arena_add(lane, arena, taken)) return nullptr;
  auto &chunk = arena->chunk[arena->count - 1];
  char *block = chunk.data + chunk.used;
  chunk.used += taken;
  return block;
}

/* Nobody uses it any more: one chunk that would have held everything takes the place of several. */
static void arena_reset(cuda_lane_t *lane, cuda_arena_t *arena) {
  if (arena->count > 1) {
    size_t bytes = 0;
    for (int i = 0; i < arena->count; i++) bytes += arena->chunk[i].bytes;
    CUDA_TRY(lane, cudaStreamSynchronize(lane->stream));
    arena_free(arena);
    (void)arena_add(lane, arena, bytes);
  }
  if (arena->count == 1) arena->chunk[0].used = 0;
}

/* ---- lanes ---- */

static cuda_lane_t *lane_find(cuda_kernel_t *self, kernel_stream_t *stream) {
  cudaStream_t wanted = stream == nullptr ? self->own : reinterpret_cast<cudaStream_t>(stream);
  for (int i = 0; i < self->lanes; i++)
    if (self->lane[i].stream == wanted) return &self->lane[i];
  cuda_failed(&self->spare, cudaErrorInvalidResourceHandle, "a stream of another kernel", __FILE__, __LINE__);
  return &self->spare;
}

static void lane_init(cuda_lane_t *lane, cuda_kernel_t *kernel, cudaStream_t stream) {
  *lane = cuda_lane_t{};
  lane->kernel = kernel;
  lane->stream = stream;
  lane->scratch.kind = MEMORY_DEVICE;
  lane->pinned.kind = MEMORY_PINNED;
}

static void lane_free(cuda_lane_t *lane) {
  arena_free(&lane->scratch);
  arena_free(&lane->pinned);
  mem_free(lane->kernel->base.mem, lane->result);
  lane->result = nullptr;
  if (lane->stream != nullptr) (void)cudaStreamDestroy(lane->stream);
}

cuda_lane_t *cuda_begin(kernel_t *k, kernel_stream_t *stream) {
  cuda_lane_t *lane = lane_find(cuda_of(k), stream);
  if (!cuda_has_failed(lane)) arena_reset(lane, &lane->scratch);
  return lane;
}

int cuda_multiprocessors(const cuda_lane_t *lane) {
  return lane->kernel->multiprocessors;
}

void *cuda_scratch_bytes(cuda_lane_t *lane, size_t bytes) {
  return arena_get(lane, &lane->scratch, bytes);
}

void *cuda_stage_bytes(cuda_lane_t *lane, size_t bytes) {
  return arena_get(lane, &lane->pinned, bytes);
}

void *cuda_send_bytes(cuda_lane_t *lane, const void *staged, size_t bytes) {
  void *device = arena_get(lane, &lane->scratch, bytes);
  if (device != nullptr && bytes > 0)
    CUDA_TRY(lane, cudaMemcpyAsync(device, staged, bytes, cudaMemcpyHostToDevice, lane->stream));
  return device;
}

void *cuda_upload_bytes(cuda_lane_t *lane, const void *host, size_t bytes) {
  void *staged = cuda_stage_bytes(lane, bytes);
  if (staged == nullptr) return nullptr;
  if (bytes > 0) memcpy(staged, host, bytes);
  return cuda_send_bytes(lane, staged, bytes);
}

kernel_memory_t cuda_memory_of(const void *data) {
  cudaPointerAttributes attributes = {};
  if (data == nullptr || cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    (void)cudaGetLastError(); /* an answer, not a failure */
    return MEMORY_HOST;
  }
  switch (attributes.type) {
  case cudaMemoryTypeDevice:
  case cudaMemoryTypeManaged:
    return MEMORY_DEVICE;
  case cudaMemoryTypeHost:
    return MEMORY_PINNED;
  default:
    return MEMORY_HOST;
  }
}

const void *cuda_input_bytes(cuda_lane_t *lane, const void *data, size_t bytes) {
  if (bytes == 0 || cuda_memory_of(data) == MEMORY_DEVICE) return data;
  return cuda_upload_bytes(lane, data, bytes);
}

static int cuda_reaches(kernel_t *, const void *data) {
  return cuda_memory_of(data) == MEMORY_DEVICE;
}

static bool results_grow(cuda_lane_t *lane) {
  enum : int64_t { FIRST_ROOM = 64 };
  if (lane->results < lane->results_room) return true;
  const int64_t room = lane->results_room == 0 ? int64_t{FIRST_ROOM} : 2 * lane->results_room;
  void *grown = lane->result;
  if (mem_realloc(lane->kernel->base.mem, mem_array_bytes(room, sizeof(cuda_result_t)), "results of a GPU",
                  &grown, &lane->kernel->failure) != SBAG_OK)
    return false;
  lane->result = static_cast<cuda_result_t *>(grown);
  lane->results_room = room;
  return true;
}

void cuda_deliver(cuda_lane_t *lane, void *host, const void *device, size_t bytes,
                  void (*take)(void *host, const void *pinned, size_t bytes)) {
  if (bytes == 0) return;
  void *pinned = arena_get(lane, &lane->pinned, bytes);
  if (pinned == nullptr || !results_grow(lane)) return;
  CUDA_TRY(lane, cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, lane->stream));
  if (!cuda_has_failed(lane)) lane->result[lane->results++] = {host, pinned, bytes, take};
}

static sbag_code_t cuda_stream_sync(kernel_t *k, kernel_stream_t *stream, sbag_status_t *status) {
  cuda_kernel_t *self = cuda_of(k);
  cuda_lane_t *lane = lane_find(self, stream);
  if (lane != &self->spare) CUDA_TRY(lane, cudaStreamSynchronize(lane->stream));
  for (int64_t i = 0; i < lane->results && !cuda_has_failed(lane); i++) {
    const cuda_result_t *one = &lane->result[i];
    if (one->take != nullptr)
      one->take(one->host, one->pinned, one->bytes);
    else
      memcpy(one->host, one->pinned, one->bytes);
  }
  lane->results = 0;
  const sbag_status_t failure = self->failure;
  status_clear(&self->failure);
  if (failure.code != SBAG_OK) return status_set(status, failure.code, "%s", failure.message);
  arena_reset(lane, &lane->pinned);
  return SBAG_OK;
}

static sbag_code_t cuda_stream_check(kernel_t *k, kernel_stream_t *stream, sbag_status_t *status) {
  return cuda_of(k)->failure.code == SBAG_OK ? SBAG_OK : cuda_stream_sync(k, stream, status);
}

/* ---- further streams ---- */

static sbag_code_t stream_add(cuda_kernel_t *self, cudaStream_t *stream, sbag_status_t *status) {
  if (self->lanes == LANES)
    return status_set(status, SBAG_ERR_STATE, "GPU %d: a kernel has at most %d streams", self->device, LANES);
  const cudaError_t error = cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
  if (error != cudaSuccess)
    return status_set(status, cuda_code(error), "GPU %d: a stream: %s", self->device,
                      cudaGetErrorString(error));
  lane_init(&self->lane[self->lanes++], self, *stream);
  return SBAG_OK;
}

sbag_code_t kernel_cuda_stream_create(kernel_t *kernel, kernel_stream_t **stream, sbag_status_t *status) {
  cudaStream_t made = nullptr;
  SBAG_TRY(stream_add(cuda_of(kernel), &made, status));
  *stream = reinterpret_cast<kernel_stream_t *>(made);
  return SBAG_OK;
}

void kernel_cuda_stream_destroy(kernel_t *kernel, kernel_stream_t **stream) {
  cuda_kernel_t *self = cuda_of(kernel);
  if (*stream == nullptr) return;
  cuda_lane_t *lane = lane_find(self, *stream);
  *stream = nullptr;
  if (lane == &self->spare) return;
  (void)cudaStreamSynchronize(lane->stream);
  lane_free(lane);
  *lane = self->lane[--self->lanes];
}

void kernel_cuda_stream_wait(kernel_t *kernel, kernel_stream_t *later, kernel_stream_t *earlier) {
  cuda_kernel_t *self = cuda_of(kernel);
  const cuda_lane_t *from = lane_find(self, earlier);
  cuda_lane_t *to = lane_find(self, later);
  CUDA_TRY(to, cudaEventRecord(self->order, from->stream));
  CUDA_TRY(to, cudaStreamWaitEvent(to->stream, self->order, 0));
}

/* ---- creation ---- */

sbag_code_t kernel_cuda_count(int *devices, sbag_status_t *status) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver)
    return status_set(status, SBAG_ERR_UNSUPPORTED,
                      "no GPU can be used: there is no NVIDIA driver, or it is older than CUDA %d.%d",
                      CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  if (error != cudaSuccess || count == 0)
    return status_set(status, SBAG_ERR_UNSUPPORTED, "no GPU can be used: %s",
                      error != cudaSuccess ? cudaGetErrorString(error) : "there is none");
  *devices = count;
  return SBAG_OK;
}

static void cuda_destroy(kernel_t *k) {
  cuda_kernel_t *self = cuda_of(k);
  cuda_phase(k, nullptr);
  for (int i = 0; i < self->lanes; i++) {
    (void)cudaStreamSynchronize(self->lane[i].stream);
    lane_free(&self->lane[i]);
  }
  if (self->order != nullptr) (void)cudaEventDestroy(self->order);
  mem_free(k->mem, self);
}

static void table_fill(kernel_ops_t *ops) {
  ops->name = "cuda";
  ops->device = SBAG_DEVICE_CUDA;
  ops->destroy = cuda_destroy;
  ops->phase = cuda_phase;
  ops->alloc = cuda_alloc;
  ops->release = cuda_release;
  ops->reaches = cuda_reaches;
  ops->stream_sync = cuda_stream_sync;
  ops->stream_check = cuda_stream_check;
  cuda_copy_ops(ops);
  cuda_cover_ops(ops);
  cuda_edges_ops(ops);
  cuda_integer_ops(ops);
  cuda_lists_ops(ops);
  cuda_pack_ops(ops);
  cuda_narrow_ops(ops);
  cuda_optimizer_ops(ops);
  cuda_places_ops(ops);
  cuda_real_ops(ops);
  cuda_reduce_ops(ops);
  cuda_rows_ops(ops);
  cuda_sort_ops(ops);
}

static sbag_code_t device_open(cuda_kernel_t *self, sbag_status_t *status) {
  cudaError_t error = cudaSetDevice(self->device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&self->multiprocessors, cudaDevAttrMultiProcessorCount, self->device);
  if (error == cudaSuccess) error = cudaEventCreateWithFlags(&self->order, cudaEventDisableTiming);
  if (error != cudaSuccess)
    return status_set(status, cuda_code(error), "GPU %d cannot be used: %s", self->device,
                      cudaGetErrorString(error));
  return stream_add(self, &self->own, status);
}

sbag_code_t kernel_cuda_create(mem_t *mem, int device, kernel_t **kernel, sbag_status_t *status) {
  int devices = 0;
  SBAG_TRY(kernel_cuda_count(&devices, status));
  if (device < 0 || device >= devices)
    return status_set(status, SBAG_ERR_ARGUMENT, "there is no GPU %d: this process sees %d", device, devices);
  void *block = nullptr;
  SBAG_TRY(mem_calloc(mem, sizeof(cuda_kernel_t), "the GPU's kernel", &block, status));
  cuda_kernel_t *made = static_cast<cuda_kernel_t *>(block);
  made->device = device;
  made->base.mem = mem;
  made->base.ops = &made->ops;
  lane_init(&made->spare, made, nullptr);
  table_fill(&made->ops);
  const sbag_code_t code = device_open(made, status);
  if (code != SBAG_OK) {
    cuda_destroy(&made->base);
    return code;
  }
  *kernel = &made->base;
  return SBAG_OK;
}

void *kernel_cuda_stream(const kernel_t *kernel) {
  return reinterpret_cast<const cuda_kernel_t *>(kernel)->own;
}

int64_t kernel_cuda_alloc_count(const kernel_t *kernel) {
  return reinterpret_cast<const cuda_kernel_t *>(kernel)->alloc_count;
}
