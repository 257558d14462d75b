/* f32 as f16 or bf16: nearest, ties to even; a NaN stays a NaN of its sign. The same code on CPU and GPU, so
 * that both send the same bits. */
#ifndef KERNEL_NARROW_H
#define KERNEL_NARROW_H

#include "base/device.h"
#include <stdint.h>
#include <string.h>

HOST_DEVICE static inline uint32_t narrow_bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

HOST_DEVICE static inline float narrow_float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Exponents are biased by 127 in f32 and by 15 in f16; mantissas have 23 and 10 bits. */
enum { NARROW_REBIAS = 127 - 15, NARROW_DROPPED = 23 - 10 };

HOST_DEVICE static inline uint16_t narrow_f16_of(float value) {
  uint32_t sign = narrow_bits_of(value) >> 16 & 0x8000u, bits = narrow_bits_of(value) & 0x7FFFFFFFu;
  if (bits > 0x7F800000u)
    return (uint16_t)(sign | 0x7E00u | (bits >> NARROW_DROPPED & 0x3FFu)); /* NaN, made quiet */
  if (bits >= (127u + 16u) << 23) return (uint16_t)(sign | 0x7C00u);       /* 2^16 and more */
  if (bits < (127u - 14u) << 23) /* subnormal: units of 2^-24, which is what the last bit of 0.5 stands for */
    return (uint16_t)(sign | (narrow_bits_of(narrow_float_of(bits) + 0.5f) - narrow_bits_of(0.5f)));
  bits += (1u << (NARROW_DROPPED - 1)) - 1 +
          (bits >> NARROW_DROPPED & 1u); /* nearest, ties to even; may carry up to inf */
  return (uint16_t)(sign | ((bits >> NARROW_DROPPED) - (NARROW_REBIAS << 10)));
}

HOST_DEVICE static inline float narrow_f16_value(uint16_t code) {
  uint32_t sign = (uint32_t)(code & 0x8000) << 16, bits = code & 0x7FFFu;
  if (bits >= 0x7C00u) return narrow_float_of(sign | 0x7F800000u | bits << NARROW_DROPPED); /* inf, NaN */
  if (bits < 0x0400u)
    return narrow_float_of(sign | narrow_bits_of((float)bits * 5.9604644775390625e-8f /* 2^-24 */));
  return narrow_float_of(sign | ((bits << NARROW_DROPPED) + ((uint32_t)NARROW_REBIAS << 23)));
}

HOST_DEVICE static inline uint16_t narrow_bf16_of(float value) {
  uint32_t bits = narrow_bits_of(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
  return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

HOST_DEVICE static inline float narrow_bf16_value(uint16_t code) {
  return narrow_float_of((uint32_t)code << 16);
}

#endif
