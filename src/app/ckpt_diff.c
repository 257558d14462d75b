/* shardbag ckpt diff A B: which arrays and rows of two checkpoints differ, and by how much. */
#include "app/ckpt.h"
#include "kernel/narrow.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* One array's comparison, on this rank. */
typedef struct comparison {
  checkpoint_reader_t *other;
  const char *name;
  checkpoint_array_t array;
  void *rows; /* of the other file */
  size_t capacity;
  mem_t *mem;
  int64_t different, first; /* rows; the first is INT64_MAX where there is none */
  double largest;           /* difference of two numbers; infinite where a NaN meets a number */
} comparison_t;

static double number_at(checkpoint_type_t type, const void *data, int64_t i) {
  switch (type) {
  case CHECKPOINT_F32:
    return (double)((const float *)data)[i];
  case CHECKPOINT_F64:
    return ((const double *)data)[i];
  case CHECKPOINT_I64:
    return (double)((const int64_t *)data)[i];
  case CHECKPOINT_I32:
    return (double)((const int32_t *)data)[i];
  case CHECKPOINT_F16:
    return (double)narrow_f16_value(((const uint16_t *)data)[i]);
  case CHECKPOINT_BF16:
    return (double)narrow_bf16_value(((const uint16_t *)data)[i]);
  default:
    return (double)((const uint8_t *)data)[i];
  }
}

static void compare_row(comparison_t *c, int64_t row, const void *mine, const void *theirs) {
  if (memcmp(mine, theirs, (size_t)ckpt_row_bytes(&c->array)) == 0) return;
  c->different++;
  if (row < c->first) c->first = row;
  for (int64_t i = 0; i < c->array.shape[1]; i++) {
    double a = number_at(c->array.type, mine, i), b = number_at(c->array.type, theirs, i);
    double distance = isnan(a) && isnan(b) ? 0.0 : a == b ? 0.0 : fabs(a - b);
    if (isnan(distance)) distance = (double)INFINITY;
    if (distance > c->largest) c->largest = distance;
  }
}

static sbag_code_t compare_rows(void *user, int64_t first, int64_t rows, const void *data,
                                sbag_status_t *status) {
  comparison_t *c = user;
  int64_t row_bytes = ckpt_row_bytes(&c->array);
  size_t bytes = (size_t)(rows * row_bytes);
  if (bytes > c->capacity) {
    SBAG_TRY(mem_realloc(c->mem, bytes, "ckpt: rows", &c->rows, status));
    c->capacity = bytes;
  }
  SBAG_TRY(checkpoint_read_rows(c->other, c->name, first, rows, c->rows, status));
  for (int64_t i = 0; i < rows; i++)
    compare_row(c, first + i, (const char *)data + i * row_bytes, (const char *)c->rows + i * row_bytes);
  return SBAG_OK;
}

/* One line: what differs in what way. */
static sbag_code_t tell(ckpt_t *c, const char *name, const char *how, const comparison_t *rows,
                        sbag_status_t *status) {
  if (comm_rank(c->comm) != 0) return SBAG_OK;
  if (rows == NULL)
    printf("%s: %s\n", name, how);
  else
    printf("%s: %" PRId64 " of %" PRId64 " rows differ, the first is %" PRId64
           ", the largest difference %.9g\n",
           name, rows->different, rows->array.shape[0], rows->first, rows->largest);
  if (c->json == NULL) return SBAG_OK;
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("diff"));
  json_object_object_add(object, "name", json_object_new_string(name));
  json_object_object_add(object, "how", json_object_new_string(how));
  if (rows != NULL) {
    json_object_object_add(object, "rows", json_object_new_int64(rows->different));
    json_object_object_add(object, "first", json_object_new_int64(rows->first));
    if (isfinite(rows->largest))
      json_object_object_add(object, "largest", json_object_new_double(rows->largest));
  }
  return ckpt_json(c, object, status);
}

static sbag_code_t merge(ckpt_t *c, comparison_t *made, sbag_status_t *status) {
  SBAG_TRY(comm_allreduce(c->comm, &made->different, 1, COMM_I64, COMM_SUM, "diff", status));
  SBAG_TRY(comm_allreduce(c->comm, &made->first, 1, COMM_I64, COMM_MIN, "diff", status));
  return comm_allreduce(c->comm, &made->largest, 1, COMM_F64, COMM_MAX, "diff", status);
}

static sbag_code_t compare_array(ckpt_t *c, checkpoint_reader_t *a, comparison_t *made, int64_t *different,
                                 sbag_status_t *status) {
  checkpoint_array_t theirs;
  SBAG_TRY(checkpoint_array_info(a, made->name, &made->array, status));
  if (!checkpoint_exists(made->other, made->name)) {
    ++*different;
    return tell(c, made->name, "only in the first file", NULL, status);
  }
  SBAG_TRY(checkpoint_array_info(made->other, made->name, &theirs, status));
  if (made->array.type != theirs.type || made->array.rank != theirs.rank ||
      made->array.shape[0] != theirs.shape[0] || made->array.shape[1] != theirs.shape[1]) {
    char how[160], one[48], two[48];
    snprintf(how, sizeof how, "%s %s against %s %s", checkpoint_type_name(made->array.type),
             ckpt_shape(one, &made->array), checkpoint_type_name(theirs.type), ckpt_shape(two, &theirs));
    ++*different;
    return tell(c, made->name, how, NULL, status);
  }
  made->different = 0;
  made->first = INT64_MAX;
  made->largest = 0.0;
  SBAG_TRY(ckpt_walk(c, a, made->name, 0, made->array.shape[0], compare_rows, made, status));
  SBAG_TRY(merge(c, made, status));
  if (made->different == 0) return SBAG_OK;
  ++*different;
  return tell(c, made->name, "rows differ", made, status);
}

static sbag_code_t compare(ckpt_t *c, checkpoint_reader_t *a, comparison_t *made, sbag_status_t *status) {
  int64_t different = 0, all = checkpoint_count(a);
  for (int64_t i = 0; i < checkpoint_count(a); i++) {
    made->name = checkpoint_name(a, i);
    SBAG_TRY(comm_agree(c->comm, compare_array(c, a, made, &different, status), status));
  }
  for (int64_t i = 0; i < checkpoint_count(made->other); i++) {
    const char *name = checkpoint_name(made->other, i);
    if (checkpoint_exists(a, name)) continue;
    different++;
    all++;
    SBAG_TRY(comm_agree(c->comm, tell(c, name, "only in the second file", NULL, status), status));
  }
  const char *const *paths = c->options->arguments;
  if (different > 0)
    return status_set(status, SBAG_ERR_FORMAT, "%s and %s: %" PRId64 " of %" PRId64 " arrays differ",
                      paths[0], paths[1], different, all);
  if (comm_rank(c->comm) == 0)
    printf("%s and %s: all %" PRId64 " arrays are equal\n", paths[0], paths[1], all);
  return SBAG_OK;
}

/* The numbers that MPI sums do not stand on the stack: a wait may be given up. */
static sbag_code_t diff(ckpt_t *c, sbag_status_t *status) {
  checkpoint_reader_t *a = NULL, *b = NULL;
  void *block = NULL;
  sbag_code_t code = mem_calloc(c->mem, sizeof(comparison_t), "ckpt: comparison", &block, status);
  SBAG_TRY(comm_agree(c->comm, code, status));
  comparison_t *made = block;
  code = ckpt_open(c, c->options->arguments[0], 0, &a, status);
  if (code == SBAG_OK) code = ckpt_open(c, c->options->arguments[1], 0, &b, status);
  made->other = b;
  made->mem = c->mem;
  if (code == SBAG_OK) code = compare(c, a, made, status);
  checkpoint_close(&a);
  checkpoint_close(&b);
  mem_free(c->mem, made->rows);
  if (comm_check(c->comm, NULL) == SBAG_OK) mem_free(c->mem, made);
  return code;
}

static int run(const options_t *options) {
  return ckpt_run("ckpt diff", options, diff);
}

const command_t command_ckpt_diff = {
    .name = "ckpt diff",
    .arguments = "A B",
    .summary = "say which arrays and rows of two checkpoints differ, and by how much",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_TIMEOUT,
    .details = "Ends with 0 if they hold the same bytes, with 1 if not. Attributes are not compared.\n",
    .run = run};
