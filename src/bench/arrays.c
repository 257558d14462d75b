/* A table with values that follow from their place: see arrays.h. */
#include "bench/arrays.h"

#include "checkpoint/checkpoint.h"
#include "collection/context.h"
#include "collection/load.h"
#include <stdio.h>
#include <string.h>

static const int64_t block_bytes = (int64_t)4 << 20;

static void name_of(const bench_array_t *array, char name[128]) {
  if (array->state < 0)
    snprintf(name, 128, "tables/bench/weight");
  else
    snprintf(name, 128, "tables/bench/state/%s",
             sbag_collection_state_name(array->collection, 0, array->state));
}

sbag_code_t bench_arrays_create(sbag_context_h context, const bench_settings_t *settings,
                                bench_arrays_t *arrays, sbag_status_t *status) {
  sbag_table_options_t table = sbag_table_options_default("bench", settings->rows, settings->dim);
  table.init = SBAG_INIT_CONSTANT;
  table.layout = (sbag_layout_t)settings->layout;
  table.optimizer = sbag_optimizer_options_default(settings->kind);
  sbag_feature_options_t feature = sbag_feature_options_default("bench", 0);
  sbag_collection_options_t options = sbag_collection_options_default();
  bench_arrays_t made = {.context = context};
  SBAG_TRY(sbag_collection_create(context, &options, &table, 1, &feature, 1, &made.collection, status));
  int states = sbag_collection_state_count(made.collection, 0);
  for (int state = -1; state < states && state < BENCH_STATES_MAX; state++) {
    bench_array_t *array = &made.arrays[made.count++];
    *array = (bench_array_t){.collection = made.collection, .state = state, .rows = settings->rows};
    array->width = state < 0 ? settings->dim : sbag_collection_state_width(made.collection, 0, state);
  }
  *arrays = made;
  return SBAG_OK;
}

void bench_arrays_destroy(bench_arrays_t *arrays) {
  sbag_collection_destroy(&arrays->collection);
  arrays->count = 0;
}

/* ---- values ---- */

/* Whole numbers below 2^24, which float32 has exactly; not negative, as an optimizer's squares are. */
static void values_of_place(const bench_array_t *array, int64_t first_row, int64_t rows, float *out) {
  uint32_t first = (uint32_t)(first_row * array->width) + 977u * (uint32_t)(array->state + 1);
  for (int64_t i = 0; i < rows * array->width; i++)
    out[i] = (float)(((first + (uint32_t)i) * UINT32_C(2654435761)) >> 8);
}

/* A walk over an array in blocks of rows, as many on every rank. */
typedef struct walk {
  int64_t first, end, block_rows, blocks;
  float *values, *wanted; /* [block_rows][width] each */
} walk_t;

static sbag_code_t walk_begin(const bench_arrays_t *a, const bench_array_t *array, walk_t *walk,
                              sbag_status_t *status) {
  comm_t *comm = context_comm(a->context);
  int64_t row_bytes = array->width * (int64_t)sizeof(float);
  int64_t share = (array->rows + comm_size(comm) - 1) / comm_size(comm);
  int64_t first = share * comm_rank(comm), end = first + share;
  *walk = (walk_t){.first = first < array->rows ? first : array->rows,
                   .end = end < array->rows ? end : array->rows,
                   .block_rows = block_bytes > row_bytes ? block_bytes / row_bytes : 1};
  walk->blocks = (share + walk->block_rows - 1) / walk->block_rows;
  void *block = NULL;
  sbag_code_t code =
      mem_alloc(context_mem(a->context), mem_array_bytes(2 * walk->block_rows, (size_t)row_bytes),
                "bench: rows", &block, status);
  walk->values = block;
  if (code == SBAG_OK) walk->wanted = walk->values + walk->block_rows * array->width;
  code = comm_agree(comm, code, status);
  if (code != SBAG_OK) mem_free(context_mem(a->context), block);
  return code;
}

static void walk_block(const walk_t *walk, int64_t block, int64_t *first, int64_t *rows) {
  *first = walk->first + block * walk->block_rows;
  if (*first > walk->end) *first = walk->end;
  *rows = walk->end - *first < walk->block_rows ? walk->end - *first : walk->block_rows;
}

static sbag_code_t fill_array(const bench_array_t *array, walk_t *walk, int with_zeros,
                              sbag_status_t *status) {
  if (with_zeros) memset(walk->values, 0, (size_t)(walk->block_rows * array->width) * sizeof(float));
  for (int64_t block = 0; block < walk->blocks; block++) {
    int64_t first = 0, rows = 0;
    walk_block(walk, block, &first, &rows);
    if (!with_zeros) values_of_place(array, first, rows, walk->values);
    SBAG_TRY(
        sbag_collection_write_range(array->collection, 0, array->state, first, rows, walk->values, status));
  }
  return SBAG_OK;
}

sbag_code_t bench_arrays_fill(bench_arrays_t *arrays, int with_zeros, sbag_status_t *status) {
  for (int i = 0; i < arrays->count; i++) {
    walk_t walk;
    SBAG_TRY(walk_begin(arrays, &arrays->arrays[i], &walk, status));
    sbag_code_t code = fill_array(&arrays->arrays[i], &walk, with_zeros, status);
    mem_free(context_mem(arrays->context), walk.values);
    SBAG_TRY(code);
  }
  return SBAG_OK;
}

static sbag_code_t count_wrong(const bench_array_t *array, walk_t *walk, int64_t *wrong,
                               sbag_status_t *status) {
  size_t row_bytes = (size_t)array->width * sizeof(float);
  for (int64_t block = 0; block < walk->blocks; block++) {
    int64_t first = 0, rows = 0;
    walk_block(walk, block, &first, &rows);
    SBAG_TRY(
        sbag_collection_read_range(array->collection, 0, array->state, first, rows, walk->values, status));
    values_of_place(array, first, rows, walk->wanted);
    for (int64_t row = 0; row < rows; row++)
      *wrong += memcmp(walk->values + row * array->width, walk->wanted + row * array->width, row_bytes) != 0;
  }
  return SBAG_OK;
}

sbag_code_t bench_arrays_wrong(bench_arrays_t *arrays, int64_t *wrong, sbag_status_t *status) {
  int64_t found = 0;
  for (int i = 0; i < arrays->count; i++) {
    walk_t walk;
    SBAG_TRY(walk_begin(arrays, &arrays->arrays[i], &walk, status));
    sbag_code_t code = count_wrong(&arrays->arrays[i], &walk, &found, status);
    mem_free(context_mem(arrays->context), walk.values);
    SBAG_TRY(code);
  }
  SBAG_TRY(comm_allreduce(context_comm(arrays->context), &found, 1, COMM_I64, COMM_SUM, "bench: wrong rows",
                          status));
  *wrong = found;
  return SBAG_OK;
}

/* ---- the checkpoint ---- */

static sbag_code_t fill_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const bench_array_t *array = user;
  return sbag_collection_read_range(array->collection, 0, array->state, first_row, rows, out, status);
}

static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *status) {
  const bench_array_t *array = user;
  return collection_own_rows(array->collection, 0, array->state, own, status);
}

static sbag_code_t declare(bench_arrays_t *arrays, checkpoint_writer_t *writer, sbag_status_t *status) {
  for (int i = 0; i < arrays->count; i++) {
    bench_array_t *array = &arrays->arrays[i];
    int64_t shape[2] = {array->rows, array->width};
    char name[128];
    name_of(array, name);
    SBAG_TRY(
        checkpoint_add_own_array(writer, name, CHECKPOINT_F32, 2, shape, fill_rows, own_rows, array, status));
  }
  return SBAG_OK;
}

sbag_code_t bench_arrays_save(bench_arrays_t *arrays, const char *path, sbag_status_t *status) {
  comm_t *comm = context_comm(arrays->context);
  checkpoint_writer_t *writer = NULL;
  sbag_code_t code = checkpoint_writer_create(comm, context_mem(arrays->context), path, &writer, status);
  if (code == SBAG_OK) code = declare(arrays, writer, status);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) code = checkpoint_commit(&writer, status);
  checkpoint_abort(&writer);
  return code;
}

sbag_code_t bench_arrays_load(bench_arrays_t *arrays, const char *path, sbag_status_t *status) {
  checkpoint_reader_t *reader = NULL;
  collection_load_t loads[BENCH_STATES_MAX + 1];
  char names[BENCH_STATES_MAX + 1][128];
  for (int i = 0; i < arrays->count; i++) {
    name_of(&arrays->arrays[i], names[i]);
    loads[i] = (collection_load_t){0, arrays->arrays[i].state, names[i]};
  }
  SBAG_TRY(
      checkpoint_open(context_comm(arrays->context), context_mem(arrays->context), path, &reader, status));
  sbag_code_t code = collection_load(arrays->collection, reader, loads, arrays->count, status);
  checkpoint_close(&reader);
  return code;
}
