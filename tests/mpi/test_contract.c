/* What the library promises beside right numbers: steps that allocate nothing, memory in proportion to shard
 * and batch, sizes past 2^31, and values that do not depend on the number of ranks. */
#include "mpi_test.h"
#include "property_case.h"

#include "checkpoint/checkpoint.h"
#include "collection/context.h"
#include "collection/load.h"
#include <malloc.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

Suite *contract_suite(void);

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

static const int64_t MIB = 1 << 20;

static sbag_status_t failure;

/* Every call here must succeed. */
static void must(sbag_code_t code) {
  if (code != SBAG_OK) ck_abort_msg("%s error: %s", sbag_code_name(code), failure.message);
}

static sbag_context_h open_mpi(const sbag_context_options_t *options) {
  sbag_context_h context = NULL;
  must(sbag_context_create_mpi(MPI_COMM_WORLD, options, &context, &failure));
  return context;
}

static int world_size(void) {
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

static int world_rank(void) {
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

/* ---- A warm step allocates nothing ---- */

enum { WARM_TABLES = 2, WARM_FEATURES = 3, WARM_SAMPLES = 64, WARM_LENGTH = 5, WARM_COLUMNS = 21 };

typedef struct warm {
  sbag_collection_h collection;
  int64_t indices[WARM_FEATURES][WARM_SAMPLES * WARM_LENGTH], offsets[WARM_SAMPLES];
  float weights[WARM_SAMPLES * WARM_LENGTH], weight_grad[WARM_SAMPLES * WARM_LENGTH];
  float out[WARM_SAMPLES * WARM_COLUMNS], grad[WARM_SAMPLES * WARM_COLUMNS];
} warm_t;

static const int64_t warm_rows[WARM_TABLES] = {1000, 500};
static const int warm_table[WARM_FEATURES] = {0, 1, 0};

static void warm_open(warm_t *it, sbag_context_h context, int replicated) {
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t tables[WARM_TABLES] = {sbag_table_options_default("a", warm_rows[0], 8),
                                              sbag_table_options_default("b", warm_rows[1], 5)};
  sbag_feature_options_t features[WARM_FEATURES];
  static const char *const names[WARM_FEATURES] = {"x", "y", "z"};
  for (int f = 0; f < WARM_FEATURES; f++) {
    features[f] = sbag_feature_options_default(names[f], warm_table[f]);
    features[f].mode = (sbag_mode_t)f;
  }
  features[1].scale_grad_by_freq = 1;
  tables[0].optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  tables[1].optimizer = sbag_optimizer_options_default(SBAG_OPT_EXACT_ROWWISE_ADAGRAD);
  tables[0].has_max_norm = 1;
  tables[0].max_norm = 2;
  tables[1].layout = SBAG_LAYOUT_CYCLIC;
  tables[1].replicated = replicated;
  must(sbag_collection_create(context, &options, tables, WARM_TABLES, features, WARM_FEATURES,
                              &it->collection, &failure));
  ck_assert_int_eq(sbag_collection_output_dim(it->collection), WARM_COLUMNS);
}

/* The first steps are as large as any that follow. */
static void warm_step(warm_t *it, draw_t *draw, int step) {
  int64_t samples = step < 10 ? WARM_SAMPLES : draw_between(draw, WARM_SAMPLES / 2, WARM_SAMPLES);
  int64_t length = step < 10 ? WARM_LENGTH : draw_between(draw, 1, WARM_LENGTH);
  sbag_bags_t bags[WARM_FEATURES];
  sbag_step_h handle = NULL;
  void *weight_grads[WARM_FEATURES] = {it->weight_grad, NULL, NULL};
  for (int64_t i = 0; i < samples * length; i++) it->weights[i] = (float)draw_unit(draw);
  for (int64_t i = 0; i < samples * WARM_COLUMNS; i++) it->grad[i] = (float)draw_unit(draw) - 0.5f;
  for (int64_t s = 0; s < samples; s++) it->offsets[s] = s * length;
  for (int f = 0; f < WARM_FEATURES; f++) {
    for (int64_t i = 0; i < samples * length; i++)
      it->indices[f][i] = draw_below(draw, warm_rows[warm_table[f]]);
    bags[f] = f == 1 ? sbag_bags_2d(it->indices[f], samples, length)
                     : sbag_bags_1d(it->indices[f], samples * length, it->offsets, samples);
  }
  bags[0].per_sample_weights = it->weights;
  bags[0].per_sample_weight_count = samples * length;
  must(sbag_collection_forward_begin(it->collection, bags, SBAG_FORWARD_WEIGHT_GRADS, &handle, &failure));
  must(sbag_step_forward_end(handle, it->out, &failure));
  must(sbag_step_backward(handle, it->grad, weight_grads, &failure));
  must(sbag_step_update(handle, 1, 1, &failure));
  sbag_step_release(&handle);
}

START_TEST(warm_steps_allocate_nothing) {
  sbag_context_options_t options = sbag_context_options_default();
  options.exchange = (sbag_exchange_t)(_i % 3);
  options.reproducible = _i == 3;
  sbag_context_h context = open_mpi(&options);
  warm_t *it = calloc(1, sizeof *it);
  ck_assert_ptr_nonnull(it);
  draw_t draw = draw_start(11, (uint64_t)world_rank());
  int64_t before = 0;
  warm_open(it, context, _i == 1);
  for (int step = 0; step < 110; step++) {
    if (step == 10) before = sbag_context_memory(context).alloc_count;
    warm_step(it, &draw, step);
  }
  ck_assert_int_gt(before, 0);
  ck_assert_int_eq(sbag_context_memory(context).alloc_count, before);
  sbag_collection_destroy(&it->collection);
  sbag_context_destroy(&context);
  free(it);
}
END_TEST

/* ---- Memory ---- */

/* A line of a /proc file, in bytes; -1 if there is none. */
static int64_t proc_bytes(const char *file, const char *key) {
  char line[256];
  long long kib = -1;
  FILE *stream = fopen(file, "r");
  if (stream == NULL) return -1;
  while (kib < 0 && fgets(line, sizeof line, stream) != NULL)
    if (strncmp(line, key, strlen(key)) == 0) sscanf(line + strlen(key), ": %lld", &kib);
  fclose(stream);
  return kib < 0 ? -1 : kib * 1024;
}

/* The kernel's high-water mark of this process begins anew (Linux 4.0). */
static void reset_high_water(void) {
  FILE *stream = fopen("/proc/self/clear_refs", "w");
  if (stream == NULL) return;
  fputs("5", stream);
  fclose(stream);
}

/* One table with one state beside each value, one feature, batches of unlike rows. */
static void check_memory(int64_t rows, int64_t dim, int64_t samples, int64_t length, sbag_mode_t mode) {
  int64_t count = samples * length;
  sbag_context_h context = open_mpi(NULL);
  sbag_collection_h collection = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", rows, dim);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  arena_t arena = {0};
  int64_t *indices = arena_ints(&arena, count);
  float *out = arena_alloc(&arena, samples * dim, sizeof *out);
  draw_t draw = draw_start(13, (uint64_t)world_rank());
  int64_t own = (int64_t)sizeof *indices * count + 4 * samples * dim, moved = 0;
  feature.mode = mode;
  table.init = SBAG_INIT_UNIFORM_DLRM;
  table.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAGRAD);
  reset_high_water();
  must(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &failure));
  for (int step = 0; step < 3; step++) {
    sbag_step_h handle = NULL;
    for (int64_t i = 0; i < count; i++) indices[i] = draw_below(&draw, rows);
    sbag_bags_t bags = sbag_bags_2d(indices, samples, length);
    must(sbag_collection_forward_begin(collection, &bags, 0, &handle, &failure));
    must(sbag_step_forward_end(handle, out, &failure));
    must(sbag_step_backward(handle, out, NULL, &failure));
    must(sbag_step_update(handle, 1, 1, &failure));
    sbag_step_stats_t stats = sbag_step_stats(handle);
    moved = stats.bytes_sent + stats.bytes_received;
    sbag_step_release(&handle);
  }
  /* The batch: ids, pooled vectors and their gradients. What is moved counts as it is in memory, where an id
   * has 8 bytes: keys and edges, asked for and answered. A lone rank moves to itself what it would send to
   * others. */
  int64_t distinct = rows < count ? rows : count;
  if (world_size() == 1) moved = distinct * 2 * dim * (int64_t)sizeof(float);
  moved += 8 * (distinct + count);
  int64_t size = world_size(), shard = 2 * ((rows + size - 1) / size) * dim * (int64_t)sizeof(float);
  int64_t batch = count * 8 + 2 * samples * dim * 4, limit = shard + 6 * (batch + moved);
  int64_t peak = sbag_context_memory(context).peak_bytes;
  ck_assert_msg(peak >= shard / 2 && peak <= limit + 110 * MIB, "%lld bytes at most, the limit is %lld",
                (long long)peak, (long long)(limit + 110 * MIB)); /* MPI has the rest of the 150 MiB */
  int64_t high = proc_bytes("/proc/self/status", "VmHWM");
  if (high > 0 && !SANITIZED)
    ck_assert_msg(high <= limit + own + 150 * MIB, "%lld bytes resident at most, the limit is %lld",
                  (long long)high, (long long)(limit + own + 150 * MIB));
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
  arena_free(&arena);
}

START_TEST(memory_follows_shard_and_batch) {
  if (_i == 0)
    check_memory(50000, 64, 256, 10, SBAG_MEAN);
  else
    check_memory(500000, 64, 256, 10, SBAG_MEAN);
}
END_TEST

/* Where ids are all that there is: vectors of one value, long bags, rows seldom twice. */
START_TEST(memory_follows_ids) {
  if (world_size() > 2) return; /* the ranks of one machine would need much together */
  if (_i == 0)
    check_memory(100000, 1, 40000, 100, SBAG_SUM);
  else
    check_memory(20000000, 1, 40000, 100, _i == 1 ? SBAG_SUM : SBAG_MAX);
}
END_TEST

/* ---- Memory while a checkpoint is loaded: the shard with its state, and 64 MiB ---- */

enum { LOAD_ROWS = 600000, LOAD_DIM = 64, LOAD_ARRAYS = 2 };
static const char *const load_names[LOAD_ARRAYS] = {"tables/table/weight", "tables/table/state/sum"};

typedef struct load_plan {
  const char *what;
  sbag_layout_t layout;
  int alone, replicated; /* alone: rank 0 owns it all */
  int64_t chunk_bytes;   /* 0: as always */
} load_plan_t;

static float load_value(int array, int64_t row, int64_t column) {
  return (float)((row * 7 + column + array) % 1021);
}

static sbag_code_t load_fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  (void)status;
  for (int64_t i = 0; i < rows * LOAD_DIM; i++)
    ((float *)out)[i] = load_value(*(const int *)user, first + i / LOAD_DIM, i % LOAD_DIM);
  return SBAG_OK;
}

/* A folder of this job's own, and a file in it that is still to be made. */
static void make_folder(char folder[256], char path[300]) {
  const char *scratch = getenv("TMPDIR");
  snprintf(folder, 256, "%s/shardbag-contract-XXXXXX", scratch != NULL ? scratch : "/tmp");
  if (world_rank() == 0) ck_assert_ptr_nonnull(mkdtemp(folder));
  MPI_Bcast(folder, 256, MPI_CHAR, 0, MPI_COMM_WORLD);
  snprintf(path, 300, "%s/file.h5", folder);
}

/* An empty path: no file was made. */
static void remove_folder(const char *folder, const char *path) {
  MPI_Barrier(MPI_COMM_WORLD);
  if (world_rank() == 0) ck_assert((path[0] == '\0' || unlink(path) == 0) && rmdir(folder) == 0);
}

/* 307 MB. */
static void load_write(const char *path) {
  sbag_context_h context = open_mpi(NULL);
  checkpoint_writer_t *writer = NULL;
  const int64_t shape[2] = {LOAD_ROWS, LOAD_DIM};
  int numbers[LOAD_ARRAYS] = {0, 1};
  must(checkpoint_writer_create(context_comm(context), context_mem(context), path, &writer, &failure));
  for (int i = 0; i < LOAD_ARRAYS; i++)
    must(checkpoint_add_array(writer, load_names[i], CHECKPOINT_F32, 2, shape, load_fill, &numbers[i],
                              &failure));
  must(checkpoint_commit(&writer, &failure));
  sbag_context_destroy(&context);
}

static sbag_collection_h load_create(sbag_context_h context, const load_plan_t *plan) {
  static const int first[] = {0};
  sbag_collection_h collection = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", LOAD_ROWS, LOAD_DIM);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  table.init = SBAG_INIT_CONSTANT;
  table.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAGRAD);
  table.layout = plan->layout;
  table.replicated = plan->replicated;
  table.ranks = plan->alone ? first : NULL;
  table.rank_count = plan->alone;
  must(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &failure));
  return collection;
}

/* Some rows of everybody's, of both arrays. */
static void load_check(sbag_collection_h collection) {
  enum { ROWS = 50 };
  static float values[ROWS * LOAD_DIM];
  int64_t rows[ROWS];
  for (int i = 0; i < ROWS; i++) rows[i] = (LOAD_ROWS - 1) / (ROWS - 1) * i;
  for (int array = 0; array < LOAD_ARRAYS; array++) {
    must(array == 0 ? sbag_collection_read_rows(collection, 0, rows, ROWS, values, &failure)
                    : sbag_collection_read_state(collection, 0, 0, rows, ROWS, values, &failure));
    for (int i = 0; i < ROWS * LOAD_DIM; i++)
      ck_assert(values[i] == load_value(array, rows[i / LOAD_DIM], i % LOAD_DIM));
  }
}

/* Bytes that this rank holds of the table when it is loaded. */
static int64_t load_own(const load_plan_t *plan) {
  int64_t row_bytes = LOAD_DIM * (int64_t)sizeof(float), shards = plan->alone ? 1 : world_size();
  int64_t rows = plan->alone && world_rank() > 0 ? 0 : (LOAD_ROWS + shards - 1) / shards;
  return LOAD_ARRAYS * rows * row_bytes + (plan->replicated ? LOAD_ROWS * row_bytes : 0);
}

/* *counted: the most that the library had allocated beyond the rank's own; *resident: that the process had.
 */
static void load_under(const load_plan_t *plan, const char *path, int64_t *counted, int64_t *resident) {
  malloc_trim(0);
  reset_high_water();
  int64_t before = proc_bytes("/proc/self/status", "VmRSS");
  sbag_context_h context = open_mpi(NULL);
  sbag_collection_h collection = load_create(context, plan);
  checkpoint_reader_t *reader = NULL;
  const collection_load_t loads[LOAD_ARRAYS] = {{0, -1, load_names[0]}, {0, 0, load_names[1]}};
  must(checkpoint_open(context_comm(context), context_mem(context), path, &reader, &failure));
  checkpoint_reader_set_chunk(reader, plan->chunk_bytes);
  must(collection_load(collection, reader, loads, LOAD_ARRAYS, &failure));
  checkpoint_close(&reader);
  *resident = proc_bytes("/proc/self/status", "VmHWM") - before - load_own(plan);
  *counted = sbag_context_memory(context).peak_bytes - load_own(plan);
  load_check(collection);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
}

/* The last plan reads 256 MiB at a time, so that the others' numbers are seen to be able to be too large. */
START_TEST(loading_holds_the_shard_and_64_mib) {
  static const load_plan_t plans[] = {{"block", SBAG_LAYOUT_BLOCK, 0, 0, 0},
                                      {"cyclic", SBAG_LAYOUT_CYCLIC, 0, 0, 0},
                                      {"scramble", SBAG_LAYOUT_SCRAMBLE, 0, 0, 0},
                                      {"rank 0 alone", SBAG_LAYOUT_BLOCK, 1, 0, 0},
                                      {"replicated", SBAG_LAYOUT_BLOCK, 0, 1, 0},
                                      {"large chunks", SBAG_LAYOUT_SCRAMBLE, 1, 0, (int64_t)256 << 20}};
  enum { PLANS = sizeof plans / sizeof plans[0] };
  char folder[256], path[300];
  make_folder(folder, path);
  load_write(path);
  for (int i = 0; i < PLANS; i++) {
    int64_t most[2] = {0};
    load_under(&plans[i], path, &most[0], &most[1]);
    MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (plans[i].chunk_bytes == 0)
      ck_assert_msg(most[0] <= 64 * MIB && most[1] <= 64 * MIB,
                    "%s: %lld bytes allocated and %lld resident beyond the shard", plans[i].what,
                    (long long)most[0], (long long)most[1]);
    else
      ck_assert_msg(most[0] > 64 * MIB && most[1] > 64 * MIB, "%s: %lld and %lld bytes", plans[i].what,
                    (long long)most[0], (long long)most[1]);
  }
  remove_folder(folder, path);
}
END_TEST

/* The context keeps what the first collections made it grow; more collections add nothing to that. */
START_TEST(a_destroyed_collection_leaves_nothing) {
  sbag_context_h context = open_mpi(NULL);
  warm_t *it = calloc(1, sizeof *it);
  ck_assert_ptr_nonnull(it);
  int64_t before = 0;
  for (int round = 0; round < 5; round++) {
    draw_t draw = draw_start(17, (uint64_t)world_rank());
    warm_open(it, context, round % 2);
    warm_step(it, &draw, 0);
    sbag_collection_destroy(&it->collection);
    if (round == 1) before = sbag_context_memory(context).live_bytes;
  }
  ck_assert_int_eq(sbag_context_memory(context).live_bytes, before);
  sbag_context_destroy(&context);
  free(it);
}
END_TEST

/* ---- Sizes past 2^31 ---- */

/* Two ranks, and memory for it on the whole machine; SHARDBAG_BIG=0 and 1 decide otherwise. */
static int is_big_enough(const char *what, int64_t bytes) {
  const char *wish = getenv("SHARDBAG_BIG");
  int64_t available = proc_bytes("/proc/meminfo", "MemAvailable");
  int yes = world_size() == 2 && !SANITIZED && (wish != NULL ? strcmp(wish, "1") == 0 : available >= bytes);
  MPI_Allreduce(MPI_IN_PLACE, &yes, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (yes || world_rank() > 0 || world_size() != 2) return yes;
  if (wish != NULL || SANITIZED)
    fprintf(stderr, "skipped: %s: SHARDBAG_BIG is 0, or a sanitizer watches\n", what);
  else
    fprintf(stderr, "skipped: %s needs %lld GiB of memory, of which %lld are available\n", what,
            (long long)(bytes >> 30), (long long)(available >> 30));
  return yes;
}

START_TEST(a_table_of_more_than_2_31_rows) {
  static const int64_t rows = ((int64_t)1 << 31) + 1000;
  if (!is_big_enough("a table of 2^31 + 1000 rows", (int64_t)11 << 30)) return;
  sbag_context_h context = open_mpi(NULL);
  sbag_collection_h collection = NULL;
  sbag_step_h step = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", rows, 1);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  table.init = SBAG_INIT_CONSTANT;
  table.init_a = 0.5;
  table.optimizer.lr = 0.25;
  feature.mode = SBAG_SUM;
  int64_t indices[6] = {rows - 1, rows - 2, ((int64_t)1 << 31) + world_rank(), ((int64_t)1 << 31) - 1,
                        0,        rows - 1};
  int64_t asked[4] = {rows - 1, rows - 2, rows - 3, 0}, place;
  float out[3], grad[3] = {1, 2, 4}, values[4];
  int owner;
  sbag_bags_t bags = sbag_bags_2d(indices, 3, 2);
  must(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &failure));
  must(sbag_collection_locate(collection, 0, rows - 1, &owner, &place, &failure));
  ck_assert(owner == 1 && place == rows / 2 - 1);
  must(sbag_collection_forward_begin(collection, &bags, 0, &step, &failure));
  must(sbag_step_forward_end(step, out, &failure));
  for (int i = 0; i < 3; i++) ck_assert(out[i] == 1);
  must(sbag_step_backward(step, grad, NULL, &failure));
  must(sbag_step_update(step, 1, 1, &failure));
  sbag_step_release(&step);
  must(sbag_collection_read_rows(collection, 0, asked, 4, values, &failure));
  /* Both ranks bring the same bags: the last row has 1 and 4 twice, the one before 1 twice, the first 4
   * twice. */
  ck_assert(values[0] == 0.5f - 0.25f * 10 && values[1] == 0.5f - 0.25f * 2 && values[2] == 0.5f);
  ck_assert(values[3] == 0.5f - 0.25f * 8);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
}
END_TEST

/* One bag of rank 1 holds all rows, which rank 0 owns: they travel as rows, 2.2 GiB of them. */
START_TEST(an_exchange_of_more_than_2_31_bytes) {
  enum { ROWS = 144000, DIM = 4096 };
  if (!is_big_enough("an exchange of 2.2 GiB", (int64_t)9 << 30)) return;
  static const int owners[] = {0};
  sbag_context_options_t context_options = sbag_context_options_default();
  context_options.exchange = SBAG_EXCHANGE_ROWS;
  sbag_context_h context = open_mpi(&context_options);
  sbag_collection_h collection = NULL;
  sbag_step_h step = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", ROWS, DIM);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  arena_t arena = {0};
  int64_t *indices = arena_ints(&arena, ROWS), last = ROWS - 1, count = world_rank() == 1 ? ROWS : 0,
          offset = 0;
  float *row = arena_alloc(&arena, DIM, sizeof *row), *out = arena_alloc(&arena, DIM, sizeof *out);
  options.weight_grad = 0;
  table.init = SBAG_INIT_CONSTANT;
  table.init_a = 1.0 / 1024;
  table.ranks = owners;
  table.rank_count = 1;
  feature.mode = SBAG_SUM;
  for (int64_t i = 0; i < ROWS; i++) indices[i] = i;
  for (int64_t d = 0; d < DIM; d++) row[d] = (float)d;
  must(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &failure));
  must(sbag_collection_write_rows(collection, 0, &last, world_rank() == 0, row, &failure));
  sbag_bags_t bags = sbag_bags_1d(indices, count, &offset, count > 0);
  must(sbag_collection_forward_begin(collection, &bags, SBAG_FORWARD_NO_BACKWARD, &step, &failure));
  must(sbag_step_forward_end(step, out, &failure));
  ck_assert_int_gt(sbag_step_stats(step).bytes_sent + sbag_step_stats(step).bytes_received, (int64_t)1 << 31);
  for (int64_t d = 0; count > 0 && d < DIM; d++)
    ck_assert_float_eq_tol(out[d], (float)(ROWS - 1) / 1024 + (float)d, 0.01f);
  sbag_step_release(&step);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
  arena_free(&arena);
}
END_TEST

/* 4.7 GB in one array of more than 2^32 elements, and a small one behind it. Each rank writes 2.3 GB in one
 * call; rank 0 reads all in one, of more than 4 GiB. */
enum { HUGE_ROWS = 1150000, HUGE_COLUMNS = 4096 };

/* The row's number in its first bytes, and a byte that follows from it in the others. */
static void huge_row(int64_t row, unsigned char *out) {
  memset(out, (int)(row % 251), HUGE_COLUMNS);
  memcpy(out, &row, sizeof row);
}

static sbag_code_t huge_fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  (void)user;
  (void)status;
  for (int64_t i = 0; i < rows; i++) huge_row(first + i, (unsigned char *)out + i * HUGE_COLUMNS);
  return SBAG_OK;
}

static void huge_write(sbag_context_h context, const char *path) {
  static const int64_t shape[2] = {HUGE_ROWS, HUGE_COLUMNS};
  checkpoint_writer_t *writer = NULL;
  must(checkpoint_writer_create(context_comm(context), context_mem(context), path, &writer, &failure));
  checkpoint_writer_set_chunk(writer, (int64_t)5 << 30);
  must(checkpoint_add_array(writer, "a", CHECKPOINT_U8, 2, shape, huge_fill, NULL, &failure));
  must(checkpoint_add_blob(writer, "behind", "it", 2, &failure));
  must(checkpoint_commit(&writer, &failure));
}

static void huge_read(sbag_context_h context, const char *path) {
  checkpoint_reader_t *reader = NULL;
  unsigned char row[HUGE_COLUMNS];
  void *blob = NULL;
  int64_t bytes = 0;
  must(checkpoint_open(context_comm(context), context_mem(context), path, &reader, &failure));
  must(checkpoint_read_blob(reader, "behind", &blob, &bytes, &failure));
  ck_assert(bytes == 2 && memcmp(blob, "it", 2) == 0);
  mem_free(context_mem(context), blob);
  if (world_rank() == 0) {
    unsigned char *all = malloc((size_t)HUGE_ROWS * HUGE_COLUMNS);
    ck_assert_ptr_nonnull(all);
    must(checkpoint_read_rows(reader, "a", 0, HUGE_ROWS, all, &failure));
    for (int64_t i = 0; i < HUGE_ROWS; i++) {
      huge_row(i, row);
      ck_assert(memcmp(all + i * HUGE_COLUMNS, row, sizeof row) == 0);
    }
    free(all);
  }
  checkpoint_close(&reader);
}

/* Whether the folder's disk takes so many bytes. */
static int has_room(const char *folder, int64_t bytes) {
  struct statvfs about;
  int yes = statvfs(folder, &about) == 0 && (double)about.f_bavail * (double)about.f_frsize > (double)bytes;
  MPI_Allreduce(MPI_IN_PLACE, &yes, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (!yes && world_rank() == 0)
    fprintf(stderr, "skipped: a checkpoint of 4.7 GB: there is no room for it in %s\n", folder);
  return yes;
}

START_TEST(a_checkpoint_of_more_than_4_gib) {
  if (!is_big_enough("a checkpoint of 4.7 GB", (int64_t)12 << 30)) return;
  char folder[256], path[300];
  make_folder(folder, path);
  if (has_room(folder, (int64_t)6 << 30)) {
    sbag_context_h context = open_mpi(NULL);
    huge_write(context, path);
    huge_read(context, path);
    sbag_context_destroy(&context);
  } else {
    path[0] = '\0';
  }
  remove_folder(folder, path);
}
END_TEST

/* ---- Any number of ranks ---- */

/* The same table on all ranks and on one: its values, bit for bit. */
static void check_initial(sbag_context_h all, sbag_context_h one, const sbag_table_options_t *table,
                          sbag_dtype_t dtype) {
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  sbag_collection_h collections[2] = {NULL, NULL};
  arena_t arena = {0};
  int64_t count = table->num_embeddings * table->embedding_dim,
          *rows = arena_ints(&arena, table->num_embeddings);
  double *values[2];
  size_t bytes = (size_t)count * (dtype == SBAG_F64 ? 8 : 4);
  options.dtype = dtype;
  feature.has_padding_idx = 1;
  feature.padding_idx = 3;
  for (int64_t r = 0; r < table->num_embeddings; r++) rows[r] = r;
  for (int i = 0; i < 2; i++) {
    values[i] = arena_doubles(&arena, count);
    must(sbag_collection_create(i == 0 ? all : one, &options, table, 1, &feature, 1, &collections[i],
                                &failure));
    must(sbag_collection_read_rows(collections[i], 0, rows, table->num_embeddings, values[i], &failure));
    sbag_collection_destroy(&collections[i]);
  }
  ck_assert_msg(memcmp(values[0], values[1], bytes) == 0, "init %d, layout %d, dtype %d: not the same values",
                (int)table->init, (int)table->layout, (int)dtype);
  /* A table that is all zero would pass. */
  batch_untyped(values[1], count, dtype, values[0]);
  ck_assert(values[0][0] != 0 && values[0][3 * table->embedding_dim] == 0);
  arena_free(&arena);
}

START_TEST(initial_values_do_not_depend_on_ranks) {
  sbag_context_h all = open_mpi(NULL), one = NULL;
  must(sbag_context_create(NULL, &one, &failure));
  ck_assert_int_eq(sbag_context_size(one), 1);
  for (int init = 0; init < 4; init++)
    for (int layout = 0; layout < 3; layout++)
      for (int dtype = 0; dtype < 2; dtype++) {
        sbag_table_options_t table = sbag_table_options_default("table", 101, 7);
        table.init = (sbag_init_t)init;
        table.init_a = init == SBAG_INIT_UNIFORM ? -2 : 0.25;
        table.seed = 42;
        table.layout = (sbag_layout_t)layout;
        check_initial(all, one, &table, (sbag_dtype_t)dtype);
      }
  sbag_context_destroy(&one);
  sbag_context_destroy(&all);
}
END_TEST

/* All features' gradients side by side, for the whole batch. */
static double *whole_gradient(property_case_t *it, const property_batch_t *batch,
                              sbag_collection_h collection) {
  int64_t columns = sbag_collection_output_dim(collection);
  double *grad = arena_doubles(&it->arena, batch->samples * columns);
  for (int f = 0; f < it->feature_count; f++) {
    int64_t dim = it->weights[it->features[f].table].dim,
            column = sbag_collection_output_offset(collection, f);
    for (int64_t s = 0; s < batch->samples; s++)
      memcpy(grad + s * columns + column, batch->grads[f] + s * dim, (size_t)dim * sizeof(double));
  }
  return grad;
}

/* One step with the samples from `begin`; out: [samples][columns] of the dtype. */
static void train(property_case_t *it, sbag_collection_h collection, const sbag_bags_t *bags,
                  const double *grad, int64_t samples, void *out) {
  int64_t columns = sbag_collection_output_dim(collection);
  sbag_step_h step = NULL;
  must(sbag_collection_forward_begin(collection, bags, 0, &step, &failure));
  must(sbag_step_forward_end(step, out, &failure));
  must(sbag_step_backward(step, batch_typed(&it->arena, grad, samples * columns, it->options.dtype), NULL,
                          &failure));
  must(sbag_step_update(step, 0.7, 0.9, &failure));
  sbag_step_release(&step);
}

static void compare_tables(property_case_t *it, const sbag_collection_h *collections) {
  size_t width_bytes = it->options.dtype == SBAG_F64 ? 8 : 4;
  for (int t = 0; t < it->table_count; t++)
    for (int s = -1; s < (it->tables[t].freeze ? 0 : sbag_collection_state_count(collections[0], t)); s++) {
      int64_t rows = it->weights[t].rows, *row = arena_ints(&it->arena, rows);
      int64_t width = s < 0 ? it->weights[t].dim : sbag_collection_state_width(collections[0], t, s);
      double *values[2];
      for (int64_t r = 0; r < rows; r++) row[r] = r;
      for (int i = 0; i < 2; i++) {
        values[i] = arena_doubles(&it->arena, rows * width);
        must(s < 0 ? sbag_collection_read_rows(collections[i], t, row, rows, values[i], &failure)
                   : sbag_collection_read_state(collections[i], t, s, row, rows, values[i], &failure));
      }
      ck_assert_msg(memcmp(values[0], values[1], (size_t)(rows * width) * width_bytes) == 0,
                    "seed %llu case %llu: table %d, state %d: not the same bits",
                    (unsigned long long)it->seed, (unsigned long long)it->number, t, s);
    }
}

/* A case of the property test on all ranks and on one. */
static void check_same_bits(sbag_context_h all, sbag_context_h one, uint64_t number) {
  property_case_t it;
  sbag_table_options_t alone[TABLES_MAX];
  sbag_collection_h collections[2] = {NULL, NULL};
  property_case_draw(&it, 31, number, world_rank(), world_size());
  if (it.special) { /* NaNs have many bits */
    arena_free(&it.arena);
    return;
  }
  it.options.weight_grad = 1;
  it.options.bounds_check = SBAG_BOUNDS_IGNORE;
  for (int t = 0; t < it.table_count; t++) {
    /* A case without gradients may have drawn what an updated table cannot be. */
    if (!it.tables[t].freeze && optimizer_info(&it.tables[t].optimizer).moves_untouched)
      it.tables[t].storage = SBAG_STORAGE_FULL;
    alone[t] = it.tables[t];
    alone[t].ranks = NULL;
    alone[t].rank_count = 0;
  }
  must(sbag_collection_create(all, &it.options, it.tables, it.table_count, it.features, it.feature_count,
                              &collections[0], &failure));
  must(sbag_collection_create(one, &it.options, alone, it.table_count, it.features, it.feature_count,
                              &collections[1], &failure));
  int64_t columns = sbag_collection_output_dim(collections[0]);
  size_t bytes = it.options.dtype == SBAG_F64 ? 8 : 4;
  for (int s = 0; s < 4; s++) {
    property_batch_t batch;
    sbag_bags_t whole[FEATURES_MAX];
    batch_form_t form = {.dtype = it.options.dtype, .include_last_offset = 1};
    property_batch_draw(&it, &batch);
    int64_t begin = batch.first[it.rank], samples = batch.first[it.rank + 1] - begin;
    for (int f = 0; f < it.feature_count; f++)
      whole[f] = batch_slice(&it.arena, &batch.bags[f], 0, batch.samples, &form);
    double *grad = whole_gradient(&it, &batch, collections[0]);
    char *mine = (char *)arena_doubles(&it.arena, samples * columns);
    char *out = (char *)arena_doubles(&it.arena, batch.samples * columns);
    train(&it, collections[0], batch.mine, grad + begin * columns, samples, mine);
    train(&it, collections[1], whole, grad, batch.samples, out);
    ck_assert_msg(
        memcmp(mine, out + (size_t)(begin * columns) * bytes, (size_t)(samples * columns) * bytes) == 0,
        "seed 31 case %llu: output: not the same bits", (unsigned long long)number);
  }
  compare_tables(&it, collections);
  sbag_collection_destroy(&collections[0]);
  sbag_collection_destroy(&collections[1]);
  arena_free(&it.arena);
}

/* Reproducible mode; messages of 1 KiB on small data. */
START_TEST(reproducible_mode_gives_the_bits_of_one_rank) {
  sbag_context_options_t options = sbag_context_options_default();
  sbag_context_h one = NULL;
  options.reproducible = 1;
  options.chunk_bytes = _i == 0 ? 0 : 1024;
  sbag_context_h all = open_mpi(&options);
  must(sbag_context_create(&options, &one, &failure));
  for (uint64_t number = 0; number < 30; number++) check_same_bits(all, one, number + (uint64_t)_i * 30);
  sbag_context_destroy(&one);
  sbag_context_destroy(&all);
}
END_TEST

Suite *contract_suite(void) {
  Suite *suite = suite_create("contract");
  TCase *test_case = tcase_create("contract");
  tcase_add_loop_test(test_case, warm_steps_allocate_nothing, 0, 4);
  tcase_add_loop_test(test_case, memory_follows_shard_and_batch, 0, 2);
  if (!SANITIZED) tcase_add_loop_test(test_case, memory_follows_ids, 0, 3);
  if (!SANITIZED) tcase_add_test(test_case, loading_holds_the_shard_and_64_mib);
  tcase_add_test(test_case, a_destroyed_collection_leaves_nothing);
  tcase_add_test(test_case, initial_values_do_not_depend_on_ranks);
  tcase_add_loop_test(test_case, reproducible_mode_gives_the_bits_of_one_rank, 0, 2);
  tcase_add_test(test_case, a_table_of_more_than_2_31_rows);
  tcase_add_test(test_case, an_exchange_of_more_than_2_31_bytes);
  tcase_add_test(test_case, a_checkpoint_of_more_than_4_gib);
  suite_add_tcase(suite, test_case);
  return suite;
}
