/* How a checkpoint walks an array's rows: every row once, in order, the same number of chunks on all ranks.
 */
#include "checkpoint/layout.h"

#include <check.h>

Suite *layout_suite(void);

static void check_walk(int64_t rows, int64_t columns, int64_t piece_rows, int whole, int64_t chunk_bytes,
                       int size) {
  checkpoint_array_t array = {CHECKPOINT_F32, 2, {rows, columns}};
  int64_t next = 0, chunks = -1;
  for (int rank = 0; rank < size; rank++) {
    layout_walk_t walk = layout_walk(&array, piece_rows, whole, chunk_bytes, rank, size);
    if (rank > 0) ck_assert_int_eq(walk.chunk_count, chunks);
    chunks = walk.chunk_count;
    ck_assert(walk.rows == 0 || walk.first % piece_rows == 0);
    ck_assert(walk.rows_per_chunk == 1 || walk.rows_per_chunk * columns * 4 <= chunk_bytes ||
              (whole && walk.rows_per_chunk <= piece_rows));
    for (int64_t c = 0; c < chunks; c++) {
      int64_t first = layout_chunk_first(&walk, c), count = layout_chunk_rows(&walk, c);
      int good = first == next && count >= 0 && count <= walk.rows_per_chunk;
      if (whole && count > 0 && first % piece_rows != 0) good = 0;
      if (!good) ck_abort_msg("chunk %lld of rank %d", (long long)c, rank); /* an assertion each is slow */
      next += count;
    }
  }
  ck_assert_int_eq(next, rows);
}

START_TEST(test_every_row_once) {
  static const int64_t rows[] = {0, 1, 2, 7, 8, 9, 100, 1003}, columns[] = {1, 3, 64, 5000000};
  static const int64_t chunk_bytes[] = {1, 100, 4096, LAYOUT_CHUNK_BYTES}, piece_rows[] = {1, 2, 7, 1000};
  for (int r = 0; r < 8; r++)
    for (int c = 0; c < 4; c++)
      for (int b = 0; b < 4; b++)
        for (int p = 0; p < 8; p++)
          for (int size = 1; size <= 9; size++)
            check_walk(rows[r], columns[c], piece_rows[p / 2], p % 2, chunk_bytes[b], size);
}
END_TEST

START_TEST(test_pieces) {
  checkpoint_array_t array = {CHECKPOINT_F64, 2, {10, 16}};
  ck_assert_int_eq(layout_piece_rows(&array, 1 << 20), 8192);
  ck_assert_int_eq(layout_piece_rows(&array, 128), 1);
  ck_assert_int_eq(layout_piece_rows(&array, 127), 1); /* a row is never cut */
}
END_TEST

/* Every place is taken once; only small arrays begin on another rank each. */
START_TEST(test_turns) {
  for (int size = 1; size <= 9; size++)
    for (int64_t rows = 0; rows < 40; rows++)
      for (int64_t index = 0; index < 3; index++) {
        checkpoint_array_t array = {CHECKPOINT_F32, 1, {rows, 1}};
        int taken = 0, turned = size > 1 && (rows + 3) / 4 < size && index % size != 0;
        for (int rank = 0; rank < size; rank++) taken |= 1 << layout_turn(&array, 4, index, rank, size);
        ck_assert_int_eq(taken, (1 << size) - 1);
        ck_assert_int_eq(layout_turn(&array, 4, index, 0, size) != 0, turned);
      }
}
END_TEST

START_TEST(test_beyond_32_bits) {
  checkpoint_array_t array = {CHECKPOINT_F32, 2, {((int64_t)1 << 40) + 5, 16}};
  int64_t piece_rows = layout_piece_rows(&array, LAYOUT_PIECE_BYTES);
  layout_walk_t walk = layout_walk(&array, piece_rows, 1, LAYOUT_CHUNK_BYTES, 2, 3);
  ck_assert_int_eq(walk.first + walk.rows, array.shape[0]);
  ck_assert_int_eq(layout_chunk_rows(&walk, 0), LAYOUT_CHUNK_BYTES / 64);
  ck_assert_int_eq(layout_chunk_first(&walk, walk.chunk_count), array.shape[0]);
  ck_assert(layout_array_bytes(&array) == array.shape[0] * 64);
  walk = layout_walk(&array, INT64_MAX, 0, LAYOUT_CHUNK_BYTES, 1, 3); /* one piece: rank 0 has it all */
  ck_assert_int_eq(walk.rows, 0);
  ck_assert_int_eq(walk.first, array.shape[0]);
}
END_TEST

Suite *layout_suite(void) {
  Suite *suite = suite_create("layout");
  TCase *tcase = tcase_create("layout");
  tcase_add_test(tcase, test_every_row_once);
  tcase_add_test(tcase, test_pieces);
  tcase_add_test(tcase, test_turns);
  tcase_add_test(tcase, test_beyond_32_bits);
  suite_add_tcase(suite, tcase);
  return suite;
}
