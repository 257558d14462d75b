/* Fewer bytes a number (scalar): integers in 1 to 8 bytes, f32 as f16 or bf16. */
#include "kernel/cpu.h"
#include "kernel/narrow.h"

#include <math.h>
#include <string.h>

/* ---- integers: one more than the value, unsigned, less one; so -1 is all ones ---- */

static void cpu_narrow_i64(kernel_t *k, kernel_stream_t *stream, const int64_t *from, int64_t count,
                           int width, void *to) {
  (void)k, (void)stream;
  if (width == 8 && count > 0) memcpy(to, from, (size_t)count * sizeof *from);
  if (width == 4)
    for (int64_t i = 0; i < count; i++) ((uint32_t *)to)[i] = (uint32_t)from[i];
  if (width == 2)
    for (int64_t i = 0; i < count; i++) ((uint16_t *)to)[i] = (uint16_t)from[i];
  if (width == 1)
    for (int64_t i = 0; i < count; i++) ((uint8_t *)to)[i] = (uint8_t)from[i];
}

static void cpu_widen_i64(kernel_t *k, kernel_stream_t *stream, const void *from, int64_t count, int width,
                          int64_t *to) {
  (void)k, (void)stream;
  if (width == 8 && count > 0) memcpy(to, from, (size_t)count * sizeof *to);
  if (width == 4)
    for (int64_t i = 0; i < count; i++) to[i] = (int64_t)(((const uint32_t *)from)[i] + 1) - 1;
  if (width == 2)
    for (int64_t i = 0; i < count; i++) to[i] = (int64_t)(uint16_t)(((const uint16_t *)from)[i] + 1) - 1;
  if (width == 1)
    for (int64_t i = 0; i < count; i++) to[i] = (int64_t)(uint8_t)(((const uint8_t *)from)[i] + 1) - 1;
}

/* ---- reals ---- */

static inline void add_error(wire_error_t *error, float value, float sent) {
  if (!isfinite(value)) return;
  double lost = fabs((double)value - (double)sent);
  error->squares += (double)value * (double)value;
  error->lost += lost * lost;
  if (lost > error->most) error->most = lost;
}

static void cpu_narrow_real(kernel_t *k, kernel_stream_t *stream, wire_t wire, const float *from,
                            int64_t count, uint16_t *to, wire_error_t *error) {
  (void)k, (void)stream;
  wire_error_t sum = *error;
  if (wire == WIRE_F16) {
    for (int64_t i = 0; i < count; i++) {
      to[i] = narrow_f16_of(from[i]);
      add_error(&sum, from[i], narrow_f16_value(to[i]));
    }
  } else {
    for (int64_t i = 0; i < count; i++) {
      to[i] = narrow_bf16_of(from[i]);
      add_error(&sum, from[i], narrow_bf16_value(to[i]));
    }
  }
  *error = sum;
}

static void cpu_widen_real(kernel_t *k, kernel_stream_t *stream, wire_t wire, const uint16_t *from,
                           int64_t count, float *to) {
  (void)k, (void)stream;
  if (wire == WIRE_F16)
    for (int64_t i = 0; i < count; i++) to[i] = narrow_f16_value(from[i]);
  else
    for (int64_t i = 0; i < count; i++) to[i] = narrow_bf16_value(from[i]);
}

void cpu_narrow_ops(kernel_ops_t *ops) {
  ops->narrow_i64 = cpu_narrow_i64;
  ops->widen_i64 = cpu_widen_i64;
  ops->narrow_real = cpu_narrow_real;
  ops->widen_real = cpu_widen_real;
}
