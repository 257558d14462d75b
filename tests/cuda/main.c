/* Runs the suites of the CUDA kernels, executed on the CPU by shim/: all, or those named on the command line.
 * Ends with `N passed, N failed`; the exit code is 1 if anything failed or a name is unknown. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

typedef struct entry {
  const char *name;
  Suite *(*make)(void);
} entry_t;

static const entry_t entries[] = {
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

enum { ENTRY_COUNT = sizeof entries / sizeof entries[0] };

static void run(const entry_t *entry, int *passed, int *failed) {
  SRunner *runner = srunner_create(entry->make());
  srunner_run_all(runner, CK_SILENT);
  int bad = srunner_ntests_failed(runner);
  *passed += srunner_ntests_run(runner) - bad;
  *failed += bad;
  TestResult **failures = srunner_failures(runner);
  for (int i = 0; i < bad; i++)
    printf("%s: %s: %s:%d: %s\n", entry->name, tr_tcname(failures[i]), tr_lfile(failures[i]),
           tr_lno(failures[i]), tr_msg(failures[i]));
  free(failures);
  srunner_free(runner);
  fflush(stdout);
}

static const entry_t *find(const char *name) {
  for (int i = 0; i < ENTRY_COUNT; i++)
    if (strcmp(entries[i].name, name) == 0) return &entries[i];
  return NULL;
}

int main(int argc, char **argv) {
  int passed = 0, failed = 0;
  setenv("CK_DEFAULT_TIMEOUT", "120", 0); /* a kernel takes longer here than on a GPU */
  for (int i = 0; argc == 1 && i < ENTRY_COUNT; i++) run(&entries[i], &passed, &failed);
  for (int i = 1; i < argc; i++) {
    const entry_t *entry = find(argv[i]);
    if (entry == NULL) {
      fprintf(stderr, "no suite is called '%s'\n", argv[i]);
      return EXIT_FAILURE;
    }
    run(entry, &passed, &failed);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
