/* The choice of the CPU's instructions: what the machine has, and SHARDBAG_ISA, which lowers it. */
#include "kernel/cpu_isa.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[ISA_COUNT] = {"best", "scalar", "avx2", "avx512"};

const char *cpu_isa_name(kernel_isa_t isa) {
  return isa >= 0 && isa < ISA_COUNT ? names[isa] : "unknown";
}

int kernel_isa_available(kernel_isa_t isa) {
  switch (isa) {
  case ISA_BEST:
  case ISA_SCALAR:
    return 1;
#if defined(__x86_64__)
  case ISA_AVX2:
    return __builtin_cpu_supports("avx2"); /* F16C has come with every AVX2 */
  case ISA_AVX512:
    return kernel_isa_available(ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
#endif
  default:
    return 0;
  }
}

static sbag_code_t named(const char *word, kernel_isa_t *isa, sbag_status_t *status) {
  for (kernel_isa_t i = ISA_SCALAR; i < ISA_COUNT; i++) {
    if (strcmp(word, names[i]) != 0) continue;
    *isa = i;
    return SBAG_OK;
  }
  return status_set(status, SBAG_ERR_ARGUMENT, "SHARDBAG_ISA=%.40s: it must be scalar, avx2 or avx512", word);
}

sbag_code_t cpu_isa_resolve(kernel_isa_t wanted, kernel_isa_t *isa, sbag_status_t *status) {
  const char *word = wanted == ISA_BEST ? getenv("SHARDBAG_ISA") : NULL;
  kernel_isa_t found = wanted;
  if (word != NULL && *word != '\0') SBAG_TRY(named(word, &found, status));
  if (found == ISA_BEST)
    found = kernel_isa_available(ISA_AVX512) ? ISA_AVX512
            : kernel_isa_available(ISA_AVX2) ? ISA_AVX2
                                             : ISA_SCALAR;
  if (!kernel_isa_available(found))
    return status_set(status, SBAG_ERR_UNSUPPORTED, "%sthis machine's processor has no %s",
                      word != NULL ? "SHARDBAG_ISA: " : "kernel: ", cpu_isa_name(found));
  *isa = found;
  return SBAG_OK;
}
