/* The names of the binary form's arrays. */
#include "reader/binary.h"

#include <stdio.h>

const char *reader_split_name(reader_split_t split) {
  static const char *const names[READER_SPLITS] = {"train", "valid", "test"};
  return names[split];
}

void reader_binary_name(const char *feature, const char *part, reader_split_t split,
                        char out[BINARY_NAME_BYTES]) {
  snprintf(out, BINARY_NAME_BYTES, BINARY_FEATURES "%s%s%s", feature, part, reader_split_name(split));
}

void reader_binary_plain_name(const char *what, reader_split_t split, char out[BINARY_NAME_BYTES]) {
  snprintf(out, BINARY_NAME_BYTES, "%s/%s", what, reader_split_name(split));
}

checkpoint_type_t reader_binary_type(int64_t rows) {
  return rows <= INT32_MAX ? CHECKPOINT_I32 : CHECKPOINT_I64;
}
