/* Places in runs and positions in bags: bags of edges, dealt to owners at random. */
#include "kernel_case.h"

#include <string.h>

Suite *kernel_places_suite(void);

enum { ROUNDS = 120, OWNERS = 3 };

/* Bags, their edges grouped by owner, and the runs of that. Host arrays; the device's are in `places`. */
typedef struct dealt {
  int64_t slots, edges, runs;
  int64_t *slot_begin, *order, *run_begin, *run_slot, *shift;
  run_places_t places;
} dealt_t;

static void check_ints(const char *what, const int64_t *got, const int64_t *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(got[i] == wanted[i], "%s[%lld] is %lld, not %lld", what, (long long)i, (long long)got[i],
                  (long long)wanted[i]);
}

static void find_runs(dealt_t *d, const int64_t *owner, const int64_t *slot) {
  int64_t edges = 0;
  for (int o = 0; o < OWNERS; o++)
    for (int64_t e = 0, before = -1; e < d->edges; e++) {
      if (owner[e] != o) continue;
      if (slot[e] != before) {
        d->run_begin[d->runs] = edges;
        d->run_slot[d->runs] = slot[e];
        d->shift[d->runs++] = e != d->slot_begin[slot[e]];
      }
      d->order[edges++] = e;
      before = slot[e];
    }
  d->run_begin[d->runs] = edges;
}

/* Owners seldom change, often, or never: runs of neighbours and scattered ones. */
static dealt_t deal(kernel_case_t *c, draw_t *draw) {
  dealt_t d = {.slots = draw_between(draw, 0, 20)};
  int64_t seldom = draw_between(draw, 1, 4);
  d.slot_begin = kernel_draw_segments(c, draw, d.slots, 9);
  d.edges = d.slot_begin[d.slots];
  int64_t *owner = arena_ints(&c->arena, d.edges), *slot = arena_ints(&c->arena, d.edges);
  d.order = arena_ints(&c->arena, d.edges);
  d.run_begin = arena_ints(&c->arena, d.edges + 1);
  d.run_slot = arena_ints(&c->arena, d.edges);
  d.shift = arena_ints(&c->arena, d.edges);
  for (int64_t s = 0; s < d.slots; s++)
    for (int64_t e = d.slot_begin[s]; e < d.slot_begin[s + 1]; e++) slot[e] = s;
  for (int64_t e = 0; e < d.edges; e++)
    owner[e] = e > 0 && !draw_one_in(draw, seldom) ? owner[e - 1] : draw_below(draw, OWNERS);
  find_runs(&d, owner, slot);
  d.places = (run_places_t){.dim = draw_between(draw, 1, 5),
                            .run_begin = kernel_put_ints(c, d.run_begin, d.runs + 1),
                            .run_slot = kernel_put_ints(c, d.run_slot, d.runs),
                            .order = kernel_put_ints(c, d.order, d.edges),
                            .slot_begin = kernel_put_ints(c, d.slot_begin, d.slots + 1)};
  d.places.first = draw_between(draw, 0, d.runs);
  d.places.end = draw_between(draw, d.places.first, d.runs);
  return d;
}

/* A list of `count` that says where the op wrote: the rest of it must stay. */
static int64_t *unset(kernel_case_t *c, int64_t count) {
  return kernel_get_ints(c, kernel_new_ints(c, count), count);
}

START_TEST(shifts_and_places_of_edges) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    draw_t draw = draw_start(1, number);
    kernel_case_open(&c, _i);
    dealt_t d = deal(&c, &draw);
    run_places_t *p = &d.places;
    int64_t *shift = kernel_new_ints(&c, d.runs), *place = kernel_new_ints(&c, d.edges);
    int64_t *shifts = unset(&c, d.runs), *wanted = unset(&c, d.edges);
    for (int64_t r = p->first; r < p->end; r++) {
      shifts[r] = d.shift[r];
      for (int64_t i = d.run_begin[r]; i < d.run_begin[r + 1]; i++) {
        wanted[i] = d.shift[r] + i - d.run_begin[r];
        ck_assert((wanted[i] == 0) == (d.order[i] == d.slot_begin[d.run_slot[r]]));
      }
    }
    c.ops->run_shifts(c.kernel, NULL, p, shift);
    check_ints("shift", kernel_get_ints(&c, shift, d.runs), shifts, d.runs);
    p->shift = shift;
    c.ops->edge_places(c.kernel, NULL, p, place);
    check_ints("place", kernel_get_ints(&c, place, d.edges), wanted, d.edges);
    kernel_case_close(&c);
  }
}
END_TEST

/* Each bag has a winner a column, a position or none; runs find theirs, and lead back to it. */
START_TEST(winners_in_runs_and_back) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    draw_t draw = draw_start(2, number);
    kernel_case_open(&c, _i);
    dealt_t d = deal(&c, &draw);
    run_places_t *p = &d.places;
    int64_t dim = p->dim, stride = dim + draw_below(&draw, 3), some = (p->end - p->first) * dim;
    int64_t *winner = arena_ints(&c.arena, d.slots * stride), *at = arena_ints(&c.arena, d.runs);
    int64_t *places = arena_ints(&c.arena, some), *positions = arena_ints(&c.arena, some);
    for (int64_t s = 0; s < d.slots; s++)
      for (int64_t col = 0; col < dim; col++)
        winner[s * stride + col] = draw_between(&draw, -1, d.slot_begin[s + 1] - d.slot_begin[s] - 1);
    for (int64_t r = 0; r < d.runs; r++) at[r] = d.run_slot[r] * stride;
    for (int64_t r = p->first; r < p->end; r++)
      for (int64_t col = 0; col < dim; col++) {
        int64_t won = winner[at[r] + col], *place = &places[(r - p->first) * dim + col];
        *place = positions[(r - p->first) * dim + col] = -1;
        for (int64_t i = d.run_begin[r]; i < d.run_begin[r + 1] && won >= 0; i++)
          if (d.order[i] == d.slot_begin[d.run_slot[r]] + won) {
            *place = i - d.run_begin[r] + d.shift[r];
            positions[(r - p->first) * dim + col] = won;
          }
      }
    int64_t *got = kernel_new_ints(&c, some);
    p->shift = kernel_put_ints(&c, d.shift, d.runs);
    c.ops->positions_to_places(c.kernel, NULL, p, kernel_put_ints(&c, winner, d.slots * stride),
                               kernel_put_ints(&c, at, d.runs), got);
    check_ints("place", kernel_get_ints(&c, got, some), places, some);
    c.ops->places_to_positions(c.kernel, NULL, p, got);
    check_ints("position", kernel_get_ints(&c, got, some), positions, some);
    kernel_case_close(&c);
  }
}
END_TEST

Suite *kernel_places_suite(void) {
  Suite *suite = suite_create("kernel_places");
  TCase *test_case = tcase_create("kernel_places");
  tcase_add_loop_test(test_case, shifts_and_places_of_edges, 0, kernel_case_count());
  tcase_add_loop_test(test_case, winners_in_runs_and_back, 0, kernel_case_count());
  suite_add_tcase(suite, test_case);
  return suite;
}
