/* Where a context computes: on the CPU, or each rank on a GPU of its own. */
#ifndef COLLECTION_DEVICE_H
#define COLLECTION_DEVICE_H

#include "comm/comm.h"
#include "kernel/kernel.h"
#include <shardbag/context.h>

/* Makes this rank's kernel (`cpu` goes by where it is the CPU's), and where that is a GPU's, lets the comm
 * move its memory. *device: CPU or CUDA, the same on all ranks. *seats, where ranks compare their GPUs: to be
 * freed after the comm is destroyed, also after a failure. Collective; an error of one rank is returned by
 * all, except where there is no memory for a kernel: the comm then is broken. */
sbag_code_t device_open(mem_t *mem, comm_t *comm, sbag_device_t wanted, const kernel_cpu_options_t *cpu,
                        kernel_t **kernel, sbag_device_t *device, void **seats, sbag_status_t *status);

/* Another comm for a kernel of device_open, of this rank alone: its device's memory is the kernel's. */
sbag_code_t device_attach(comm_t *comm, const kernel_t *kernel, const void *seats, sbag_status_t *status);

#endif
