/* The trace of a rank's time: what belongs to phases, to waits, and what is hidden. */
#include "comm/trace.h"

#include "base/clock.h"
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

Suite *trace_suite(void);

static void pass_ms(long ms) {
  const struct timespec span = {.tv_nsec = ms * 1000000};
  nanosleep(&span, NULL);
}

static const comm_trace_row_t *row(const comm_trace_t *trace, const char *name, int is_transfer) {
  for (int i = 0; i < trace->row_count; i++)
    if (trace->rows[i].is_transfer == is_transfer && strcmp(trace->rows[i].name, name) == 0)
      return &trace->rows[i];
  ck_abort_msg("no row '%s'", name);
  return NULL;
}

/* A sleep takes what it is told or more; the whole is bounded by the clock around it. */
static void check_between(double seconds, double least_ms, double most_s) {
  ck_assert_msg(seconds >= 1e-3 * least_ms && seconds <= most_s, "%g s, not %g ms to %g s", seconds, least_ms,
                most_s);
}

START_TEST(test_phases_and_waits) {
  comm_trace_t trace = {.row_count = 0};
  comm_trace_span_t span;
  double start_s = clock_now();
  ck_assert_ptr_null(comm_trace_phase(&trace, "alone"));
  pass_ms(4);
  ck_assert_str_eq(comm_trace_phase(&trace, "work"), "alone");
  comm_trace_begin(&trace, &span, 77);
  pass_ms(5); /* under way, and at work */
  comm_trace_wait(&trace);
  pass_ms(6);
  comm_trace_done(&trace, &span);
  comm_trace_done(&trace, &span); /* again: nothing */
  comm_trace_waited_for(&trace, "vectors", &span);
  pass_ms(2); /* at work, with nothing under way */
  ck_assert_str_eq(comm_trace_phase(&trace, NULL), "work");
  double all_s = clock_now() - start_s;
  pass_ms(3); /* outside of any phase */
  comm_trace_phase(&trace, NULL);
  ck_assert_int_eq(trace.row_count, 3);
  const comm_trace_row_t *alone = row(&trace, "alone", 0), *work = row(&trace, "work", 0);
  const comm_trace_row_t *vectors = row(&trace, "vectors", 1);
  check_between(alone->seconds, 4, all_s);
  ck_assert(alone->hidden_s == 0.0);
  check_between(work->seconds, 7, all_s);
  check_between(work->hidden_s, 5, work->seconds - 0.002);
  check_between(vectors->seconds, 6, all_s);
  check_between(vectors->hidden_s, 5, work->seconds);
  ck_assert_int_eq(vectors->bytes, 77);
  ck_assert(comm_trace_waited(&trace) == vectors->seconds);
  double sum_s = alone->seconds + work->seconds + vectors->seconds;
  check_between(sum_s, 17, all_s);
  ck_assert_double_gt(sum_s, all_s - 1e-3);
}
END_TEST

/* While one transfer is waited for, the other one is under way but nothing is hidden. */
START_TEST(test_a_wait_hides_nothing) {
  comm_trace_t trace = {.row_count = 0};
  comm_trace_span_t first, second;
  comm_trace_phase(&trace, "work");
  comm_trace_begin(&trace, &first, 1);
  comm_trace_begin(&trace, &second, 2);
  comm_trace_wait(&trace);
  pass_ms(5);
  comm_trace_done(&trace, &first);
  comm_trace_waited_for(&trace, "first", &first);
  comm_trace_wait(&trace);
  comm_trace_done(&trace, &second);
  comm_trace_waited_for(&trace, "second", &second);
  ck_assert_double_lt(row(&trace, "second", 1)->hidden_s, 0.004);
  ck_assert_int_eq(trace.under_way, 0);
}
END_TEST

/* Looking at what is under way is no work that it hides behind. */
START_TEST(test_a_look_hides_nothing) {
  comm_trace_t trace = {.row_count = 0};
  comm_trace_span_t span;
  comm_trace_phase(&trace, "work");
  comm_trace_begin(&trace, &span, 1);
  const char *phase = comm_trace_phase(&trace, comm_trace_progress);
  pass_ms(5);
  comm_trace_done(&trace, &span);
  comm_trace_phase(&trace, phase);
  comm_trace_wait(&trace);
  comm_trace_waited_for(&trace, "ids", &span);
  const comm_trace_row_t *look = row(&trace, comm_trace_progress, 0);
  ck_assert_double_ge(look->seconds, 0.005);
  ck_assert(look->hidden_s == 0.0);
  ck_assert_double_lt(row(&trace, "ids", 1)->hidden_s, 0.004);
}
END_TEST

/* The same words at another address are the same row; a phase and a transfer of one name are two. */
START_TEST(test_names) {
  comm_trace_t trace = {.row_count = 0};
  comm_trace_span_t span = {.open = 0};
  char copy[] = "ids";
  comm_trace_phase(&trace, "ids");
  comm_trace_phase(&trace, copy);
  comm_trace_wait(&trace);
  comm_trace_waited_for(&trace, "ids", &span);
  ck_assert_int_eq(trace.row_count, 2);
}
END_TEST

/* More names than rows: the last one takes the rest, and nothing is written beyond. */
START_TEST(test_too_many_names) {
  static char names[COMM_TRACE_ROWS + 9][24];
  struct {
    comm_trace_t trace;
    char guard[64];
  } t;
  memset(&t, 0, sizeof t);
  for (int i = 0; i < COMM_TRACE_ROWS + 9; i++) {
    snprintf(names[i], sizeof names[i], "phase %d", i);
    comm_trace_phase(&t.trace, names[i]);
  }
  comm_trace_phase(&t.trace, NULL);
  ck_assert_int_eq(t.trace.row_count, COMM_TRACE_ROWS);
  ck_assert_str_eq(t.trace.rows[COMM_TRACE_ROWS - 1].name, names[COMM_TRACE_ROWS - 1]);
  for (size_t i = 0; i < sizeof t.guard; i++) ck_assert_int_eq(t.guard[i], 0);
}
END_TEST

Suite *trace_suite(void) {
  Suite *suite = suite_create("trace");
  TCase *tc = tcase_create("trace");
  tcase_add_test(tc, test_phases_and_waits);
  tcase_add_test(tc, test_a_wait_hides_nothing);
  tcase_add_test(tc, test_a_look_hides_nothing);
  tcase_add_test(tc, test_names);
  tcase_add_test(tc, test_too_many_names);
  suite_add_tcase(suite, tc);
  return suite;
}
