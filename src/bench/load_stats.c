/* Arrivals, percentiles and the search: see load_stats.h. */
#include "bench/load_stats.h"

#include "base/random.h"
#include "base/sort.h"

#include <math.h>
#include <string.h>

enum { RATE_MAX = 1000000 };

int64_t load_arrivals(double rate, double seconds, int64_t seed, double *due_s) {
  uint64_t key = random_key((uint64_t)seed, "bench: arrivals");
  double at_s = 0;
  int64_t count = 0;
  for (;; count++) {
    at_s -= log1p(-random_unit53(key, (uint64_t)count)) / rate;
    if (at_s >= seconds) return count;
    if (due_s != NULL) due_s[count] = at_s;
  }
}

static double at_rank(const double *sorted, int64_t count, double p) {
  int64_t rank = (int64_t)ceil(p * (double)count);
  return sorted[rank > 0 ? rank - 1 : 0];
}

load_percentiles_t load_percentiles(double *values, int64_t count) {
  load_percentiles_t found = {.max = 0};
  if (count == 0) return found;
  double sum = 0;
  sort_reals(values, count);
  for (int64_t i = 0; i < count; i++) sum += values[i];
  found.p50 = at_rank(values, count, 0.5);
  found.p90 = at_rank(values, count, 0.9);
  found.p99 = at_rank(values, count, 0.99);
  found.p999 = at_rank(values, count, 0.999);
  found.max = values[count - 1];
  found.mean = sum / (double)count;
  return found;
}

static void count_status(load_point_t *point, int status) {
  int at = 0;
  while (at < point->status_count && point->statuses[at].status != status) at++;
  if (at >= LOAD_STATUSES - 1) {
    at = LOAD_STATUSES - 1;
    status = 0;
  }
  if (at >= point->status_count) point->status_count = at + 1;
  point->statuses[at].status = status;
  point->statuses[at].count++;
}

static void count_request(const load_request_t *r, load_point_t *point) {
  point->requests++;
  count_status(point, r->status);
  if (r->invalid && r->status == 400)
    point->refused++;
  else if (r->status == (r->invalid ? 200 : 400))
    point->wrong++;
  else if (r->status == 200)
    point->answered++;
  else
    point->failed++;
}

typedef enum span { DUE_TO_DONE, SENT_TO_DONE, DUE_TO_SENT } span_t;

static load_percentiles_t spans(const load_request_t *requests, int64_t count, double warmup_s, span_t span,
                                double *scratch) {
  int64_t taken = 0;
  for (int64_t i = 0; i < count; i++) {
    const load_request_t *r = &requests[i];
    int counts = span == DUE_TO_SENT ? r->status != LOAD_NOT_SENT : r->status == 200 && !r->invalid;
    if (!counts || r->due_s < warmup_s) continue;
    double from_s = span == SENT_TO_DONE ? r->sent_s : r->due_s;
    scratch[taken++] = 1e3 * ((span == DUE_TO_SENT ? r->sent_s : r->done_s) - from_s);
  }
  return load_percentiles(scratch, taken);
}

void load_summarize(const load_request_t *requests, int64_t count, double warmup_s, double *scratch,
                    load_point_t *point) {
  double last_s = warmup_s;
  for (int64_t i = 0; i < count; i++) {
    if (requests[i].due_s < warmup_s) continue;
    count_request(&requests[i], point);
    if (requests[i].status == 200 && requests[i].done_s > last_s) last_s = requests[i].done_s;
  }
  if (last_s < warmup_s + point->seconds) last_s = warmup_s + point->seconds;
  point->answered_per_s = (double)point->answered / (last_s - warmup_s);
  point->latency = spans(requests, count, warmup_s, DUE_TO_DONE, scratch);
  point->service = spans(requests, count, warmup_s, SENT_TO_DONE, scratch);
  point->late = spans(requests, count, warmup_s, DUE_TO_SENT, scratch);
}

int load_holds(const load_point_t *p, double errors, double p99_ms) {
  if (p->answered == 0 || (double)(p->failed + p->wrong) > errors * (double)p->requests) return 0;
  return p->latency.p99 <= p99_ms && p->answered_per_s * p->seconds >= 0.95 * (double)p->answered;
}

/* Between `low`, a rate that holds, and `high`, one that does not; 0: none is known. */
typedef struct search {
  load_try_fn *try_rate;
  void *user;
  double low, high;
} search_t;

/* A rate that fails is given a second chance: another program may have had the machine. */
static sbag_code_t narrow(search_t *s, double rate, sbag_status_t *status) {
  int holds = 0;
  SBAG_TRY(s->try_rate(s->user, rate, &holds, status));
  if (!holds) SBAG_TRY(s->try_rate(s->user, rate, &holds, status));
  if (holds)
    s->low = rate;
  else
    s->high = rate;
  return SBAG_OK;
}

sbag_code_t load_search(double from, load_try_fn *try_rate, void *user, double *found,
                        sbag_status_t *status) {
  search_t s = {.try_rate = try_rate, .user = user};
  *found = 0;
  for (double rate = from; s.high == 0 && rate <= RATE_MAX; rate *= 2) SBAG_TRY(narrow(&s, rate, status));
  for (double rate = s.high / 2; s.low == 0 && rate >= 1; rate /= 2) SBAG_TRY(narrow(&s, rate, status));
  while (s.low > 0 && s.high > 1.1 * s.low) SBAG_TRY(narrow(&s, sqrt(s.low * s.high), status));
  *found = s.low;
  return SBAG_OK;
}
