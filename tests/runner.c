/* Suites of Check in one process. */
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run(const runner_suite_t *suite, int *passed, int *failed) {
  SRunner *runner = srunner_create(suite->make());
  srunner_run_all(runner, CK_SILENT);
  int bad = srunner_ntests_failed(runner);
  *passed += srunner_ntests_run(runner) - bad;
  *failed += bad;
  TestResult **failures = srunner_failures(runner);
  for (int i = 0; i < bad; i++)
    printf("%s: %s: %s:%d: %s\n", suite->name, tr_tcname(failures[i]), tr_lfile(failures[i]),
           tr_lno(failures[i]), tr_msg(failures[i]));
  free(failures);
  srunner_free(runner);
  fflush(stdout);
}

int runner_main(const runner_suite_t *suites, int suite_count, int argc, char **argv) {
  int passed = 0, failed = 0;
  for (int i = 0; argc == 1 && i < suite_count; i++) run(&suites[i], &passed, &failed);
  for (int i = 1; i < argc; i++) {
    int s = 0;
    while (s < suite_count && strcmp(suites[s].name, argv[i]) != 0) s++;
    if (s == suite_count) {
      fprintf(stderr, "no suite is called '%s'\n", argv[i]);
      return EXIT_FAILURE;
    }
    run(&suites[s], &passed, &failed);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
