/* NCCL's types and reductions in MPI's. MPI has no halves: they travel as 16 bits, and user functions add
 * them in float with one rounding a step. */
#include "nccl_mpi.h"

#include <math.h>
#include <string.h>

size_t emu_nccl_bytes(ncclDataType_t type) {
  switch (type) {
  case ncclInt8:
  case ncclUint8:
    return 1;
  case ncclFloat16:
  case ncclBfloat16:
    return 2;
  case ncclInt32:
  case ncclUint32:
  case ncclFloat32:
    return 4;
  case ncclInt64:
  case ncclUint64:
  case ncclFloat64:
    return 8;
  default:
    return 0;
  }
}

MPI_Datatype emu_nccl_mpi_type(ncclDataType_t type) {
  switch (type) {
  case ncclInt8:
    return MPI_INT8_T;
  case ncclUint8:
    return MPI_UINT8_T;
  case ncclInt32:
    return MPI_INT32_T;
  case ncclUint32:
    return MPI_UINT32_T;
  case ncclInt64:
    return MPI_INT64_T;
  case ncclUint64:
    return MPI_UINT64_T;
  case ncclFloat32:
    return MPI_FLOAT;
  case ncclFloat64:
    return MPI_DOUBLE;
  default:
    return MPI_UINT16_T;
  }
}

static float half_read(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float magnitude = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                          : exponent == 0 ? ldexpf((float)fraction, -24)
                                          : ldexpf((float)(fraction | 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/* Nearest, ties to even: the current rounding of nearbyintf. */
static uint16_t half_write(float value) {
  const uint16_t sign = signbit(value) ? 0x8000 : 0;
  const float magnitude = fabsf(value);
  if (isnan(value) || isinf(value)) return (uint16_t)(sign | (isnan(value) ? 0x7e00 : 0x7c00));
  if (magnitude == 0) return sign;
  int exponent = 0;
  (void)frexpf(magnitude, &exponent);
  if (exponent < -13) exponent = -13; /* subnormal halves share the least exponent */
  const float steps = nearbyintf(ldexpf(magnitude, 11 - exponent)); /* units of the last place */
  const long bits = lroundf(steps) + ((long)(exponent + 13) << 10);
  return (uint16_t)(sign | (bits > 0x7c00 ? 0x7c00 : bits));
}

static float bfloat_read(uint16_t bits) {
  const uint32_t all = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &all, sizeof value);
  return value;
}

static uint16_t bfloat_write(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#define REDUCTION(name, read, write, expression)                                                             \
  static void name(void *from, void *to, int *count, MPI_Datatype *type) {                                   \
    (void)type;                                                                                              \
    const uint16_t *x = from;                                                                                \
    uint16_t *y = to;                                                                                        \
    for (int i = 0; i < *count; i++) {                                                                       \
      const float a = read(x[i]), b = read(y[i]);                                                            \
      y[i] = write(expression);                                                                              \
    }                                                                                                        \
  }
REDUCTION(half_sum, half_read, half_write, a + b)
REDUCTION(half_max, half_read, half_write, a > b ? a : b)
REDUCTION(half_min, half_read, half_write, a < b ? a : b)
REDUCTION(half_product, half_read, half_write, a *b)
REDUCTION(bfloat_sum, bfloat_read, bfloat_write, a + b)
REDUCTION(bfloat_max, bfloat_read, bfloat_write, a > b ? a : b)
REDUCTION(bfloat_min, bfloat_read, bfloat_write, a < b ? a : b)
REDUCTION(bfloat_product, bfloat_read, bfloat_write, a *b)

enum { SUM, MAX, MIN, PRODUCT, REDUCTIONS };

static int number_of(ncclRedOp_t reduction) {
  switch (reduction) {
  case ncclMax:
    return MAX;
  case ncclMin:
    return MIN;
  case ncclProd:
    return PRODUCT;
  default:
    return SUM; /* and the first half of an average */
  }
}

MPI_Op emu_nccl_mpi_op(ncclDataType_t type, ncclRedOp_t reduction) {
  static MPI_User_function *const functions[2][REDUCTIONS] = {
      {half_sum, half_max, half_min, half_product}, {bfloat_sum, bfloat_max, bfloat_min, bfloat_product}};
  static MPI_Op made[2][REDUCTIONS]; /* MPI_Finalize ends them */
  static int are_made;
  const MPI_Op plain[REDUCTIONS] = {MPI_SUM, MPI_MAX, MPI_MIN, MPI_PROD};
  if (reduction > ncclAvg) return MPI_OP_NULL;
  if (type != ncclFloat16 && type != ncclBfloat16) return plain[number_of(reduction)];
  for (int i = 0; !are_made && i < 2 * REDUCTIONS; i++)
    if (MPI_Op_create(functions[i / REDUCTIONS][i % REDUCTIONS], 1, &made[i / REDUCTIONS][i % REDUCTIONS]) !=
        MPI_SUCCESS)
      return MPI_OP_NULL;
  are_made = 1;
  return made[type == ncclBfloat16][number_of(reduction)];
}

void emu_nccl_divide(ncclDataType_t type, void *values, size_t count, int ranks) {
  for (size_t i = 0; i < count; i++) switch (type) {
    case ncclFloat16:
      ((uint16_t *)values)[i] = half_write(half_read(((uint16_t *)values)[i]) / (float)ranks);
      break;
    case ncclBfloat16:
      ((uint16_t *)values)[i] = bfloat_write(bfloat_read(((uint16_t *)values)[i]) / (float)ranks);
      break;
    case ncclFloat32:
      ((float *)values)[i] /= (float)ranks;
      break;
    case ncclFloat64:
      ((double *)values)[i] /= ranks;
      break;
    case ncclInt32:
      ((int32_t *)values)[i] /= ranks;
      break;
    case ncclInt64:
      ((int64_t *)values)[i] /= ranks;
      break;
    default:
      break;
    }
}
