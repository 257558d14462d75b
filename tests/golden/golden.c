/* golden FILE.h5: runs every case of a golden file on however many ranks there are, and ends with
 * `N passed, N failed`. Exit code 0 if none failed, 1 if any did, 2 for a usage error or an unreadable file.
 */
#include "golden_case.h"

#include <mpi.h>
#include <shardbag/mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: golden FILE.h5 [--layout block|cyclic|subset|replicated|scramble] [--exchange "
    "auto|pools|rows] [--chunk BYTES] [--reproducible] [--oracle]";

typedef struct arguments {
  const char *file;
  sbag_context_options_t context;
  golden_layout_t layout;
  int oracle;
} arguments_t;

static int find_word(const char *word, const char *const *words, int count) {
  for (int i = 0; word != NULL && i < count; i++)
    if (strcmp(word, words[i]) == 0) return i;
  return -1;
}

/* Returns 0 if an argument is none of ours. */
static int read_arguments(int argc, char **argv, arguments_t *out) {
  static const char *const layouts[] = {"block", "cyclic", "subset", "replicated", "scramble"};
  static const char *const exchanges[] = {"auto", "pools", "rows", "dense"};
  *out = (arguments_t){.context = sbag_context_options_default()};
  for (int i = 1; i < argc; i++) {
    int word = 0;
    if (strcmp(argv[i], "--layout") == 0) {
      word = find_word(argv[++i], layouts, 5);
      out->layout = (golden_layout_t)word;
    } else if (strcmp(argv[i], "--exchange") == 0) {
      word = find_word(argv[++i], exchanges, 4);
      out->context.exchange = (sbag_exchange_t)word;
    } else if (strcmp(argv[i], "--chunk") == 0) {
      out->context.chunk_bytes = argv[++i] == NULL ? 0 : strtoll(argv[i], NULL, 10);
      word = out->context.chunk_bytes > 0 ? 0 : -1;
    } else if (strcmp(argv[i], "--reproducible") == 0) {
      out->context.reproducible = 1;
    } else if (strcmp(argv[i], "--oracle") == 0) {
      out->oracle = 1;
    } else if (out->file == NULL && argv[i][0] != '-') {
      out->file = argv[i];
    } else {
      word = -1;
    }
    if (word < 0) return 0;
  }
  return out->file != NULL;
}

static const char *run_case(const golden_run_t *run, arena_t *arena, hid_t file, const char *name) {
  golden_group_t group;
  const char *wrong = golden_group_read(arena, file, name, &group);
  if (wrong != NULL) return wrong;
  if (golden_array(&group, "weight") != NULL && golden_array(&group, "output") != NULL)
    return golden_bag_case(run, arena, &group);
  if (golden_array(&group, "weight0") != NULL && group.group_count > 0)
    return golden_optimizer_case(run, arena, &group);
  return "is neither a bag case nor an optimizer case";
}

/* Returns the number of cases that failed, or -1 if the file cannot be listed. */
static int run_file(golden_run_t *run, hid_t file) {
  arena_t names_arena = {0};
  int count = 0, failed = 0;
  char **names = golden_group_names(&names_arena, file, &count);
  for (run->number = 0; names != NULL && run->number < count; run->number++) {
    arena_t arena = {0};
    const char *wrong = run_case(run, &arena, file, names[run->number]);
    failed += wrong != NULL;
    if (wrong != NULL && run->rank == 0) printf("failed: %s: %s\n", names[run->number], wrong);
    arena_free(&arena);
  }
  if (names != NULL && run->rank == 0) printf("%d passed, %d failed\n", count - failed, failed);
  arena_free(&names_arena);
  return names == NULL ? -1 : failed;
}

/* A file that one rank cannot open is no file for any of them. */
static hid_t open_file(const char *name) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  hid_t file = H5Fopen(name, H5F_ACC_RDONLY, H5P_DEFAULT);
  int ok = file >= 0;
  MPI_Allreduce(MPI_IN_PLACE, &ok, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (!ok && file >= 0) H5Fclose(file);
  return ok ? file : -1;
}

static int run_all(const arguments_t *arguments) {
  golden_run_t run = {.layout = arguments->layout, .oracle = arguments->oracle};
  sbag_status_t status = {0};
  MPI_Comm_rank(MPI_COMM_WORLD, &run.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &run.size);
  hid_t file = open_file(arguments->file);
  if (file < 0) {
    if (run.rank == 0) fprintf(stderr, "golden: %s: is no readable HDF5 file\n", arguments->file);
    return 2;
  }
  int failed = -1;
  if (sbag_context_create_mpi(MPI_COMM_WORLD, &arguments->context, &run.context, &status) == SBAG_OK) {
    failed = run_file(&run, file);
    sbag_context_destroy(&run.context);
    if (failed < 0 && run.rank == 0) fprintf(stderr, "golden: %s: cannot be listed\n", arguments->file);
  } else if (run.rank == 0) {
    fprintf(stderr, "golden: %s\n", status.message);
  }
  H5Fclose(file);
  return failed < 0 ? 2 : failed > 0;
}

int main(int argc, char **argv) {
  int granted, rank, code = 2;
  arguments_t arguments;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &granted);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (read_arguments(argc, argv, &arguments))
    code = run_all(&arguments);
  else if (rank == 0)
    fprintf(stderr, "golden: %s\n", usage);
  fflush(stdout);
  MPI_Finalize();
  return code;
}
