/* A stand-in for the CUDA runtime's library: devices, memory, launches and errors. Device memory is host
 * memory that begins as 0xa5 bytes; streams are in stream.cpp. */
#include "apart.h"
#include "scheduler.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

namespace emu {

enum { MULTIPROCESSORS = 2, THREADS_MOST_BLOCK = 1024, THREADS_MOST_MULTIPROCESSOR = 2048 };

static std::map<const void *, size_t> shared_allowed; /* cudaFuncSetAttribute, by kernel */
static std::map<const void *, size_t> device_blocks, pinned_blocks;
static size_t device_bytes;
static cudaError_t last_error = cudaSuccess;

static cudaError_t fail(cudaError_t error) {
  return last_error = error;
}

static long long setting(const char *name, long long otherwise) {
  const char *text = getenv(name);
  return text == nullptr ? otherwise : strtoll(text, nullptr, 10);
}

static bool is_within(const std::map<const void *, size_t> &blocks, const void *at) {
  auto next = blocks.upper_bound(at);
  if (next == blocks.begin()) return false;
  --next;
  return static_cast<const char *>(at) < static_cast<const char *>(next->first) + next->second;
}

static size_t memory_most() {
  return static_cast<size_t>(setting("EMU_MEMORY", 8ll << 30));
}

cudaError_t launch(const cudaLaunchConfig_t *config, const void *kernel, std::function<void()> thread) {
  const dim3 g = config->gridDim, b = config->blockDim;
  const size_t shared = config->dynamicSmemBytes;
  const unsigned long long threads = static_cast<unsigned long long>(b.x) * b.y * b.z;
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535 || threads == 0 ||
      threads > THREADS_MOST_BLOCK || b.z > 64)
    return fail(cudaErrorInvalidConfiguration);
  const auto allowed = shared_allowed.find(kernel);
  if (shared > (allowed == shared_allowed.end() ? size_t{SHARED_DEFAULT_BYTES} : allowed->second))
    return fail(cudaErrorInvalidValue);
  enqueue_kernel(config->stream, [g, b, shared, thread] { run_grid(g, b, shared, thread); });
  return cudaSuccess;
}

} // namespace emu

using emu::fail;

extern "C" {

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count) {
  const long long devices = emu::setting("EMU_DEVICES", 1);
  *count = devices < 0 ? 0 : static_cast<int>(devices);
  if (devices < 0) return fail(static_cast<cudaError_t>(-devices));
  return devices == 0 ? fail(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (found != cudaSuccess) return found;
  return device < 0 || device >= count ? fail(cudaErrorInvalidDevice) : cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
  case cudaDevAttrMultiProcessorCount:
    *value = emu::MULTIPROCESSORS;
    break;
  case cudaDevAttrMaxThreadsPerBlock:
    *value = emu::THREADS_MOST_BLOCK;
    break;
  case cudaDevAttrMaxThreadsPerMultiProcessor:
    *value = emu::THREADS_MOST_MULTIPROCESSOR;
    break;
  case cudaDevAttrWarpSize:
    *value = 32;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlock:
    *value = emu::SHARED_DEFAULT_BYTES;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = emu::SHARED_MOST_BYTES;
    break;
  case cudaDevAttrComputeCapabilityMajor:
    *value = 8;
    break;
  case cudaDevAttrComputeCapabilityMinor:
    *value = 0;
    break;
  case cudaDevAttrL2CacheSize:
    *value = 40 << 20;
    break;
  case cudaDevAttrMemoryPoolsSupported:
    *value = 0;
    break;
  default:
    return fail(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
  *properties = cudaDeviceProp{};
  snprintf(properties->name, sizeof properties->name, "CUDA on the CPU");
  properties->totalGlobalMem = emu::memory_most();
  properties->multiProcessorCount = emu::MULTIPROCESSORS;
  properties->maxThreadsPerBlock = emu::THREADS_MOST_BLOCK;
  properties->maxThreadsPerMultiProcessor = emu::THREADS_MOST_MULTIPROCESSOR;
  properties->sharedMemPerBlock = emu::SHARED_DEFAULT_BYTES;
  properties->sharedMemPerBlockOptin = emu::SHARED_MOST_BYTES;
  properties->warpSize = 32;
  properties->major = 8;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *address, int bytes, int device) {
  snprintf(address, static_cast<size_t>(bytes), "0000:%02x:00.0", device);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

/* ---- memory ---- */

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *total_bytes = emu::memory_most();
  *free_bytes = *total_bytes - std::min(*total_bytes, emu::device_bytes);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **block, size_t bytes) {
  *block = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > emu::memory_most() - std::min(emu::memory_most(), emu::device_bytes))
    return fail(cudaErrorMemoryAllocation);
  if (emu_apart() != 0)
    *block = emu::apart_get(bytes);
  else if (posix_memalign(block, 256, bytes) != 0)
    *block = nullptr;
  if (*block == nullptr) return fail(cudaErrorMemoryAllocation);
  const emu::runner before = emu::apart_enter(emu::COPY_RUNS);
  memset(*block, 0xa5, bytes);
  emu::apart_enter(before);
  emu::device_blocks[*block] = bytes;
  emu::device_bytes += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void *block) {
  cudaDeviceSynchronize();
  if (block == nullptr) return cudaSuccess;
  const auto found = emu::device_blocks.find(block);
  if (found == emu::device_blocks.end()) return fail(cudaErrorInvalidValue);
  emu::device_bytes -= found->second;
  if (emu_apart() != 0)
    emu::apart_put(block, found->second);
  else
    free(block);
  emu::device_blocks.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned) {
  *block = nullptr;
  if (posix_memalign(block, 256, bytes == 0 ? 1 : bytes) != 0) return fail(cudaErrorMemoryAllocation);
  memset(*block, 0xa5, bytes);
  emu::pinned_blocks[*block] = bytes;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void **block, size_t bytes) {
  return cudaHostAlloc(block, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *block) {
  cudaDeviceSynchronize();
  emu::pinned_blocks.erase(block);
  free(block);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *at) {
  *attributes = cudaPointerAttributes{};
  const bool on_device = emu::is_within(emu::device_blocks, at);
  attributes->type = on_device                                ? cudaMemoryTypeDevice
                     : emu::is_within(emu::pinned_blocks, at) ? cudaMemoryTypeHost
                                                              : cudaMemoryTypeUnregistered;
  if (attributes->type != cudaMemoryTypeUnregistered) {
    attributes->devicePointer = const_cast<void *>(at);
    attributes->hostPointer = on_device ? nullptr : const_cast<void *>(at);
  }
  return cudaSuccess;
}

/* Ordinary host memory is read during the call, as CUDA promises. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!emu::is_within(emu::device_blocks, from) && !emu::is_within(emu::pinned_blocks, from)) {
    const std::string held(static_cast<const char *>(from), bytes);
    emu::enqueue(stream, [to, held] { memcpy(to, held.data(), held.size()); });
  } else {
    emu::enqueue(stream, [to, from, bytes] { memmove(to, from, bytes); });
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes > 0) emu::enqueue(stream, [to, value, bytes] { memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

/* ---- kernels ---- */

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > emu::SHARED_MOST_BYTES)
    return fail(cudaErrorInvalidValue);
  emu::shared_allowed[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
  *attributes = cudaFuncAttributes{};
  attributes->maxThreadsPerBlock = emu::THREADS_MOST_BLOCK;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *,
                                                                   int block_threads, size_t shared_bytes,
                                                                   unsigned) {
  const int by_threads = emu::THREADS_MOST_MULTIPROCESSOR / std::max(block_threads, 1);
  const size_t by_shared = shared_bytes == 0 ? 32 : emu::SHARED_MOST_BYTES / shared_bytes;
  *blocks = static_cast<int>(std::min<size_t>({static_cast<size_t>(by_threads), by_shared, 32}));
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int block_threads,
                                                          size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, kernel, block_threads, shared_bytes,
                                                                0);
}

/* ---- errors ---- */

cudaError_t cudaGetLastError(void) {
  const cudaError_t error = emu::last_error;
  emu::last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError(void) {
  return emu::last_error;
}

const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
  case cudaSuccess:
    return "cudaSuccess";
  case cudaErrorInvalidValue:
    return "cudaErrorInvalidValue";
  case cudaErrorMemoryAllocation:
    return "cudaErrorMemoryAllocation";
  case cudaErrorInvalidConfiguration:
    return "cudaErrorInvalidConfiguration";
  case cudaErrorInsufficientDriver:
    return "cudaErrorInsufficientDriver";
  case cudaErrorNoDevice:
    return "cudaErrorNoDevice";
  case cudaErrorInvalidDevice:
    return "cudaErrorInvalidDevice";
  case cudaErrorNotReady:
    return "cudaErrorNotReady";
  default:
    return "an error of CUDA that the tests do not know";
  }
}

const char *cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}

} // extern "C"
