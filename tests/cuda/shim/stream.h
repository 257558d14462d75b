/* Streams and events of the stand-in for the CUDA runtime, and their C interface for the stand-in for NCCL.
 */
#ifndef EMU_STREAM_H
#define EMU_STREAM_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Puts work on a stream, NULL being the default one. */
void emu_enqueue(cudaStream_t stream, void (*work)(void *), void *argument);
/* How many pieces were ever put on a stream; and: runs it until so many are done. NULL: 0, and nothing. */
uint64_t emu_stream_position(cudaStream_t stream);
void emu_stream_run(cudaStream_t stream, uint64_t position);

#ifdef __cplusplus
}
#endif
#endif
