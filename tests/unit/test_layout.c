/* How a checkpoint walks an array's rows: every row once, in order, the same number of chunks on all ranks.
 */
#include "checkpoint/layout.h"

#include <check.h>

Suite *layout_suite(void);

static void check_walk(int64_t rows, int64_t columns, int64_t chunk_bytes, int size) {
  checkpoint_array_t array = {CHECKPOINT_F32, 2, {rows, columns}};
  int64_t next = 0, chunks = -1;
  for (int rank = 0; rank < size; rank++) {
    layout_walk_t walk = layout_walk(&array, chunk_bytes, rank, size);
    if (rank > 0) ck_assert_int_eq(walk.chunk_count, chunks);
    chunks = walk.chunk_count;
    ck_assert(walk.rows_per_chunk == 1 || walk.rows_per_chunk * columns * 4 <= chunk_bytes);
    for (int64_t c = 0; c < chunks; c++) {
      ck_assert_int_eq(layout_chunk_first(&walk, c), next);
      int64_t count = layout_chunk_rows(&walk, c);
      ck_assert(count >= 0 && count <= walk.rows_per_chunk);
      next += count;
    }
  }
  ck_assert_int_eq(next, rows);
}

START_TEST(test_every_row_once) {
  static const int64_t rows[] = {0, 1, 2, 7, 8, 9, 100, 1003}, columns[] = {1, 3, 64, 5000000};
  static const int64_t chunk_bytes[] = {1, 100, 4096, LAYOUT_CHUNK_BYTES};
  for (int r = 0; r < 8; r++)
    for (int c = 0; c < 4; c++)
      for (int b = 0; b < 4; b++)
        for (int size = 1; size <= 9; size++) check_walk(rows[r], columns[c], chunk_bytes[b], size);
}
END_TEST

START_TEST(test_beyond_32_bits) {
  checkpoint_array_t array = {CHECKPOINT_F32, 2, {((int64_t)1 << 40) + 5, 16}};
  layout_walk_t walk = layout_walk(&array, LAYOUT_CHUNK_BYTES, 2, 3);
  ck_assert_int_eq(walk.first + walk.rows, array.shape[0]);
  ck_assert_int_eq(layout_chunk_rows(&walk, 0), LAYOUT_CHUNK_BYTES / 64);
  ck_assert_int_eq(layout_chunk_first(&walk, walk.chunk_count), array.shape[0]);
  ck_assert(layout_array_bytes(&array) == array.shape[0] * 64);
}
END_TEST

Suite *layout_suite(void) {
  Suite *suite = suite_create("layout");
  TCase *tcase = tcase_create("layout");
  tcase_add_test(tcase, test_every_row_once);
  tcase_add_test(tcase, test_beyond_32_bits);
  suite_add_tcase(suite, tcase);
  return suite;
}
