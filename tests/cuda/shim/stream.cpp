/* Streams and events. A stream is a queue; it runs at once, or with EMU_STREAMS=lazy only as far as something
 * waits for it, so that a wait that is missing shows as stale data. Work waits for nothing but work that was
 * queued before it, hence there are no cycles. */
#include "stream.h"

#include "apart.h"
#include "scheduler.h"

#include <cstdlib>
#include <deque>
#include <vector>

struct CUstream_st {
  std::deque<std::function<void()>> queue;
  uint64_t queued = 0, done = 0;
  std::deque<uint64_t> waits; /* for other streams: which pieces, from 1 */
  bool blocking = true, busy = false;
};

struct CUevent_st {
  cudaStream_t stream = nullptr;
  uint64_t position = 0;
};

static std::vector<cudaStream_t> streams;

static bool lazy() {
  static const bool is = getenv("EMU_STREAMS") != nullptr && strcmp(getenv("EMU_STREAMS"), "lazy") == 0;
  return is;
}

/* Both kinds of memory are open to it; a kernel closes the host's. */
static void run_one(const std::function<void()> &work) {
  const emu::runner before = emu::apart_enter(emu::COPY_RUNS);
  work();
  emu::apart_enter(before);
}

static void run_to(cudaStream_t stream, uint64_t position) {
  if (stream->done >= position) return;
  if (stream->busy) emu::fatal("a stream waits for what is queued on it later");
  stream->busy = true;
  while (stream->done < position) {
    std::function<void()> work = std::move(stream->queue.front());
    stream->queue.pop_front();
    run_one(work);
    stream->done++;
  }
  stream->busy = false;
}

/* What the legacy default stream waits for: all streams that were not made with cudaStreamNonBlocking. */
static void run_blocking() {
  for (size_t i = 0; i < streams.size(); i++)
    if (streams[i]->blocking) run_to(streams[i], streams[i]->queued);
}

static void run_all() {
  for (size_t i = 0; i < streams.size(); i++) run_to(streams[i], streams[i]->queued);
}

void emu::enqueue(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr) {
    run_blocking();
    run_one(work);
    return;
  }
  stream->queue.push_back(std::move(work));
  stream->queued++;
  if (!lazy()) run_to(stream, stream->queued);
}

void emu::enqueue_kernel(cudaStream_t stream, std::function<void()> work) {
  enqueue(stream, [work] {
    const runner before = apart_enter(KERNEL_RUNS);
    work();
    apart_enter(before);
  });
}

extern "C" {

void emu_enqueue(cudaStream_t stream, void (*work)(void *), void *argument) {
  emu::enqueue(stream, [work, argument] { work(argument); });
}

uint64_t emu_stream_position(cudaStream_t stream) {
  return stream == nullptr ? 0 : stream->queued;
}

void emu_stream_run(cudaStream_t stream, uint64_t position) {
  if (stream != nullptr) run_to(stream, position);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  *stream = new CUstream_st;
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  run_to(stream, stream->queued);
  streams.erase(std::find(streams.begin(), streams.end(), stream));
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr)
    run_blocking();
  else
    run_to(stream, stream->queued);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (stream == nullptr || stream->done == stream->queued) return cudaSuccess;
  run_to(stream, stream->done + 1);
  return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void) {
  run_all();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  event->position = emu_stream_position(stream);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  emu_stream_run(event->stream, event->position);
  return cudaSuccess;
}

/* Each question moves the stream by one piece, so that whoever polls comes to an end; a wait for another
 * stream by one more, or work of several ranks that a GPU would begin by itself needed another question. */
cudaError_t cudaEventQuery(cudaEvent_t event) {
  cudaStream_t stream = event->stream;
  if (stream == nullptr || stream->done >= event->position) return cudaSuccess;
  run_to(stream, stream->done + 1);
  while (!stream->waits.empty() && stream->waits.front() < stream->done) stream->waits.pop_front();
  if (!stream->waits.empty() && stream->waits.front() == stream->done && stream->done < event->position)
    run_to(stream, stream->done + 1);
  return cudaErrorNotReady;
}

/* There is no clock here: the time between two events is 0. */
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return cudaSuccess;
}

/* The event as it is now: recording it again later does not change what this waits for. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const CUevent_st recorded = *event;
  if (stream != nullptr) stream->waits.push_back(stream->queued + 1);
  emu::enqueue(stream, [recorded] { emu_stream_run(recorded.stream, recorded.position); });
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument) {
  emu::enqueue(stream, [function, argument] { function(argument); });
  return cudaSuccess;
}

} // extern "C"
