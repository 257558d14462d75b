/* Status values, counted memory, random streams. */
#include "base/mem.h"
#include "base/random.h"
#include "base/status.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_status_set) {
  sbag_status_t status;
  ck_assert_int_eq(status_set(&status, SBAG_ERR_IO, "file %d: %s", 7, "gone"), SBAG_ERR_IO);
  ck_assert_int_eq(status.code, SBAG_ERR_IO);
  ck_assert_int_eq(status.rank, -1);
  ck_assert_str_eq(status.message, "file 7: gone");
  ck_assert_int_eq(status_set(NULL, SBAG_ERR_IO, "x"), SBAG_ERR_IO);
  status_set(&status, SBAG_ERR_IO, "again: %s", status.message); /* an argument inside the status */
  ck_assert_str_eq(status.message, "again: file 7: gone");
  status_clear(&status);
  ck_assert_int_eq(status.code, SBAG_OK);
  ck_assert_int_eq(status.rank, -1);
  ck_assert_str_eq(status.message, "");
  status_clear(NULL);
}
END_TEST

START_TEST(test_status_is_one_short_line) {
  sbag_status_t status;
  char text[2000];
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  status_set(&status, SBAG_ERR_FORMAT, "%s", text);
  ck_assert_uint_eq(strlen(status.message), SBAG_MESSAGE_BYTES - 1);
  status_set(&status, SBAG_ERR_FORMAT, "one\ntwo\tthree\r\x7f\x01.");
  ck_assert_str_eq(status.message, "one two three   .");
  status_set(&status, SBAG_ERR_FORMAT, "caf\xc3\xa9"); /* bytes above 127 stay */
  ck_assert_str_eq(status.message, "caf\xc3\xa9");
}
END_TEST

START_TEST(test_status_prefix) {
  sbag_status_t status;
  status_set(&status, SBAG_ERR_STATE, "closed");
  status.rank = 3;
  ck_assert_int_eq(status_prefix(&status, "table '%s'", "user\nid"), SBAG_ERR_STATE);
  ck_assert_str_eq(status.message, "table 'user id': closed");
  ck_assert_int_eq(status.rank, 3);
  char text[700];
  memset(text, 'b', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  status_prefix(&status, "%s", text);
  ck_assert_uint_eq(strlen(status.message), SBAG_MESSAGE_BYTES - 1);
  ck_assert_int_eq(status_prefix(NULL, "x"), SBAG_OK);
}
END_TEST

START_TEST(test_code_names) {
  for (int a = SBAG_OK; a <= SBAG_ERR_UNSUPPORTED; a++)
    for (int b = SBAG_OK; b <= SBAG_ERR_UNSUPPORTED + 1; b++)
      ck_assert_int_eq(strcmp(sbag_code_name((sbag_code_t)a), sbag_code_name((sbag_code_t)b)) == 0, a == b);
  ck_assert_str_eq(sbag_code_name(SBAG_ERR_TIMEOUT), "timeout");
}
END_TEST

static sbag_code_t tried(int *steps, sbag_status_t *status) {
  *steps = 1;
  SBAG_TRY(SBAG_OK);
  *steps = 2;
  SBAG_TRY(status_set(status, SBAG_ERR_IO, "stop"));
  *steps = 3;
  return SBAG_OK;
}

START_TEST(test_try) {
  sbag_status_t status;
  int steps = 0;
  ck_assert_int_eq(tried(&steps, &status), SBAG_ERR_IO);
  ck_assert_int_eq(steps, 2);
}
END_TEST

START_TEST(test_mem_counts) {
  mem_t *mem = NULL;
  void *a = NULL, *b = NULL;
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  ck_assert_int_eq(mem_alloc(mem, 100, "a", &a, NULL), SBAG_OK);
  ck_assert_int_eq(mem_calloc(mem, 50, "b", &b, NULL), SBAG_OK);
  ck_assert_uint_eq((uintptr_t)a % 64, 0);
  ck_assert_uint_eq((uintptr_t)b % 64, 0);
  for (int i = 0; i < 50; i++) ck_assert_int_eq(((char *)b)[i], 0);
  mem_free(mem, a);
  mem_free(mem, NULL);
  mem_stats_t stats = mem_stats(mem);
  ck_assert_int_eq(stats.alloc_count, 2);
  ck_assert_int_eq(stats.live_bytes, 50);
  ck_assert_int_eq(stats.peak_bytes, 150);
  mem_free(mem, b);
  ck_assert_int_eq(mem_alloc(mem, 0, "nothing", &a, NULL), SBAG_OK);
  ck_assert_ptr_nonnull(a);
  mem_free(mem, a);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  ck_assert_int_eq(mem_stats(mem).peak_bytes, 150);
  mem_destroy(&mem);
  ck_assert_ptr_null(mem);
  mem_destroy(&mem);
  mem_destroy(NULL);
}
END_TEST

START_TEST(test_mem_realloc) {
  mem_t *mem = NULL;
  void *block = NULL;
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  ck_assert_int_eq(mem_realloc(mem, 4, "r", &block, NULL), SBAG_OK);
  memcpy(block, "abc", 4);
  ck_assert_int_eq(mem_realloc(mem, 100000, "r", &block, NULL), SBAG_OK);
  ck_assert_str_eq(block, "abc");
  ck_assert_int_eq(mem_stats(mem).live_bytes, 100000);
  ck_assert_int_eq(mem_realloc(mem, 2, "r", &block, NULL), SBAG_OK);
  ck_assert_mem_eq(block, "ab", 2);
  void *before = block;
  mem_fail_at(mem, 1);
  ck_assert_int_eq(mem_realloc(mem, 8, "r", &block, NULL), SBAG_ERR_MEMORY);
  ck_assert_ptr_eq(block, before);
  ck_assert_mem_eq(block, "ab", 2);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 2);
  mem_free(mem, block);
  mem_destroy(&mem);
}
END_TEST

START_TEST(test_mem_failures) {
  mem_t *mem = NULL;
  void *block = NULL;
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  mem_fail_at(mem, 2);
  ck_assert_int_eq(mem_alloc(mem, 8, "first", &block, &status), SBAG_OK);
  mem_free(mem, block);
  ck_assert_int_eq(mem_alloc(mem, 8, "reader: second", &block, &status), SBAG_ERR_MEMORY);
  ck_assert_str_eq(status.message, "reader: second: cannot allocate 8 bytes");
  ck_assert_int_eq(mem_alloc(mem, 8, "third", &block, &status), SBAG_OK);
  mem_free(mem, block);
  mem_fail_at(mem, 1);
  mem_fail_at(mem, 0);
  ck_assert_int_eq(mem_alloc(mem, 8, "fourth", &block, &status), SBAG_OK);
  mem_free(mem, block);
  ck_assert_int_eq(mem_alloc(mem, SIZE_MAX, "all", &block, &status), SBAG_ERR_MEMORY);
  ck_assert_int_eq(mem_calloc(mem, SIZE_MAX - 64, "all", &block, &status), SBAG_ERR_MEMORY);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}
END_TEST

START_TEST(test_mem_array_bytes) {
  ck_assert_uint_eq(mem_array_bytes(0, 8), 0);
  ck_assert_uint_eq(mem_array_bytes(((int64_t)1 << 31) + 1, 8), ((size_t)1 << 34) + 8);
  ck_assert_uint_eq(mem_array_bytes(INT64_MAX, 2), SIZE_MAX - 1);
  ck_assert_uint_eq(mem_array_bytes(INT64_MAX, 3), SIZE_MAX);
  ck_assert_uint_eq(mem_array_bytes(-1, 1), SIZE_MAX);
}
END_TEST

enum { MEM_THREADS = 4, MEM_ROUNDS = 2000 };

static void *use_mem(void *argument) {
  mem_t *mem = argument;
  for (int i = 0; i < MEM_ROUNDS; i++) {
    void *block = NULL;
    if (mem_alloc(mem, (size_t)i, "thread", &block, NULL) != SBAG_OK) return mem;
    mem_free(mem, block);
  }
  return NULL;
}

START_TEST(test_mem_threads) {
  mem_t *mem = NULL;
  pthread_t threads[MEM_THREADS];
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  for (int t = 0; t < MEM_THREADS; t++) ck_assert_int_eq(pthread_create(&threads[t], NULL, use_mem, mem), 0);
  for (int t = 0; t < MEM_THREADS; t++) {
    void *failed = NULL;
    ck_assert_int_eq(pthread_join(threads[t], &failed), 0);
    ck_assert_ptr_null(failed);
  }
  mem_stats_t stats = mem_stats(mem);
  ck_assert_int_eq(stats.alloc_count, MEM_THREADS * MEM_ROUNDS);
  ck_assert_int_eq(stats.live_bytes, 0);
  ck_assert_int_ge(stats.peak_bytes, MEM_ROUNDS - 1);
  ck_assert_int_le(stats.peak_bytes, MEM_THREADS * (MEM_ROUNDS - 1));
  mem_destroy(&mem);
}
END_TEST

/* The known answers that Random123 documents for philox4x32 with 10 rounds; our key and counter are packed
 * with the low words first. */
START_TEST(test_philox_known_answers) {
  static const struct {
    uint64_t key, hi, lo;
    uint32_t v[4];
  } known[] = {
      {0, 0, 0, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
      {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
      {0x299f31d0a4093822u,
       0x0370734413198a2eu,
       0x85a308d3243f6a88u,
       {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}},
  };
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    random_block_t block = random_block(known[i].key, known[i].hi, known[i].lo);
    ck_assert_mem_eq(block.v, known[i].v, sizeof block.v);
  }
  ck_assert_uint_eq(random_u64(0, 0), 0xe169c58d6627e8d5u);
}
END_TEST

START_TEST(test_random_key) {
  static const char *const names[] = {"", "a", "b", "ab", "ba", "table 1", "table 2"};
  enum { NAMES = 7, SEEDS = 3 };
  uint64_t keys[NAMES * SEEDS];
  for (int s = 0; s < SEEDS; s++)
    for (int n = 0; n < NAMES; n++) keys[s * NAMES + n] = random_key((uint64_t)s, names[n]);
  for (int i = 0; i < NAMES * SEEDS; i++)
    for (int j = 0; j < i; j++) ck_assert_uint_ne(keys[i], keys[j]);
  ck_assert_uint_eq(random_key(2, "ab"), keys[2 * NAMES + 3]);
}
END_TEST

START_TEST(test_random_units) {
  ck_assert(random_unit(0) > 0.0);
  ck_assert(random_unit(UINT32_MAX) < 1.0);
  ck_assert(random_unit(0x80000000u) == 0.5 + 1.0 / 8589934592.0);
  double sum = 0.0;
  enum { COUNT = 100000 };
  for (uint64_t i = 0; i < COUNT; i++) {
    double u = random_unit53(11, i);
    ck_assert(u >= 0.0 && u < 1.0);
    sum += u;
  }
  ck_assert_double_eq_tol(sum / COUNT, 0.5, 0.004);
}
END_TEST

START_TEST(test_random_below) {
  static const int64_t bounds[] = {1, 2, 3, 1000, (int64_t)1 << 40, INT64_MAX};
  for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
    int64_t least = INT64_MAX, most = -1;
    for (uint64_t i = 0; i < 20000; i++) {
      int64_t x = random_below(5, i, bounds[b]);
      ck_assert(x >= 0 && x < bounds[b]);
      if (x < least) least = x;
      if (x > most) most = x;
    }
    ck_assert_int_le(least, bounds[b] / 1000);
    ck_assert_int_ge(most, bounds[b] - 1 - bounds[b] / 1000);
  }
  enum { SIDES = 7, THROWS = 70000 };
  int hits[SIDES] = {0};
  for (uint64_t i = 0; i < THROWS; i++) hits[random_below(6, i, SIDES)]++;
  double chi2 = 0.0;
  for (int s = 0; s < SIDES; s++) chi2 += pow(hits[s] - THROWS / SIDES, 2) / (THROWS / SIDES);
  ck_assert_double_lt(chi2, 22.46); /* 6 degrees of freedom, 0.1 % */
}
END_TEST

START_TEST(test_random_normal) {
  enum { BLOCKS = 50000, COUNT = 4 * BLOCKS };
  double moment[5] = {0}, cross[4][4] = {{0}};
  for (uint64_t i = 0; i < BLOCKS; i++) {
    double z[4];
    random_normal4(random_block(7, 0, i), z);
    for (int a = 0; a < 4; a++) {
      ck_assert(isfinite(z[a]));
      for (int p = 1; p <= 4; p++) moment[p] += pow(z[a], p) / COUNT;
      for (int b = 0; b < a; b++) cross[a][b] += z[a] * z[b] / BLOCKS;
    }
  }
  ck_assert_double_eq_tol(moment[1], 0.0, 0.01);
  ck_assert_double_eq_tol(moment[2], 1.0, 0.02);
  ck_assert_double_eq_tol(moment[3], 0.0, 0.04);
  ck_assert_double_eq_tol(moment[4], 3.0, 0.12);
  for (int a = 0; a < 4; a++)
    for (int b = 0; b < a; b++) ck_assert_double_eq_tol(cross[a][b], 0.0, 0.02);
  double extreme[4];
  random_normal4((random_block_t){{0, 0, UINT32_MAX, UINT32_MAX}}, extreme);
  for (int a = 0; a < 4; a++) ck_assert(isfinite(extreme[a]));
}
END_TEST

/* Against libm's, at the ends of both words, around quarter turns, and spread over all. */
START_TEST(test_random_normal_is_exact) {
  static const uint32_t ends[] = {0,          1,          0x1FFFFFFF, 0x20000000,
                                  0x3FFFFFFF, 0x40000000, 0x80000000, 0xFFFFFFFF};
  for (uint32_t i = 0; i < 100000; i++) {
    const uint32_t v = i < 64 ? ends[i / 8] : i * 2654435761u, w = i < 64 ? ends[i % 8] : i * 2246822519u;
    const double radius = sqrt(-2 * log((2.0 * v + 1) / 8589934592.0));
    const double angle = 6.283185307179586476925286766559 * ((2.0 * w + 1) / 8589934592.0);
    double z[4];
    random_normal4((random_block_t){{v, w, w, v}}, z);
    ck_assert_double_eq_tol(z[0], radius * cos(angle), 1e-14);
    ck_assert_double_eq_tol(z[1], radius * sin(angle), 1e-14);
  }
}
END_TEST

/* The same of single precision; at the ends the first word is rounded to one of 31 bits, or of a float. */
START_TEST(test_random_normal_is_near) {
  static const uint32_t ends[] = {0,          1,          0x1FFFFFFF, 0x20000000,
                                  0x3FFFFFFF, 0x40000000, 0x80000000, 0xFFFFFFFF};
  double most = 0;
  for (uint32_t i = 0; i < 100000; i++) {
    const uint32_t v = i < 64 ? ends[i / 8] : i * 2654435761u, w = i < 64 ? ends[i % 8] : i * 2246822519u;
    const double u = (double)((float)(v >> 1) + 0.5f) / 2147483648.0;
    const double radius = 1.5 * sqrt(-2 * log(u)),
                 angle = 6.283185307179586476925286766559 * w / 4294967296.0;
    float z[4];
    random_normal4_single((random_block_t){{v, w, w, v}}, 1.5f, z);
    most = fmax(most, fabs((double)z[0] - radius * cos(angle)) / fmax(radius, 1e-9));
    most = fmax(most, fabs((double)z[1] - radius * sin(angle)) / fmax(radius, 1e-9));
  }
  ck_assert_double_lt(most, 2.5e-7);
  float z[4];
  random_normal4_single((random_block_t){{0, 0, UINT32_MAX, 5}}, 1, z);
  ck_assert(z[0] > 6.6f && z[0] < 6.7f && z[1] == 0 && z[2] == 0 && z[3] == 0);
}
END_TEST

static void check_bijection(uint64_t key, int64_t n) {
  char *seen = calloc((size_t)n, 1);
  ck_assert_ptr_nonnull(seen);
  for (int64_t i = 0; i < n; i++) {
    int64_t p = random_permute(key, n, i);
    ck_assert(p >= 0 && p < n && !seen[p]);
    seen[p] = 1;
    ck_assert_int_eq(random_permute_inverse(key, n, p), i);
  }
  free(seen);
}

START_TEST(test_permute_is_a_bijection) {
  static const int64_t larger[] = {63, 64, 65, 127, 128, 129, 1000, 4095, 4096, 4097, 65537, 100003};
  for (int64_t n = 1; n <= 40; n++)
    for (uint64_t key = 0; key < 5; key++) check_bijection(key, n);
  for (size_t i = 0; i < sizeof larger / sizeof larger[0]; i++) check_bijection(99, larger[i]);
}
END_TEST

START_TEST(test_permute_beyond_int) {
  int64_t n = ((int64_t)1 << 31) + 1000, last = -1;
  double step = 0.0;
  enum { SAMPLES = 20000 };
  for (int64_t k = 0; k < SAMPLES; k++) {
    int64_t i = n - SAMPLES + k; /* the last ones; neighbours must part */
    int64_t p = random_permute(3, n, i);
    ck_assert(p >= 0 && p < n);
    ck_assert_int_eq(random_permute_inverse(3, n, p), i);
    if (k > 0) step += fabs((double)(p - last)) / (SAMPLES - 1);
    last = p;
  }
  ck_assert_double_eq_tol(step / (double)n, 1.0 / 3.0, 0.01);
  int64_t same = 0;
  for (int64_t i = 0; i < 1000; i++) same += random_permute(3, n, i) == random_permute(4, n, i);
  ck_assert_int_le(same, 1);
}
END_TEST

Suite *base_suite(void) {
  Suite *suite = suite_create("base");
  TCase *tcase = tcase_create("base");
  tcase_set_timeout(tcase, 60); /* sanitizers on a busy machine */
  tcase_add_test(tcase, test_status_set);
  tcase_add_test(tcase, test_status_is_one_short_line);
  tcase_add_test(tcase, test_status_prefix);
  tcase_add_test(tcase, test_code_names);
  tcase_add_test(tcase, test_try);
  tcase_add_test(tcase, test_mem_counts);
  tcase_add_test(tcase, test_mem_realloc);
  tcase_add_test(tcase, test_mem_failures);
  tcase_add_test(tcase, test_mem_array_bytes);
  tcase_add_test(tcase, test_mem_threads);
  tcase_add_test(tcase, test_philox_known_answers);
  tcase_add_test(tcase, test_random_key);
  tcase_add_test(tcase, test_random_units);
  tcase_add_test(tcase, test_random_below);
  tcase_add_test(tcase, test_random_normal);
  tcase_add_test(tcase, test_random_normal_is_exact);
  tcase_add_test(tcase, test_random_normal_is_near);
  tcase_add_test(tcase, test_permute_is_a_bijection);
  tcase_add_test(tcase, test_permute_beyond_int);
  suite_add_tcase(suite, tcase);
  return suite;
}
