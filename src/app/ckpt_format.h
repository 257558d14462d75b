/* The heads of .npy and .safetensors files, written and read. What is read is trusted in nothing: every
 * length is held against the file's. */
#ifndef APP_CKPT_FORMAT_H
#define APP_CKPT_FORMAT_H

#include "checkpoint/checkpoint.h"

typedef enum ckpt_format { CKPT_NPY, CKPT_SAFETENSORS, CKPT_HDF5 } ckpt_format_t;

/* By the name's end; all but .npy and .safetensors is HDF5. */
ckpt_format_t ckpt_format_of(const char *path);

/* One array of such a file. */
typedef struct ckpt_tensor {
  char *name; /* a block of mem; empty in .npy */
  checkpoint_array_t array;
  int64_t offset; /* of its rows in the file */
} ckpt_tensor_t;

typedef struct ckpt_tensors {
  mem_t *mem;
  ckpt_tensor_t *list;
  int64_t count;
} ckpt_tensors_t;

/* Appends a copy of the name. `tensors` begins as {.mem = mem}. */
sbag_code_t ckpt_tensors_add(ckpt_tensors_t *tensors, const char *name, const checkpoint_array_t *array,
                             sbag_status_t *status);
void ckpt_tensors_clear(ckpt_tensors_t *tensors);

/* The head of a file that holds these tensors (one in .npy), as a block of mem, and the bytes of the whole
 * file; sets the offsets. */
sbag_code_t ckpt_head_make(ckpt_format_t format, ckpt_tensors_t *tensors, void **head, int64_t *head_bytes,
                           int64_t *file_bytes, sbag_status_t *status);
/* Reads the head of an open file. */
sbag_code_t ckpt_head_read(ckpt_format_t format, int file, const char *path, ckpt_tensors_t *tensors,
                           sbag_status_t *status);

#endif
