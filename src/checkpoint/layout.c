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
  case CHECKPOINT_F16:
    return "f16";
  case CHECKPOINT_BF16:
    return "bf16";
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
  case CHECKPOINT_F16:
  case CHECKPOINT_BF16:
    return 2;
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

int64_t layout_piece_rows(const checkpoint_array_t *array, int64_t piece_bytes) {
  int64_t rows = piece_bytes / layout_row_bytes(array);
  return rows > 0 ? rows : 1;
}

static int64_t parts(int64_t all, int64_t part) {
  return all / part + (all % part > 0 ? 1 : 0);
}

/* Rows of a chunk in a block of at most `longest` rows. */
static int64_t chunk_rows(const checkpoint_array_t *array, int64_t piece_rows, int whole, int64_t chunk_bytes,
                          int64_t longest) {
  int64_t rows = chunk_bytes / layout_row_bytes(array);
  if (rows >= piece_rows)
    rows -= rows % piece_rows;
  else if (whole)
    rows = piece_rows;
  if (rows > longest) rows = longest;
  return rows > 0 ? rows : 1;
}

layout_walk_t layout_walk(const checkpoint_array_t *array, int64_t piece_rows, int whole, int64_t chunk_bytes,
                          int rank, int size) {
  int64_t all = array->shape[0], pieces = parts(all, piece_rows), each = pieces / size, more = pieces % size;
  int64_t first = rank * each + (rank < more ? rank : more), count = each + (rank < more ? 1 : 0);
  /* Only the last piece may be shorter, and the product of all before it stays below the rows. */
  int64_t begin = first < pieces ? first * piece_rows : all;
  int64_t end = first + count < pieces ? (first + count) * piece_rows : all;
  int64_t longest_pieces = each + (more > 0 ? 1 : 0);
  int64_t longest = longest_pieces < pieces ? longest_pieces * piece_rows : all;
  layout_walk_t walk = {.first = begin, .rows = end - begin};
  walk.rows_per_chunk = chunk_rows(array, piece_rows, whole, chunk_bytes, longest);
  walk.chunk_count = parts(longest, walk.rows_per_chunk);
  return walk;
}

int layout_turn(const checkpoint_array_t *array, int64_t piece_rows, int64_t index, int rank, int size) {
  return parts(array->shape[0], piece_rows) < size ? (int)((rank + index) % size) : rank;
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
