/* The head of a .safetensors file: eight bytes of length, then JSON. For ckpt_format.c. */
#ifndef APP_CKPT_SAFETENSORS_H
#define APP_CKPT_SAFETENSORS_H

#include "app/ckpt_format.h"

sbag_code_t ckpt_safetensors_make(const ckpt_tensors_t *tensors, void **head, int64_t *head_bytes,
                                  sbag_status_t *status);
sbag_code_t ckpt_safetensors_read(int file, const char *path, int64_t bytes, ckpt_tensors_t *tensors,
                                  sbag_status_t *status);

#endif
