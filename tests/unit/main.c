/* Runs the unit suites: all, or those named on the command line. Ends with `N passed, N failed`; the exit
 * code is 1 if anything failed or a name is unknown. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *base_suite(void);
Suite *bench_cover_suite(void);
Suite *comm_self_suite(void);
Suite *config_suite(void);
Suite *dense_suite(void);
Suite *embedding_bag_suite(void);
Suite *gate_suite(void);
Suite *kernel_cover_suite(void);
Suite *kernel_integer_suite(void);
Suite *kernel_narrow_suite(void);
Suite *kernel_pack_suite(void);
Suite *kernel_places_suite(void);
Suite *kernel_reduce_suite(void);
Suite *kernel_rows_suite(void);
Suite *kernel_storage_suite(void);
Suite *layout_suite(void);
Suite *metrics_suite(void);
Suite *optimizer_suite(void);
Suite *plan_suite(void);
Suite *reader_binary_suite(void);
Suite *reader_criteo_suite(void);
Suite *reader_delimited_suite(void);
Suite *reader_movielens_suite(void);
Suite *reader_parts_suite(void);
Suite *reader_synthetic_suite(void);
Suite *store_suite(void);
Suite *trace_suite(void);

typedef struct entry {
  const char *name;
  Suite *(*make)(void);
} entry_t;

static const entry_t entries[] = {
    {"base", base_suite},
    {"bench_cover", bench_cover_suite},
    {"comm_self", comm_self_suite},
    {"config", config_suite},
    {"dense", dense_suite},
    {"embedding_bag", embedding_bag_suite},
    {"gate", gate_suite},
    {"kernel_cover", kernel_cover_suite},
    {"kernel_integer", kernel_integer_suite},
    {"kernel_narrow", kernel_narrow_suite},
    {"kernel_pack", kernel_pack_suite},
    {"kernel_places", kernel_places_suite},
    {"kernel_reduce", kernel_reduce_suite},
    {"kernel_rows", kernel_rows_suite},
    {"kernel_storage", kernel_storage_suite},
    {"layout", layout_suite},
    {"metrics", metrics_suite},
    {"optimizer", optimizer_suite},
    {"plan", plan_suite},
    {"reader_binary", reader_binary_suite},
    {"reader_criteo", reader_criteo_suite},
    {"reader_delimited", reader_delimited_suite},
    {"reader_movielens", reader_movielens_suite},
    {"reader_parts", reader_parts_suite},
    {"reader_synthetic", reader_synthetic_suite},
    {"store", store_suite},
    {"trace", trace_suite},
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
