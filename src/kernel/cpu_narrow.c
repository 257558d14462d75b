/* Fewer bytes a number (scalar): integers in 1 to 8 bytes, f32 as f16 or bf16. */
#include "kernel/cpu.h"

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

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Exponents are biased by 127 in f32 and by 15 in f16; mantissas have 23 and 10 bits. */
enum { REBIAS = 127 - 15, DROPPED = 23 - 10 };

static inline uint16_t f16_of(float value) {
  uint32_t sign = bits_of(value) >> 16 & 0x8000u, bits = bits_of(value) & 0x7FFFFFFFu;
  if (bits > 0x7F800000u)
    return (uint16_t)(sign | 0x7E00u | (bits >> DROPPED & 0x3FFu));  /* NaN, made quiet */
  if (bits >= (127u + 16u) << 23) return (uint16_t)(sign | 0x7C00u); /* 2^16 and more */
  if (bits < (127u - 14u) << 23) /* subnormal: units of 2^-24, which is what the last bit of 0.5 stands for */
    return (uint16_t)(sign | (bits_of(float_of(bits) + 0.5f) - bits_of(0.5f)));
  bits += (1u << (DROPPED - 1)) - 1 + (bits >> DROPPED & 1u); /* nearest, ties to even; may carry up to inf */
  return (uint16_t)(sign | ((bits >> DROPPED) - (REBIAS << 10)));
}

static inline float f16_value(uint16_t code) {
  uint32_t sign = (uint32_t)(code & 0x8000) << 16, bits = code & 0x7FFFu;
  if (bits >= 0x7C00u) return float_of(sign | 0x7F800000u | bits << DROPPED); /* inf, NaN */
  if (bits < 0x0400u) return float_of(sign | bits_of((float)bits * 0x1p-24f));
  return float_of(sign | ((bits << DROPPED) + ((uint32_t)REBIAS << 23)));
}

static inline uint16_t bf16_of(float value) {
  uint32_t bits = bits_of(value);
  if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40u);
  return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

static inline float bf16_value(uint16_t code) {
  return float_of((uint32_t)code << 16);
}

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
      to[i] = f16_of(from[i]);
      add_error(&sum, from[i], f16_value(to[i]));
    }
  } else {
    for (int64_t i = 0; i < count; i++) {
      to[i] = bf16_of(from[i]);
      add_error(&sum, from[i], bf16_value(to[i]));
    }
  }
  *error = sum;
}

static void cpu_widen_real(kernel_t *k, kernel_stream_t *stream, wire_t wire, const uint16_t *from,
                           int64_t count, float *to) {
  (void)k, (void)stream;
  if (wire == WIRE_F16)
    for (int64_t i = 0; i < count; i++) to[i] = f16_value(from[i]);
  else
    for (int64_t i = 0; i < count; i++) to[i] = bf16_value(from[i]);
}

void cpu_narrow_ops(kernel_ops_t *ops) {
  ops->narrow_i64 = cpu_narrow_i64;
  ops->widen_i64 = cpu_widen_i64;
  ops->narrow_real = cpu_narrow_real;
  ops->widen_real = cpu_widen_real;
}
