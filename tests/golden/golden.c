/* golden FILE.h5...: runs every case of golden files on however many ranks there are, in every way that the
 * options tell of, and ends with `N passed, N failed`. Exit code 0 if none failed, 1 if any did, 2 for a
 * usage error or an unreadable file. */
#include "golden_case.h"

#include <mpi.h>
#include <shardbag/mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: golden FILE.h5... [--layout block|cyclic|subset|replicated|scramble] [--exchange "
    "auto|pools|rows|dense] [--chunk BYTES] [--reproducible] [--oracle] [--and OPTION...]: --and begins "
    "another way";

enum { FILES_MAX = 8, WAYS_MAX = 32 };

/* A way to run the cases. */
typedef struct way {
  sbag_context_options_t context;
  golden_layout_t layout;
  int oracle;
} way_t;

typedef struct arguments {
  const char *files[FILES_MAX];
  way_t ways[WAYS_MAX];
  int file_count, way_count;
} arguments_t;

static int find_word(const char *word, const char *const *words, int count) {
  for (int i = 0; word != NULL && i < count; i++)
    if (strcmp(word, words[i]) == 0) return i;
  return -1;
}

/* The option at argv[*i] and its value: returns 0 if it is none of a way's. */
static int read_option(char **argv, int *i, way_t *way) {
  static const char *const layouts[] = {"block", "cyclic", "subset", "replicated", "scramble"};
  static const char *const exchanges[] = {"auto", "pools", "rows", "dense"};
  const char *option = argv[*i];
  int word = 0;
  if (strcmp(option, "--layout") == 0) {
    word = find_word(argv[++*i], layouts, 5);
    way->layout = (golden_layout_t)word;
  } else if (strcmp(option, "--exchange") == 0) {
    word = find_word(argv[++*i], exchanges, 4);
    way->context.exchange = (sbag_exchange_t)word;
  } else if (strcmp(option, "--chunk") == 0) {
    const char *bytes = argv[++*i];
    way->context.chunk_bytes = bytes == NULL ? 0 : strtoll(bytes, NULL, 10);
    word = way->context.chunk_bytes > 0 ? 0 : -1;
  } else if (strcmp(option, "--reproducible") == 0) {
    way->context.reproducible = 1;
  } else if (strcmp(option, "--oracle") == 0) {
    way->oracle = 1;
  } else {
    word = -1;
  }
  return word >= 0;
}

/* Returns 0 if an argument is none of ours. */
static int read_arguments(int argc, char **argv, arguments_t *out) {
  *out = (arguments_t){.way_count = 1, .ways = {{.context = sbag_context_options_default()}}};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--and") == 0) {
      if (out->way_count == WAYS_MAX) return 0;
      out->ways[out->way_count++] = (way_t){.context = sbag_context_options_default()};
    } else if (argv[i][0] != '-') {
      if (out->file_count == FILES_MAX) return 0;
      out->files[out->file_count++] = argv[i];
    } else if (!read_option(argv, &i, &out->ways[out->way_count - 1])) {
      return 0;
    }
  }
  return out->file_count > 0;
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

typedef struct tally {
  int passed, failed;
} tally_t;

/* Returns 0 if the file cannot be listed. */
static int run_file(golden_run_t *run, hid_t file, tally_t *tally) {
  arena_t names_arena = {0};
  int count = 0;
  char **names = golden_group_names(&names_arena, file, &count);
  for (run->number = 0; names != NULL && run->number < count; run->number++) {
    arena_t arena = {0};
    const char *wrong = run_case(run, &arena, file, names[run->number]);
    if (wrong != NULL && run->rank == 0) printf("failed: %s: %s\n", names[run->number], wrong);
    tally->failed += wrong != NULL;
    tally->passed += wrong == NULL;
    arena_free(&arena);
  }
  arena_free(&names_arena);
  return names != NULL;
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

/* All cases of a file in one way; 0, or 2 if it cannot be read. */
static int run_way(const way_t *way, const char *name, tally_t *tally) {
  golden_run_t run = {.layout = way->layout, .oracle = way->oracle};
  sbag_status_t status = {0};
  MPI_Comm_rank(MPI_COMM_WORLD, &run.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &run.size);
  hid_t file = open_file(name);
  if (file < 0) {
    if (run.rank == 0) fprintf(stderr, "golden: %s: is no readable HDF5 file\n", name);
    return 2;
  }
  int listed = 0;
  if (sbag_context_create_mpi(MPI_COMM_WORLD, &way->context, &run.context, &status) == SBAG_OK) {
    listed = run_file(&run, file, tally);
    sbag_context_destroy(&run.context);
    if (!listed && run.rank == 0) fprintf(stderr, "golden: %s: cannot be listed\n", name);
  } else if (run.rank == 0) {
    fprintf(stderr, "golden: %s\n", status.message);
  }
  H5Fclose(file);
  return listed ? 0 : 2;
}

static int run_all(const arguments_t *arguments, int rank) {
  tally_t tally = {0};
  for (int w = 0; w < arguments->way_count; w++) {
    for (int f = 0; f < arguments->file_count; f++) {
      int failed = tally.failed, code = run_way(&arguments->ways[w], arguments->files[f], &tally);
      if (code != 0) return code;
      if (tally.failed > failed && rank == 0)
        printf("  in %s, the way of number %d\n", arguments->files[f], w + 1);
    }
  }
  if (rank == 0) printf("%d passed, %d failed\n", tally.passed, tally.failed);
  return tally.failed > 0;
}

int main(int argc, char **argv) {
  int granted, rank, code = 2;
  arguments_t arguments;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &granted);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (read_arguments(argc, argv, &arguments))
    code = run_all(&arguments, rank);
  else if (rank == 0)
    fprintf(stderr, "golden: %s\n", usage);
  fflush(stdout);
  MPI_Finalize();
  return code;
}
