/* The kernels' unit suites on a real GPU: see runner.h. */
#include "runner.h"

Suite *kernel_cover_suite(void);
Suite *kernel_integer_suite(void);
Suite *kernel_narrow_suite(void);
Suite *kernel_pack_suite(void);
Suite *kernel_places_suite(void);
Suite *kernel_reduce_suite(void);
Suite *kernel_rows_suite(void);
Suite *kernel_storage_suite(void);

static const runner_suite_t suites[] = {
    {"kernel_cover", kernel_cover_suite},   {"kernel_integer", kernel_integer_suite},
    {"kernel_narrow", kernel_narrow_suite}, {"kernel_pack", kernel_pack_suite},
    {"kernel_places", kernel_places_suite}, {"kernel_reduce", kernel_reduce_suite},
    {"kernel_rows", kernel_rows_suite},     {"kernel_storage", kernel_storage_suite},
};

int main(int argc, char **argv) {
  return runner_main(suites, sizeof suites / sizeof *suites, argc, argv);
}
