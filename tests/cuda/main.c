/* The suites of the CUDA kernels, executed on the CPU by shim/: see runner.h. */
#include "runner.h"
#include <stdlib.h>

Suite *cublas_suite(void);
Suite *cuda_dense_suite(void);
Suite *cuda_execution_suite(void);
Suite *cuda_integer_suite(void);
Suite *cuda_large_suite(void);
Suite *cuda_phases_suite(void);
Suite *cuda_values_suite(void);
Suite *cuda_streams_suite(void);
Suite *kernel_cover_suite(void);
Suite *kernel_integer_suite(void);
Suite *kernel_narrow_suite(void);
Suite *kernel_pack_suite(void);
Suite *kernel_places_suite(void);
Suite *kernel_reduce_suite(void);
Suite *kernel_rows_suite(void);
Suite *kernel_storage_suite(void);

static const runner_suite_t suites[] = {
    {"cublas", cublas_suite},
    {"dense", cuda_dense_suite},
    {"execution", cuda_execution_suite},
    {"integer", cuda_integer_suite},
    {"kernel_cover", kernel_cover_suite},
    {"kernel_integer", kernel_integer_suite},
    {"kernel_narrow", kernel_narrow_suite},
    {"kernel_pack", kernel_pack_suite},
    {"kernel_places", kernel_places_suite},
    {"kernel_reduce", kernel_reduce_suite},
    {"kernel_rows", kernel_rows_suite},
    {"kernel_storage", kernel_storage_suite},
    {"large", cuda_large_suite},
    {"phases", cuda_phases_suite},
    {"values", cuda_values_suite},
    {"streams", cuda_streams_suite},
};

int main(int argc, char **argv) {
  setenv("CK_DEFAULT_TIMEOUT", "120", 0); /* a kernel takes longer here than on a GPU */
  return runner_main(suites, sizeof suites / sizeof *suites, argc, argv);
}
