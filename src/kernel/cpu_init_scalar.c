/* Initial values, the scalar reference: see cpu_init_isa.inc. */
#include "kernel/cpu_init.h"

#include <math.h>
#include <string.h>

enum { LANES = 1 };

static inline void store_f32(const double value[INIT_COLUMNS], float *to) {
  for (int i = 0; i < INIT_COLUMNS; i++) to[i] = (float)value[i];
}

#define ISA(name)      name##_scalar
#define WORD           uint64_t
#define VALUE          double
#define MULTIPLY(a, b) (((a)&0xFFFFFFFFu) * (b))
#define NORMAL_SQRT    sqrt
#include "kernel/cpu_init_isa.inc"
