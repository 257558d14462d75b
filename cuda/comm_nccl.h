/* NCCL under a comm: operations on the GPU's memory go through it, those on the host's stay with the comm. */
#ifndef CUDA_COMM_NCCL_H
#define CUDA_COMM_NCCL_H

#include "comm/comm.h"

enum { COMM_NCCL_GPU_BYTES = 24 };

/* What tells a GPU from the others of its machine, however they are numbered here: its PCI address. */
sbag_code_t comm_nccl_gpu_name(int gpu, char name[COMM_NCCL_GPU_BYTES], sbag_status_t *status);

/* Gives the comm a device that moves memory of this rank's GPU `gpu`, which no other rank may use.
 * stream: a cudaStream_t, which lives as long; an operation on the GPU's memory runs after what was asked of
 * the stream before its begin, and nobody waits for it. Collective; an error of one rank is returned by all.
 * A comm of one rank needs no NCCL for it. */
sbag_code_t comm_nccl_attach(comm_t *comm, int gpu, void *stream, sbag_status_t *status);

#endif
