/* Rows to 8 and 4 bits a value: every variant's bytes are the scalar reference's, and what is read of them is
 * as near to the values as a scale and so many codes allow. And how long it takes. */
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"
#include "kernels.h"
#include "oracle/arena.h"
#include "oracle/draw.h"

#include <float.h>
#include <stdio.h>
#include <time.h>

static const sbag_storage_t storages[] = {SBAG_STORAGE_INT8, SBAG_STORAGE_INT4};
static const char *const names[] = {"int8", "int4"};

static quant_row_fn row_fn(kernel_isa_t isa) {
#if defined(__x86_64__)
  if (isa == ISA_AVX512) return quant_row_avx512;
  if (isa == ISA_AVX2) return quant_row_avx2;
#endif
  return isa == ISA_SCALAR ? quant_row_scalar : NULL;
}

/* Ordinary rows, rows of one value, of very small or very large ones, of halves of codes, and with what is no
 * number among them. */
static void draw_row(draw_t *draw, int64_t dim, float *values) {
  static const float odd[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 65504.0f, 1e-45f, -0.0f};
  const int kind = (int)draw_below(draw, 6);
  const float size = powf(10.0f, (float)draw_between(draw, -12, 6)), base = (float)draw_unit(draw) - 0.5f;
  for (int64_t c = 0; c < dim; c++) {
    if (kind == 0)
      values[c] = base;
    else if (kind == 1)
      values[c] = (float)draw_below(draw, 511) * 0.5f; /* range 255 at most: ties */
    else if (kind == 2)
      values[c] = draw_one_in(draw, 2) ? -0.0f : 0.0f;
    else
      values[c] = (base + (float)draw_unit(draw)) * size;
    if (kind == 3 && draw_one_in(draw, 40)) values[c] = odd[draw_below(draw, 8)];
  }
}

/* How far a value read may be from the value itself; negative: it must read as NaN. */
static double tolerance(sbag_storage_t storage, const float *values, int64_t dim) {
  double least = INFINITY, most = -INFINITY, half_step;
  for (int64_t c = 0; c < dim; c++) {
    if (!isfinite(values[c])) return -1;
    least = fmin(least, values[c]);
    most = fmax(most, values[c]);
  }
  const double range = most - least, size = fmax(fabs(least), fabs(most));
  if (storage == SBAG_STORAGE_INT8)
    return range > FLT_MAX ? -1 : range / 510 + fmin(range, 1e-8) + size * 0x1p-22;
  if (size > 65000) return range > 900000 || fabs(least) > 65520 ? -1 : INFINITY;
  half_step = range / 30;
  return half_step + range * 0x1p-10 + size * 0x1p-10 + 16 * 0x1p-24;
}

static int near_enough(sbag_storage_t storage, const float *values, int64_t dim, const uint8_t *row) {
  const double within = tolerance(storage, values, dim);
  float scale, bias;
  quant_get_scale(storage, dim, row, &scale, &bias);
  for (int64_t c = 0; c < dim; c++) {
    const float read = scale * (float)quant_get_code(storage, row, c) + bias;
    if (within < 0 ? !isnan(read) : !(fabs((double)read - (double)values[c]) <= within)) {
      printf("column %lld is %g, read as %g", (long long)c, (double)values[c], (double)read);
      return 0;
    }
  }
  return storage == SBAG_STORAGE_INT8 || dim % 2 == 0 || row[dim / 2] < 16;
}

static int check_row(uint64_t number) {
  enum { GUARD = 64 };
  draw_t draw = draw_start(72, number);
  arena_t arena = {0};
  const int64_t dim = draw_one_in(&draw, 3) ? 8 * draw_between(&draw, 1, 40) : draw_between(&draw, 1, 300);
  float *values = arena_alloc(&arena, dim, sizeof *values);
  int good = 1;
  draw_row(&draw, dim, values);
  for (int s = 0; s < 2 && good; s++) {
    const size_t bytes = kernel_row_bytes(SBAG_F32, storages[s], dim);
    uint8_t *wanted = arena_alloc(&arena, (int64_t)bytes + GUARD, 1), *made;
    memset(wanted, 0x5A, bytes + GUARD);
    quant_row_scalar(storages[s], values, dim, wanted);
    good = near_enough(storages[s], values, dim, wanted);
    if (!good) printf(": quantise case %llu, %s\n", (unsigned long long)number, names[s]);
    for (kernel_isa_t isa = ISA_AVX2; isa < ISA_COUNT && good; isa++) {
      if (!kernel_isa_available(isa)) continue;
      made = arena_alloc(&arena, (int64_t)bytes + GUARD, 1);
      memset(made, 0x5A, bytes + GUARD);
      row_fn(isa)(storages[s], values, dim, made);
      good = memcmp(made, wanted, bytes + GUARD) == 0;
      if (!good)
        printf("quantise case %llu, %s, dim %lld: instruction set %d makes other bytes\n",
               (unsigned long long)number, names[s], (long long)dim, (int)isa);
    }
  }
  arena_free(&arena);
  return good;
}

kernels_count_t kernels_check_quant(mem_t *mem, int cases) {
  kernels_count_t count = {0, 0};
  (void)mem;
  for (int i = 0; i < 5 * cases; i++) {
    if (check_row((uint64_t)i))
      count.passed++;
    else
      count.failed++;
  }
  return count;
}

/* ---- how long it takes ---- */

static double cpu_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The best of the rounds: rows that stay in the cache, so that it is the instructions that are timed. */
static double ns_a_row(quant_row_fn fn, sbag_storage_t storage, int64_t dim, int rounds) {
  enum { ROWS = 256 };
  arena_t arena = {0};
  const int64_t bytes = (int64_t)kernel_row_bytes(SBAG_F32, storage, dim);
  draw_t draw = draw_start(73, 1);
  float *values = arena_alloc(&arena, ROWS * dim, sizeof *values);
  uint8_t *rows = arena_alloc(&arena, ROWS * bytes, 1);
  double best = INFINITY;
  for (int64_t i = 0; i < ROWS * dim; i++) values[i] = (float)draw_unit(&draw) - 0.5f;
  for (int r = 0; r < 10 * rounds; r++) {
    const double start = cpu_s();
    for (int64_t i = 0; i < ROWS; i++) fn(storage, values + i * dim, dim, rows + i * bytes);
    best = fmin(best, (cpu_s() - start) * 1e9 / ROWS);
  }
  arena_free(&arena);
  return best;
}

void kernels_bench_quant(mem_t *mem, const kernels_bench_t *options) {
  static const int dims[] = {16, 32, 64, 100, 128, 256};
  (void)mem;
  printf("# f32 rows to codes, in the cache\n%-8s %4s %10s %10s %10s   ns/row\n", "storage", "dim", "scalar",
         "avx2", "avx512");
  for (int s = 0; s < 2; s++)
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
      if (options->storage != 0 && options->storage != (int)storages[s] + 1) continue;
      if (options->dim != 0 && options->dim != dims[d]) continue;
      printf("%-8s %4d", names[s], dims[d]);
      for (kernel_isa_t isa = ISA_SCALAR; isa < ISA_COUNT; isa++)
        if (kernel_isa_available(isa))
          printf(" %10.1f", ns_a_row(row_fn(isa), storages[s], dims[d], options->rounds));
        else
          printf(" %10s", "-");
      printf("\n");
    }
}
