/* The reader's parts: texts, lines, vocabularies, shares, Zipf draws. */
#include "base/random.h"
#include "reader/lines.h"
#include "reader/source.h"
#include "reader/vocabulary.h"
#include "reader/zipf.h"
#include "test_reader_common.h"

#include <math.h>

static text_t text(const char *bytes) {
  return (text_t){bytes, (int64_t)strlen(bytes)};
}

START_TEST(test_numbers) {
  static const char *const good[] = {"0",
                                     "1",
                                     "-7",
                                     "3.25",
                                     ".5",
                                     "5.",
                                     "1e3",
                                     "-2E-4",
                                     "+12",
                                     "0.1",
                                     "123456789012345",
                                     "1234567890123456789",
                                     "0.30000000000000004"};
  static const char *const bad[] = {"",     "-",     ".",   "1x",    " 1",  "1 ", "nan", "inf",
                                    "0x10", "1e999", "--1", "1.2.3", "1,5", "e5", "1e",  "infinity"};
  double value;
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    ck_assert_msg(reader_text_number(text(good[i]), &value), "%s", good[i]);
    ck_assert_msg(value == strtod(good[i], NULL), "%s", good[i]);
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    ck_assert_msg(!reader_text_number(text(bad[i]), &value), "%s", bad[i]);
  for (int64_t i = 0; i < 20000; i++) { /* the short way gives strtod's bits */
    char digits[40];
    uint64_t word = random_u64(1, (uint64_t)i);
    snprintf(digits, sizeof digits, "%s%llu.%0*llu", i % 2 ? "-" : "", (unsigned long long)(word % 1000000),
             (int)(i % 9) + 1, (unsigned long long)(word >> 40) % 10);
    ck_assert(reader_text_number(text(digits), &value));
    ck_assert(value == strtod(digits, NULL));
  }
}
END_TEST

START_TEST(test_integers) {
  int64_t value;
  ck_assert(reader_text_integer(text("0"), &value) && value == 0);
  ck_assert(reader_text_integer(text("4000000000000000000"), &value) && value == 4000000000000000000);
  ck_assert(!reader_text_integer(text("99999999999999999999999"), &value));
  ck_assert(!reader_text_integer(text("9223372036854775808"), &value));
  ck_assert(!reader_text_integer(text("-1"), &value));
  ck_assert(!reader_text_integer(text("1.0"), &value));
  ck_assert(!reader_text_integer(text(""), &value));
}
END_TEST

START_TEST(test_split_and_tokens) {
  text_t fields[4], rest = text("  a bb  c "), token;
  ck_assert_int_eq(reader_text_split(text("x,,yz"), ',', fields, 4), 3);
  ck_assert_int_eq(fields[1].length, 0);
  ck_assert(reader_text_equal(fields[2], "yz"));
  ck_assert_int_eq(reader_text_split(text("x,y,z"), ',', fields, 2), 2);
  ck_assert(reader_text_equal(fields[1], "y"));
  ck_assert_int_eq(reader_text_split(text(""), ',', fields, 4), 1);
  ck_assert_int_eq(reader_text_split(text("a,"), ',', fields, 4), 2);
  ck_assert(reader_text_token(&rest, ' ', &token) && reader_text_equal(token, "a"));
  ck_assert(reader_text_token(&rest, ' ', &token) && reader_text_equal(token, "bb"));
  ck_assert(reader_text_token(&rest, ' ', &token) && reader_text_equal(token, "c"));
  ck_assert(!reader_text_token(&rest, ' ', &token));
}
END_TEST

/* A hash that changed between versions would silently scatter a saved model's rows. */
START_TEST(test_hash_is_fixed_and_spreads) {
  ck_assert(reader_text_hash(1, text("abc")) != reader_text_hash(2, text("abc")));
  ck_assert(reader_text_hash(1, text("a")) != reader_text_hash(1, (text_t){"a\0", 2}));
  int64_t filled[64] = {0};
  char word[32];
  for (int i = 0; i < 64000; i++) {
    snprintf(word, sizeof word, "token%d", i);
    filled[reader_text_hash(7, text(word)) % 64]++;
  }
  for (int i = 0; i < 64; i++) ck_assert(filled[i] > 800 && filled[i] < 1200); /* 6 deviations */
  ck_assert_uint_eq(reader_text_hash(42, text("shardbag")), 0xa1a22a2805236e91u);
}
END_TEST

static void check_lines(const char *path, const char *const *expected, int count) {
  lines_t *lines = NULL;
  text_t line;
  OK(reader_lines_open(path, mem, &lines, &status));
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < count; i++) {
      OK(reader_lines_next(lines, &line, &status));
      ck_assert_ptr_nonnull(line.bytes);
      ck_assert(reader_text_equal(line, expected[i]));
      ck_assert_int_eq(reader_lines_number(lines), i + 1);
    }
    for (int i = 0; i < 2; i++) {
      OK(reader_lines_next(lines, &line, &status));
      ck_assert_ptr_null(line.bytes);
    }
    OK(reader_lines_rewind(lines, &status));
  }
  reader_lines_close(&lines);
}

START_TEST(test_lines) {
  static const char *const three[] = {"one", "", "three"};
  check_lines(write_text("a", "one\n\nthree\n"), three, 3);
  check_lines(write_text("b", "one\r\n\r\nthree"), three, 3);
  check_lines(write_gzip("c", "one\n\nthree\r\n"), three, 3);
  check_lines(write_text("d", ""), three, 0);
  check_lines(write_text("marked", "\xef\xbb\xbf"
                                   "one\n\nthree\n"),
              three, 3); /* as some editors write UTF-8 */
  static const char *const inner[] = {"a\rb", "c"};
  check_lines(write_text("e", "a\rb\nc"), inner, 2);
}
END_TEST

/* Lines that straddle the buffer's end, and one longer than the buffer. */
START_TEST(test_long_lines) {
  enum { BYTES = 3000000 };
  char *bytes = malloc(BYTES);
  ck_assert_ptr_nonnull(bytes);
  int64_t at = 0, lengths[64], count = 0;
  for (; at < BYTES - 1000000; count++) {
    lengths[count] = count == 5 ? 900000 : 50000 + 777 * count;
    memset(bytes + at, 'a' + (int)(count % 26), (size_t)lengths[count]);
    bytes[at + lengths[count]] = '\n';
    at += lengths[count] + 1;
  }
  lines_t *lines = NULL;
  text_t line;
  OK(reader_lines_open(write_bytes("long", bytes, (size_t)at), mem, &lines, &status));
  for (int64_t i = 0; i < count; i++) {
    OK(reader_lines_next(lines, &line, &status));
    ck_assert_int_eq(line.length, lengths[i]);
    ck_assert(line.bytes[0] == 'a' + (char)(i % 26) && line.bytes[line.length - 1] == line.bytes[0]);
  }
  OK(reader_lines_next(lines, &line, &status));
  ck_assert_ptr_null(line.bytes);
  reader_lines_close(&lines);
  free(bytes);
}
END_TEST

START_TEST(test_lines_errors) {
  lines_t *lines = NULL;
  text_t line;
  ck_assert_int_eq(reader_lines_open(path_of("none"), mem, &lines, &status), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "none: cannot open: No such file"));
  OK(reader_lines_open(folder, mem, &lines, &status));
  ck_assert_int_eq(reader_lines_next(lines, &line, &status), SBAG_ERR_IO);
  reader_lines_close(&lines);
  /* A gzip file without its last bytes. */
  char text_bytes[40000], packed[40000];
  for (size_t i = 0; i < sizeof text_bytes - 1; i++)
    text_bytes[i] = i % 50 == 49 ? '\n' : (char)('a' + random_below(3, i, 26));
  text_bytes[sizeof text_bytes - 1] = '\0';
  FILE *file = fopen(write_gzip("whole.gz", text_bytes), "rb");
  ck_assert_ptr_nonnull(file);
  size_t length = fread(packed, 1, sizeof packed, file);
  fclose(file);
  OK(reader_lines_open(write_bytes("cut.gz", packed, length - 300), mem, &lines, &status));
  sbag_code_t code;
  do {
    code = reader_lines_next(lines, &line, &status);
  } while (code == SBAG_OK && line.bytes != NULL);
  ck_assert_int_eq(code, SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "cut short"));
  reader_lines_close(&lines);
  packed[length - 6] = (char)(packed[length - 6] ^ 1); /* of its checksum */
  OK(reader_lines_open(write_bytes("bad.gz", packed, length), mem, &lines, &status));
  do {
    code = reader_lines_next(lines, &line, &status);
  } while (code == SBAG_OK && line.bytes != NULL);
  ck_assert_int_eq(code, SBAG_ERR_IO);
  ck_assert_msg(strstr(status.message, ": incorrect data check") != NULL, "%s", status.message);
  ck_assert_ptr_null(strstr(status.message, "<fd"));
  reader_lines_close(&lines);
}
END_TEST

START_TEST(test_vocabulary) {
  vocabulary_t *all = NULL, *some = NULL, *back = NULL;
  blobs_t blobs = {0};
  int64_t index;
  char word[32];
  OK(reader_vocabulary_create(mem, &all, &status));
  for (int i = 0; i < 3000; i++) { /* word w appears 1 + (w % 3) times */
    for (int n = 0; n <= i % 3; n++) {
      snprintf(word, sizeof word, "%d", i);
      OK(reader_vocabulary_add(all, text(word), &index, &status));
      ck_assert_int_eq(index, i);
    }
  }
  ck_assert_int_eq(reader_vocabulary_count(all), 3000);
  ck_assert_int_eq(reader_vocabulary_find(all, text("x")), -1);
  OK(reader_vocabulary_select(all, 2, 1500, mem, &some, &status));
  ck_assert_int_eq(reader_vocabulary_count(some), 1500);
  ck_assert_int_eq(reader_vocabulary_find(some, text("2")), 0);    /* three times, first seen */
  ck_assert_int_eq(reader_vocabulary_find(some, text("5")), 1);    /* three times, seen later */
  ck_assert_int_eq(reader_vocabulary_find(some, text("1")), 1000); /* twice */
  ck_assert_int_eq(reader_vocabulary_find(some, text("0")), -1);   /* once */
  OK(reader_vocabulary_save(some, "v", 2, 1501, &blobs, mem, &status));
  OK(reader_vocabulary_load(&blobs, "v", 2, 1501, mem, &back, &status));
  for (int64_t i = 0; i < 1500; i++)
    ck_assert_int_eq(reader_vocabulary_find(back, reader_vocabulary_token(some, i)), i);
  reader_vocabulary_destroy(&back);
  ck_assert_int_ne(reader_vocabulary_load(&blobs, "v", 3, 1501, mem, &back, &status), SBAG_OK);
  ck_assert_ptr_nonnull(strstr(status.message, "min_count 2"));
  reader_blobs_free(&blobs, mem);
  reader_vocabulary_destroy(&all);
  reader_vocabulary_destroy(&some);
}
END_TEST

/* Every cut and every changed byte of a blob is refused or gives a vocabulary; none reads outside. */
START_TEST(test_vocabulary_damaged) {
  vocabulary_t *all = NULL, *back = NULL;
  blobs_t blobs = {0};
  int64_t index, refused = 0;
  static const char *const words[] = {"alpha", "", "beta", "gamma"};
  OK(reader_vocabulary_create(mem, &all, &status));
  for (int i = 0; i < 4; i++) OK(reader_vocabulary_add(all, text(words[i]), &index, &status));
  OK(reader_vocabulary_save(all, "v", 1, 0, &blobs, mem, &status));
  reader_blob_t *blob = &blobs.items[0];
  int64_t whole = blob->bytes;
  unsigned char *original = malloc((size_t)whole);
  ck_assert_ptr_nonnull(original);
  memcpy(original, blob->data, (size_t)whole);
  for (int64_t cut = 0; cut < whole; cut++) {
    blob->bytes = cut;
    ck_assert_int_ne(reader_vocabulary_load(&blobs, "v", 1, 0, mem, &back, &status), SBAG_OK);
  }
  blob->bytes = whole;
  for (int64_t i = 0; i < 256 * whole; i++) {
    memcpy(blob->data, original, (size_t)whole);
    ((unsigned char *)blob->data)[i / 256] = (unsigned char)i;
    if (reader_vocabulary_load(&blobs, "v", 1, 0, mem, &back, &status) == SBAG_OK) {
      ck_assert_int_eq(reader_vocabulary_count(back), 4);
      reader_vocabulary_destroy(&back);
    } else {
      refused++;
    }
  }
  ck_assert_int_gt(refused, 255 * (40 + 24)); /* all of the header and nearly all of the ends */
  free(original);
  reader_blobs_free(&blobs, mem);
  reader_vocabulary_destroy(&all);
}
END_TEST

START_TEST(test_shares) {
  static const int64_t sizes[] = {0, 1, 7, 64, 65, 1000, 4096}, slices[] = {1, 3, 64, 5000};
  for (size_t a = 0; a < sizeof sizes / sizeof sizes[0]; a++)
    for (size_t b = 0; b < sizeof slices / sizeof slices[0]; b++)
      for (int ranks = 1; ranks <= 9; ranks++) {
        int64_t next = 0, begin, end, least = INT64_MAX, most = 0;
        for (int r = 0; r < ranks; r++) {
          reader_source_share(sizes[a], slices[b], r, ranks, &begin, &end);
          ck_assert_int_eq(begin, next);
          ck_assert(end >= begin && (end % slices[b] == 0 || end == sizes[a]));
          next = end;
          if (end - begin < least) least = end - begin;
          if (end - begin > most) most = end - begin;
        }
        ck_assert_int_eq(next, sizes[a]);
        if (slices[b] == 1) ck_assert_int_le(most - least, 1);
      }
}
END_TEST

/* Observed against exact probabilities, within five deviations, for the head row by row and the tail whole.
 */
static void check_zipf(double exponent, int64_t rows) {
  enum { DRAWS = 50000, HEAD = 20 };
  zipf_t zipf = reader_zipf_make(rows, exponent);
  int64_t seen[HEAD + 1] = {0};
  double sum = 0.0;
  for (int64_t k = 1; k <= rows; k++) sum += pow((double)k, -exponent);
  for (int64_t i = 0; i < DRAWS; i++) {
    int64_t row = reader_zipf_draw(&zipf, 99, (uint64_t)i, 5);
    ck_assert(row >= 0 && row < rows);
    seen[row < HEAD ? row : HEAD]++;
  }
  double rest = 1.0;
  for (int k = 0; k <= HEAD; k++) {
    double p = k < HEAD ? (k < rows ? pow(k + 1.0, -exponent) / sum : 0.0) : rest;
    rest -= k < HEAD ? p : 0.0;
    double expected = DRAWS * p;
    ck_assert_msg(fabs((double)seen[k] - expected) <= 5.0 * sqrt(expected + 0.1) + 1e-6,
                  "exponent %g, %lld rows, row %d: %lld for %g", exponent, (long long)rows, k,
                  (long long)seen[k], expected);
  }
}

START_TEST(test_zipf) {
  static const double exponents[] = {0.0, 0.3, 0.99, 1.0, 1.05, 1.5, 3.0};
  for (size_t i = 0; i < sizeof exponents / sizeof exponents[0]; i++) {
    check_zipf(exponents[i], 1000);
    check_zipf(exponents[i], 20000);
    check_zipf(exponents[i], 3);
    check_zipf(exponents[i], 1);
  }
}
END_TEST

/* 2^40 rows: the mass below 2^20 follows from the harmonic numbers (exponent 1) and is 2^-20 for 0. */
START_TEST(test_zipf_huge) {
  enum { DRAWS = 50000 };
  const int64_t rows = (int64_t)1 << 40;
  zipf_t one = reader_zipf_make(rows, 1.0), flat = reader_zipf_make(rows, 0.0);
  int64_t low = 0, flat_half = 0, top = 0;
  for (int64_t i = 0; i < DRAWS; i++) {
    int64_t row = reader_zipf_draw(&one, 4, (uint64_t)i, 0),
            even = reader_zipf_draw(&flat, 4, (uint64_t)i, 0);
    ck_assert(row >= 0 && row < rows && even >= 0 && even < rows);
    low += row < 1 << 20;
    top += row >= rows / 2;
    flat_half += even < rows / 2;
  }
  double gamma = 0.57721566490153286, harmonic = 40.0 * log(2.0) + gamma;
  double p = (20.0 * log(2.0) + gamma) / harmonic, q = log(2.0) / harmonic;
  ck_assert(fabs((double)low - DRAWS * p) < 5.0 * sqrt(DRAWS * p * (1 - p)));
  ck_assert(fabs((double)top - DRAWS * q) < 5.0 * sqrt(DRAWS * q));
  ck_assert(fabs((double)flat_half - DRAWS / 2.0) < 5.0 * sqrt(DRAWS / 4.0));
}
END_TEST

Suite *reader_parts_suite(void);
Suite *reader_parts_suite(void) {
  Suite *suite = suite_create("reader_parts");
  TCase *tests = tcase_create("parts");
  tcase_set_timeout(tests, 120);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, test_numbers);
  tcase_add_test(tests, test_integers);
  tcase_add_test(tests, test_split_and_tokens);
  tcase_add_test(tests, test_hash_is_fixed_and_spreads);
  tcase_add_test(tests, test_lines);
  tcase_add_test(tests, test_long_lines);
  tcase_add_test(tests, test_lines_errors);
  tcase_add_test(tests, test_vocabulary);
  tcase_add_test(tests, test_vocabulary_damaged);
  tcase_add_test(tests, test_shares);
  tcase_add_test(tests, test_zipf);
  tcase_add_test(tests, test_zipf_huge);
  suite_add_tcase(suite, tests);
  return suite;
}
