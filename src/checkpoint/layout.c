/* Types, names and the walk over an array's rows: see layout.h. */
#include "checkpoint/layout.h"

#include <string.h>

const char *checkpoint_type_name(checkpoint_type_t type) {
  switch (type) {
  case CHECKPOINT_F32:
    return "f32";
  case CHECKPOINT_F64:
    return "f64";
  case CHECKPOINT_I64:
    return "i64";
  case CHECKPOINT_I32:
    return "i32";
  case CHECKPOINT_U8:
    return "u8";
  case CHECKPOINT_OTHER:
    break;
  }
  return "other";
}

int64_t checkpoint_type_bytes(checkpoint_type_t type) {
  switch (type) {
  case CHECKPOINT_F32:
  case CHECKPOINT_I32:
    return 4;
  case CHECKPOINT_F64:
  case CHECKPOINT_I64:
    return 8;
  case CHECKPOINT_U8:
    return 1;
  case CHECKPOINT_OTHER:
    break;
  }
  return 0;
}

int64_t layout_row_bytes(const checkpoint_array_t *array) {
  return array->shape[1] * checkpoint_type_bytes(array->type);
}

int64_t layout_array_bytes(const checkpoint_array_t *array) {
  return array->shape[0] * layout_row_bytes(array);
}

layout_walk_t layout_walk(const checkpoint_array_t *array, int64_t chunk_bytes, int rank, int size) {
  int64_t each = array->shape[0] / size, longer = array->shape[0] % size;
  int64_t row_bytes = layout_row_bytes(array), longest = each + (longer > 0 ? 1 : 0);
  layout_walk_t walk = {0};
  walk.first = rank * each + (rank < longer ? rank : longer);
  walk.rows = each + (rank < longer ? 1 : 0);
  walk.rows_per_chunk = row_bytes > 0 ? chunk_bytes / row_bytes : longest;
  if (walk.rows_per_chunk > longest) walk.rows_per_chunk = longest;
  if (walk.rows_per_chunk < 1) walk.rows_per_chunk = 1;
  walk.chunk_count = longest / walk.rows_per_chunk + (longest % walk.rows_per_chunk > 0 ? 1 : 0);
  return walk;
}

int64_t layout_chunk_first(const layout_walk_t *walk, int64_t chunk) {
  int64_t done = chunk * walk->rows_per_chunk;
  return walk->first + (done < walk->rows ? done : walk->rows);
}

int64_t layout_chunk_rows(const layout_walk_t *walk, int64_t chunk) {
  return layout_chunk_first(walk, chunk + 1) - layout_chunk_first(walk, chunk);
}

sbag_code_t layout_check_name(const char *name, sbag_status_t *status) {
  const char *part = name;
  for (;;) {
    size_t length = strcspn(part, "/");
    int dots = (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.');
    if (length == 0 || dots)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "checkpoint: name '%s' is not a path such as 'tables/user/weight'", name);
    if (part[length] == '\0') return SBAG_OK;
    part += length + 1;
  }
}
