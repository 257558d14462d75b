/* The choice of the device. A rank takes the GPU of its number among the ranks of its machine. Where a
 * launcher shows every rank only its own GPU, that is number 0 for all of them; so what is compared between
 * ranks is the GPU itself, by its PCI address. */
#include "collection/device.h"

#include "cuda/comm_nccl.h"
#include "cuda/cuda_kernel.h"
#include "collection/machine.h"

#include <string.h>

/* What each rank tells the others. */
typedef struct seat {
  machine_t machine;
  char gpu[COMM_NCCL_GPU_BYTES];
  int32_t index, gpus; /* the GPU's number there, and how many the rank sees */
} seat_t;

typedef struct seats {
  seat_t mine, all[]; /* [size] */
} seats_t;

static int ranks_here(const seats_t *seats, const seat_t *at, int end) {
  int count = 0;
  for (int p = 0; p < end; p++) count += machine_same(&seats->all[p].machine, &at->machine);
  return count;
}

/* A table of which only a part is filled must not be called. */
static sbag_code_t check_ops(const kernel_t *kernel, sbag_status_t *status) {
  typedef void (*op_t)(void);
  enum { OPS = (int)((sizeof(kernel_ops_t) - offsetof(kernel_ops_t, destroy)) / sizeof(op_t)) };
  int missing = 0;
  for (int i = 0; i < OPS; i++) {
    op_t op;
    memcpy(&op, (const char *)kernel->ops + offsetof(kernel_ops_t, destroy) + (size_t)i * sizeof op,
           sizeof op);
    missing += op == NULL;
  }
  missing -= kernel->ops->sort_rows == NULL; /* which may be left out */
  if (missing == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_UNSUPPORTED,
                    "device cuda: %d of the kernel's %d operations have no GPU version in this build; use "
                    "device cpu",
                    missing, (int)OPS);
}

/* This rank's GPU and the kernel on it; *kernel stays NULL after an error. */
static sbag_code_t take_gpu(mem_t *mem, const comm_t *comm, seats_t *seats, kernel_t **kernel,
                            sbag_status_t *status) {
  seat_t *mine = &seats->mine;
  int gpus = 0;
  if (kernel_cuda_count(&gpus, status) != SBAG_OK) return status_prefix(status, "device cuda");
  mine->gpus = gpus;
  mine->index = ranks_here(seats, mine, comm_rank(comm)) % gpus;
  SBAG_TRY(comm_nccl_gpu_name(mine->index, mine->gpu, status));
  SBAG_TRY(kernel_cuda_create(mem, mine->index, kernel, status));
  sbag_code_t code = check_ops(*kernel, status);
  if (code != SBAG_OK) kernel_destroy(kernel);
  return code;
}

/* All ranks have all seats, and so come to the same answer. */
static sbag_code_t check_shared(const comm_t *comm, const seats_t *seats, sbag_status_t *status) {
  int size = comm_size(comm);
  for (int p = 1; p < size; p++)
    for (int q = 0; q < p; q++) {
      const seat_t *a = &seats->all[q], *b = &seats->all[p];
      if (!machine_same(&a->machine, &b->machine) || strcmp(a->gpu, b->gpu) != 0) continue;
      return status_set(
          status, SBAG_ERR_ARGUMENT,
          "device cuda: ranks %d and %d would share GPU %s of %s, which NCCL cannot do: %d ranks "
          "there see %d GPU%s; start one rank a GPU",
          q, p, a->gpu, a->machine.host, ranks_here(seats, a, size), (int)a->gpus, a->gpus == 1 ? "" : "s");
    }
  return SBAG_OK;
}

/* Every rank ends up with a kernel of a GPU that is its alone, or with the same error. */
static sbag_code_t take_seats(mem_t *mem, comm_t *comm, seats_t *seats, kernel_t **kernel,
                              sbag_status_t *status) {
  const int64_t bytes = (int64_t)sizeof(seat_t);
  memset(&seats->mine, 0, sizeof seats->mine);
  machine_name(&seats->mine.machine);
  SBAG_TRY(comm_allgather(comm, &seats->mine, bytes, seats->all, "start: machines", status));
  sbag_code_t code = take_gpu(mem, comm, seats, kernel, status);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) code = comm_allgather(comm, &seats->mine, bytes, seats->all, "start: GPUs", status);
  if (code == SBAG_OK) code = check_shared(comm, seats, status);
  if (code != SBAG_OK) kernel_destroy(kernel);
  return code;
}

sbag_code_t device_attach(comm_t *comm, const kernel_t *kernel, const void *seats, sbag_status_t *status) {
  if (kernel->ops->device == SBAG_DEVICE_CPU) return SBAG_OK;
  return comm_nccl_attach(comm, ((const seats_t *)seats)->mine.index, kernel_cuda_stream(kernel), status);
}

sbag_code_t device_open(mem_t *mem, comm_t *comm, sbag_device_t wanted, const kernel_cpu_options_t *cpu,
                        kernel_t **kernel, sbag_device_t *device, void **seats, sbag_status_t *status) {
  *device = SBAG_DEVICE_CPU;
  if (wanted == SBAG_DEVICE_CPU) return kernel_cpu_create(mem, cpu, kernel, status);
  size_t bytes = sizeof(seats_t) + mem_array_bytes(comm_size(comm), sizeof(seat_t));
  SBAG_TRY(comm_agree(comm, mem_calloc(mem, bytes, "context: seats", seats, status), status));
  sbag_status_t cause;
  sbag_code_t code = take_seats(mem, comm, *seats, kernel, &cause);
  if (code == SBAG_OK) {
    *device = SBAG_DEVICE_CUDA;
    return device_attach(comm, *kernel, *seats, status);
  }
  if (wanted == SBAG_DEVICE_CUDA || comm_check(comm, NULL) != SBAG_OK) {
    if (status != NULL) *status = cause;
    return code;
  }
  return kernel_cpu_create(mem, cpu, kernel, status);
}
