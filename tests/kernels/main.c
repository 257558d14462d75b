/* kernels: checks every variant of the CPU's kernels against the scalar reference. kernels --bench
 * [NAME=VALUE...] times them beside a plain gather of as many random rows: op=sum|mean|weighted|max,
 * ids=uniform|zipf, dim=, length=, threads=, isa=scalar|avx2|avx512, storage=f32|f16|bf16|int8|int4,
 * table_mib=, rounds=; what is not named takes all values. op=quantise: rows to int8 and int4 instead.
 */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASES = 200 };

static const char *const isas[] = {"best", "scalar", "avx2", "avx512"};
static const char *const storages[] = {"all", "f32", "f16", "bf16", "int8", "int4"};

static int word_of(const char *const *words, int count, const char *word) {
  for (int i = 0; i < count; i++)
    if (strcmp(words[i], word) == 0) return i;
  fprintf(stderr, "kernels: unknown word %s\n", word);
  exit(2);
}

static void set_option(kernels_bench_t *bench, char *option) {
  char *value = strchr(option, '=');
  if (value == NULL) {
    fprintf(stderr, "kernels: %s: it must be NAME=VALUE\n", option);
    exit(2);
  }
  *value++ = '\0';
  const int number = atoi(value);
  if (strcmp(option, "op") == 0)
    bench->op = value;
  else if (strcmp(option, "ids") == 0)
    bench->ids = value;
  else if (strcmp(option, "dim") == 0)
    bench->dim = number;
  else if (strcmp(option, "length") == 0)
    bench->length = number;
  else if (strcmp(option, "threads") == 0)
    bench->threads = number;
  else if (strcmp(option, "rounds") == 0)
    bench->rounds = number;
  else if (strcmp(option, "table_mib") == 0)
    bench->table_bytes = (int64_t)number << 20;
  else if (strcmp(option, "isa") == 0)
    bench->isa = word_of(isas, 4, value);
  else if (strcmp(option, "storage") == 0)
    bench->storage = word_of(storages, 6, value);
  else {
    fprintf(stderr, "kernels: unknown option %s\n", option);
    exit(2);
  }
}

kernel_t *kernels_create(mem_t *mem, kernel_isa_t isa, int threads) {
  sbag_status_t status = {0};
  kernel_t *kernel = NULL;
  if (kernel_cpu_create(mem, &(kernel_cpu_options_t){threads, isa}, &kernel, &status) == SBAG_OK)
    return kernel;
  fprintf(stderr, "kernels: %s\n", status.message);
  exit(1);
}

int main(int count, char **words) {
  sbag_status_t status = {0};
  mem_t *mem = NULL;
  if (mem_create(&mem, &status) != SBAG_OK) return 1;
  if (count > 1 && strcmp(words[1], "--bench") == 0) {
    kernels_bench_t bench = {.table_bytes = (int64_t)1 << 30, .rounds = 7};
    for (int i = 2; i < count; i++) set_option(&bench, words[i]);
    if (bench.op != NULL && strcmp(bench.op, "quantise") == 0)
      kernels_bench_quant(mem, &bench);
    else
      kernels_bench_reduce(mem, &bench);
    mem_destroy(&mem);
    return 0;
  }
  const int cases = count > 1 ? atoi(words[1]) : CASES;
  const kernels_count_t reduce = kernels_check_reduce(mem, cases), quant = kernels_check_quant(mem, cases);
  mem_destroy(&mem);
  printf("%d passed, %d failed\n", reduce.passed + quant.passed, reduce.failed + quant.failed);
  return reduce.failed + quant.failed > 0;
}
