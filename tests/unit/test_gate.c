/* The gate of a checkpoint: one flipped bit anywhere in a file is refused, or is found in the rows where it
 * is. */
#include "checkpoint/checkpoint.h"
#include "checkpoint/trailer.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *gate_suite(void);

static mem_t *mem;
static comm_t *comm;
static sbag_status_t status;
static char path[512];

static void setup(void) {
  const char *folder = getenv("TMPDIR");
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(comm_self_create(mem, NULL, &comm, &status), SBAG_OK);
  snprintf(path, sizeof path, "%s/shardbag-gate-%d.h5", folder != NULL ? folder : "/tmp", (int)getpid());
}

static void teardown(void) {
  unlink(path);
  comm_destroy(&comm);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *st) {
  (void)user, (void)st;
  for (int64_t i = 0; i < 2 * rows; i++) ((float *)out)[i] = (float)(2 * first + i);
  return SBAG_OK;
}

static void write_file(void) {
  checkpoint_writer_t *w = NULL;
  const int64_t shape[2] = {20, 2};
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &w, &status), SBAG_OK);
  checkpoint_writer_set_piece(w, 64);
  ck_assert_int_eq(checkpoint_add_array(w, "tables/t/weight", CHECKPOINT_F32, 2, shape, fill, NULL, &status),
                   SBAG_OK);
  ck_assert_int_eq(checkpoint_add_blob(w, "config", "a: 1", 4, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_text(w, "tables/t", "mode", "mean", &status), SBAG_OK);
  ck_assert_msg(checkpoint_commit(&w, &status) == SBAG_OK, "%s", status.message);
}

/* SBAG_OK if the file opens and all its rows are read; else the message is in status. */
static sbag_code_t read_file(int *opened) {
  checkpoint_reader_t *r = NULL;
  float rows[40] = {0};
  void *blob = NULL;
  int64_t bytes = 0;
  sbag_code_t code = checkpoint_open(comm, mem, path, &r, &status);
  *opened = code == SBAG_OK;
  if (code == SBAG_OK) code = checkpoint_read_rows(r, "tables/t/weight", 0, 20, rows, &status);
  if (code == SBAG_OK) code = checkpoint_read_blob(r, "config", &blob, &bytes, &status);
  if (code == SBAG_OK) {
    for (int i = 0; i < 40; i++) ck_assert_float_eq(rows[i], (float)i);
    ck_assert_str_eq(blob, "a: 1");
  }
  mem_free(mem, blob);
  checkpoint_close(&r);
  return code;
}

START_TEST(test_every_byte) {
  write_file();
  int file = open(path, O_RDWR | O_CLOEXEC), opened = 0;
  ck_assert_int_ge(file, 0);
  off_t end = lseek(file, 0, SEEK_END);
  int64_t in_rows = 0;
  ck_assert_int_eq(read_file(&opened), SBAG_OK);
  for (off_t at = 0; at < end; at++) {
    unsigned char kept, other;
    ck_assert_int_eq(pread(file, &kept, 1, at), 1);
    other = (unsigned char)(kept ^ (1 << at % 8));
    ck_assert_int_eq(pwrite(file, &other, 1, at), 1);
    ck_assert_msg(read_file(&opened) == SBAG_ERR_FORMAT, "byte %lld is not noticed", (long long)at);
    in_rows += opened;
    if (opened) ck_assert_ptr_nonnull(strstr(status.message, "do not match their checksum"));
    ck_assert_int_eq(pwrite(file, &kept, 1, at), 1);
  }
  ck_assert_int_eq(in_rows, 20 * 2 * 4 + 4); /* and nowhere else does libhdf5 see the file */
  ck_assert_int_eq(read_file(&opened), SBAG_OK);
  close(file);
}
END_TEST

/* A file of each version that there was is kept, and must be read for ever. */
START_TEST(test_old_versions) {
  const char *root = getenv("SHARDBAG_SOURCE_DIR");
  int opened = 0;
  for (int version = 1; version <= TRAILER_VERSION; version++) {
    snprintf(path, sizeof path, "%s/tests/data/checkpoint-v%d.h5", root != NULL ? root : SHARDBAG_SOURCE_DIR,
             version);
    ck_assert_msg(read_file(&opened) == SBAG_OK, "%s", status.message);
  }
  path[0] = '\0';
}
END_TEST

/* The list of pieces with every word of it wrong in turn, under checksums that hold: refused or read alike,
 * and never a crash. */
START_TEST(test_every_word_of_the_list) {
  static const uint64_t lies[] = {0, 1, 7, UINT32_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 7};
  write_file();
  int file = open(path, O_RDWR | O_CLOEXEC), opened = 0;
  ck_assert_int_ge(file, 0);
  off_t end = lseek(file, 0, SEEK_END);
  uint64_t footer[8];
  ck_assert_int_eq(pread(file, footer, sizeof footer, end - TRAILER_FOOTER_BYTES), (ssize_t)sizeof footer);
  size_t words = (size_t)footer[4] / 8;
  uint64_t *list = malloc(words * 8);
  ck_assert_ptr_nonnull(list);
  ck_assert_int_eq(pread(file, list, words * 8, (off_t)footer[3]), (ssize_t)(words * 8));
  int64_t refused = 0;
  for (size_t i = 0; i < words; i++)
    for (size_t lie = 0; lie < sizeof lies / sizeof lies[0]; lie++) {
      uint64_t kept = list[i];
      list[i] = lies[lie];
      footer[5] = checksum_piece(list, words * 8);
      footer[7] = checksum_piece(footer, 56);
      ck_assert_int_eq(pwrite(file, list, words * 8, (off_t)footer[3]), (ssize_t)(words * 8));
      ck_assert_int_eq(pwrite(file, footer, 64, (off_t)(footer[3] + footer[4])), 64);
      sbag_code_t code = read_file(&opened);
      ck_assert_msg(code == SBAG_ERR_FORMAT || code == SBAG_OK, "word %zu, lie %zu: %s", i, lie,
                    status.message);
      refused += code == SBAG_ERR_FORMAT;
      list[i] = kept;
    }
  ck_assert_int_gt(refused,
                   (int64_t)(words * 5)); /* some change nothing: a last piece of more rows than are left */
  free(list);
  close(file);
}
END_TEST

Suite *gate_suite(void) {
  Suite *suite = suite_create("gate");
  TCase *tcase = tcase_create("gate");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_set_timeout(tcase, 120);
  tcase_add_test(tcase, test_every_byte);
  tcase_add_test(tcase, test_old_versions);
  tcase_add_test(tcase, test_every_word_of_the_list);
  suite_add_tcase(suite, tcase);
  return suite;
}
