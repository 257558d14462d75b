/* Batches on all ranks. */
#include "serve/engine.h"

#include "base/clock.h"
#include "collection/load.h"
#include "dense/gemm.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What rank 0 tells. */
enum {
  WORD_PREDICTION = SERVE_PREDICTION,
  WORD_EMBEDDINGS = SERVE_EMBEDDINGS,
  WORD_CHECK,
  WORD_CALL,
  WORD_LOAD,
  WORD_RESUME,
  WORD_DROP,
  WORD_FINISH, /* the batch that is ahead, without a next one */
  WORD_END
};
enum { CALL_S = 5, TURN_MS = 20, TURN_BATCHES = 4 };
enum {
  NOW_SAMPLES = 8,
  NOW_LOOKUPS = 4096
}; /* of a request that is not queued: no loop takes several threads */

sbag_code_t engine_open(engine_t *e, int table_count, sbag_status_t *status) {
  void *block = NULL;
  const int64_t count = (int64_t)table_count * comm_size(e->comm);
  SBAG_TRY(mem_alloc(e->mem, mem_array_bytes(ENGINE_FLIGHTS * count, sizeof(int64_t)), "serving: counts",
                     &block, status));
  for (int i = 0; i < ENGINE_FLIGHTS; i++)
    e->flights[i] = (engine_flight_t){.number = i, .lookups = (int64_t *)block + i * count};
  e->ahead = NULL;
  e->called_s = clock_now();
  atomic_init(&e->busy_us, (long long)(e->called_s * 1e6)); /* until all ranks are there */
  return SBAG_OK;
}

void engine_close(engine_t *e) {
  mem_free(e->mem, e->flights[0].lookups);
  memset(e->flights, 0, sizeof e->flights);
}

static void clear_seat(engine_seat_t *s) {
  for (int i = 0; i < ENGINE_FLIGHTS; i++) batch_clear(&s->batches[i]);
  pieces_clear(&s->pieces);
}

sbag_code_t engine_take_seat(engine_t *e, int seat, model_t *model, const model_config_t *config,
                             const int64_t *piece_rows, sbag_status_t *status) {
  engine_seat_t *s = &e->seats[seat];
  sbag_code_t code = pieces_create(config, piece_rows, e->mem, &s->pieces, status);
  for (int i = 0; i < ENGINE_FLIGHTS && code == SBAG_OK; i++)
    code = batch_create(config, e->mem, &s->batches[i], status);
  if (code != SBAG_OK) {
    clear_seat(s);
    return code;
  }
  s->model = model;
  s->config = config;
  return SBAG_OK;
}

/* In a broken comm the transport may still read a batch's memory: it then lives until the process ends. */
void engine_leave_seat(engine_t *e, int seat) {
  engine_seat_t *s = &e->seats[seat];
  if (s->model != NULL && comm_check(e->comm, NULL) == SBAG_OK) clear_seat(s);
  memset(s, 0, sizeof *s);
}

/* ---- pieces that nobody has read yet, on all ranks ---- */

static int has_rows_of(const engine_seat_t *s, int table, int64_t piece) {
  int64_t first = 0, rows = 0, begin = piece * s->pieces.rows[table];
  collection_mapped_rows(model_collection(s->model), table, &first, &rows);
  return rows > 0 && begin < first + rows && first < begin + s->pieces.rows[table];
}

/* Each rank those that it has rows of; what one finds all know. */
static sbag_code_t check_list(engine_t *e, int seat, sbag_status_t *status) {
  engine_seat_t *s = &e->seats[seat];
  pieces_t *p = &s->pieces;
  const int64_t bytes = p->count * (int64_t)sizeof *p->list;
  SBAG_TRY(comm_broadcast(e->comm, p->list, bytes, 0, "serving: pieces", status));
  for (int64_t i = 0; i < p->count; i++) {
    int64_t piece = 0;
    int table = pieces_table(p, p->list[i], &piece);
    p->damaged[i] = has_rows_of(s, table, piece) && e->check(e->user, seat, table, piece, NULL) != SBAG_OK;
  }
  SBAG_TRY(comm_allreduce(e->comm, p->damaged, p->count, COMM_I32, COMM_MAX, "serving: pieces", status));
  pieces_note(p);
  return SBAG_OK;
}

/* ---- batches under way, on all ranks ---- */

static int64_t columns_of(const engine_seat_t *s, int64_t word) {
  return word == WORD_EMBEDDINGS ? sbag_collection_output_dim(model_collection(s->model))
                                 : model_output_count(s->model);
}

/* The one that is free. */
static engine_flight_t *next_flight(engine_t *e) {
  return e->ahead == &e->flights[0] ? &e->flights[1] : &e->flights[0];
}

/* A batch with its tickets, or none, in memory; nothing is under way yet. */
static sbag_code_t load_flight(engine_t *e, engine_flight_t *f, int64_t word, int seat, ticket_t *tickets,
                               sbag_status_t *status) {
  engine_seat_t *s = &e->seats[seat];
  batch_t *b = &s->batches[f->number];
  f->word = word;
  f->seat = seat;
  f->tickets = tickets;
  f->open = 0;
  status_clear(&f->end);
  SBAG_TRY(batch_join(b, tickets, status));
  SBAG_TRY(batch_room(b, columns_of(s, word), status));
  f->batch = (model_batch_t){
      .samples = b->samples, .global_samples = b->samples, .dense = b->dense, .features = b->bags};
  return SBAG_OK;
}

static void begin_flight(engine_t *e, engine_flight_t *f) {
  model_t *model = e->seats[f->seat].model;
  if (f->word == WORD_EMBEDDINGS)
    (void)sbag_collection_prefetch(model_collection(model), f->batch.features,
                                   SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_INDICES, &f->step, &f->end);
  else
    (void)model_predict_begin(model, &f->batch, &f->step, &f->end);
}

/* The ids come to their owners, who pool, and whose vectors start. */
static void open_flight(engine_flight_t *f) {
  if (f->open || f->end.code != SBAG_OK) return;
  f->open = 1;
  (void)sbag_step_forward_begin(f->step, &f->end);
}

/* The vectors come in. */
static void gather_flight(engine_t *e, engine_flight_t *f) {
  engine_seat_t *s = &e->seats[f->seat];
  if (f->end.code != SBAG_OK) return;
  if (f->word == WORD_EMBEDDINGS)
    (void)sbag_step_forward_end(f->step, s->batches[f->number].outputs, &f->end);
  else
    (void)model_predict_gather(s->model, &f->batch, f->step, &f->end);
}

/* The layers, and the answers. */
static void finish_flight(engine_t *e, engine_flight_t *f) {
  engine_seat_t *s = &e->seats[f->seat];
  if (f->end.code == SBAG_OK && f->word == WORD_PREDICTION)
    (void)model_predict_finish(s->model, &f->batch, s->batches[f->number].outputs, &f->end);
  const sbag_step_stats_t moved = f->step != NULL ? sbag_step_stats(f->step) : (sbag_step_stats_t){0};
  sbag_step_release(&f->step);
  if (f->tickets == NULL) return;
  counters_exchange(e->metrics, moved.bytes_sent, moved.bytes_received);
  if (f->end.code == SBAG_OK) {
    batch_deal(&s->batches[f->number], f->tickets, model_output_count(s->model));
    counters_batch(e->metrics, s->batches[f->number].tickets, f->batch.samples, f->lookups);
  }
  engine_answer(f->tickets, f->end.code, &f->end);
  f->tickets = NULL;
}

/* next NULL: none has begun behind it. */
static void end_flight(engine_t *e, engine_flight_t *f, engine_flight_t *next) {
  open_flight(f);
  gather_flight(e, f);
  if (next != NULL) open_flight(next);
  finish_flight(e, f);
}

/* What is ahead ends, behind it `fresh`, which has begun: unless more follows, which it then waits for. fresh
 * NULL: none has. All ranks come here with the same. */
static sbag_code_t go_on(engine_t *e, engine_flight_t *fresh, int more, sbag_status_t *status) {
  engine_flight_t *ahead = e->ahead;
  e->ahead = NULL;
  if (ahead != NULL) end_flight(e, ahead, fresh);
  if (fresh != NULL && more && comm_check(e->comm, NULL) == SBAG_OK)
    e->ahead = fresh;
  else if (fresh != NULL)
    end_flight(e, fresh, NULL);
  return comm_check(e->comm, status);
}

/* ---- rank 0 ---- */

/* From here on other ranks are waited for. */
static void begin_work(engine_t *e) {
  atomic_store(&e->busy_us, (long long)(clock_now() * 1e6));
}

/* In a broken comm it never ends. */
static void end_work(engine_t *e) {
  if (comm_check(e->comm, NULL) == SBAG_OK) atomic_store(&e->busy_us, 0);
}

static sbag_code_t tell_more(engine_t *e, int64_t word, int64_t number, int seat, int more,
                             sbag_status_t *status) {
  e->word[0] = word;
  e->word[1] = number;
  e->word[2] = seat;
  e->word[3] = more;
  e->called_s = clock_now();
  if (comm_size(e->comm) == 1) return SBAG_OK;
  return comm_broadcast(e->comm, e->word, (int64_t)sizeof e->word, 0, "serving: a batch", status);
}

static sbag_code_t tell(engine_t *e, int64_t word, int64_t number, int seat, sbag_status_t *status) {
  return tell_more(e, word, number, seat, 0, status);
}

/* The answer belongs to the thread that is told of it. */
void engine_answer(ticket_t *tickets, sbag_code_t code, const sbag_status_t *status) {
  double now_s = clock_now();
  while (tickets != NULL) {
    ticket_t *next = tickets->next;
    tickets->code = code;
    if (code != SBAG_OK) tickets->status = *status;
    tickets->done_s = now_s;
    tickets->answered(tickets);
    tickets = next;
  }
}

static void count_feature(const engine_t *e, const engine_flight_t *f, const sbag_bags_t *bags, int table) {
  int ranks = comm_size(e->comm), rank = 0;
  int64_t *to = f->lookups + (int64_t)table * ranks, local = 0;
  const int64_t *indices = bags->indices;
  sbag_collection_h collection = model_collection(e->seats[f->seat].model);
  if (ranks == 1) to[0] += bags->index_count;
  for (int64_t i = 0; ranks > 1 && i < bags->index_count; i++)
    if (sbag_collection_locate(collection, table, indices[i], &rank, &local, NULL) == SBAG_OK) to[rank]++;
}

/* Which rows whose owners look up. */
static void count_lookups(const engine_t *e, const engine_flight_t *f) {
  const model_config_t *config = e->seats[f->seat].config;
  memset(f->lookups, 0, (size_t)config->table_count * (size_t)comm_size(e->comm) * sizeof *f->lookups);
  for (int i = 0; i < config->feature_count; i++)
    count_feature(e, f, &f->batch.features[i], config->features[i].table);
}

static sbag_code_t check_touched(engine_t *e, const ticket_t *tickets, sbag_status_t *status) {
  engine_seat_t *s = &e->seats[tickets->seat];
  pieces_list(&s->pieces, s->config, tickets);
  if (s->pieces.count == 0) return SBAG_OK;
  SBAG_TRY(tell(e, WORD_CHECK, s->pieces.count, tickets->seat, status));
  return check_list(e, tickets->seat, status);
}

static void tell_damaged(const engine_seat_t *s, ticket_t *ticket, int64_t number) {
  int64_t piece = 0;
  int table = pieces_table(&s->pieces, number, &piece);
  const sbag_table_options_t *of = &s->config->tables[table];
  const int64_t first = piece * s->pieces.rows[table], end = first + s->pieces.rows[table];
  sbag_status_t status;
  status_set(&status, SBAG_ERR_FORMAT,
             "the checkpoint's table '%s' is damaged: rows %" PRId64 " to %" PRId64
             " do not match their checksum",
             of->name, first, (end < of->num_embeddings ? end : of->num_embeddings) - 1);
  ticket->next = NULL;
  engine_answer(ticket, SBAG_ERR_FORMAT, &status);
}

/* Those that look damaged rows up are told so; the rest is returned. */
static ticket_t *sort_out(engine_t *e, ticket_t *tickets) {
  const engine_seat_t *s = &e->seats[tickets->seat];
  ticket_t *kept = NULL, **end = &kept;
  if (s->pieces.bad == 0) return tickets;
  while (tickets != NULL) {
    ticket_t *ticket = tickets;
    tickets = ticket->next;
    int64_t damaged = pieces_damaged(&s->pieces, s->config, ticket);
    if (damaged >= 0) {
      tell_damaged(s, ticket, damaged);
      continue;
    }
    *end = ticket;
    end = &ticket->next;
  }
  *end = NULL;
  return kept;
}

/* What can be answered without the others is: tickets that look damaged rows up, or that there is no memory
 * for. *fresh: the batch of the rest, or NULL. */
static sbag_code_t prepare(engine_t *e, ticket_t *tickets, engine_flight_t **fresh, sbag_status_t *status) {
  engine_flight_t *f = next_flight(e);
  *fresh = NULL;
  if (tickets == NULL) return SBAG_OK;
  sbag_code_t code = check_touched(e, tickets, status);
  if (code == SBAG_OK) tickets = sort_out(e, tickets);
  if (code == SBAG_OK && tickets == NULL) return SBAG_OK;
  if (code == SBAG_OK)
    code = load_flight(e, f, tickets->request.signature->kind, tickets->seat, tickets, status);
  if (code == SBAG_OK)
    *fresh = f;
  else
    engine_answer(tickets, code, status);
  return comm_check(e->comm, status);
}

static sbag_code_t launch(engine_t *e, engine_flight_t *f, int more, sbag_status_t *status) {
  if (e->ahead != NULL) counters_overlap(e->metrics);
  sbag_code_t code = tell_more(e, f->word, f->batch.samples, f->seat, more, status);
  if (code != SBAG_OK) {
    engine_answer(f->tickets, code, status);
    return code;
  }
  begin_flight(e, f);
  count_lookups(e, f); /* while they travel */
  return SBAG_OK;
}

/* The comm is broken: whoever waits for the batch ahead is told. */
static sbag_code_t abandon(engine_t *e, sbag_status_t *status) {
  if (e->ahead != NULL) end_flight(e, e->ahead, NULL);
  e->ahead = NULL;
  return comm_check(e->comm, status);
}

/* One batch behind what is ahead; tickets NULL: none. may_follow: whether another one may overlap with it. */
static sbag_code_t run_batch(engine_t *e, ticket_t *tickets, int may_follow, sbag_status_t *status) {
  engine_flight_t *fresh = NULL;
  begin_work(e);
  SBAG_TRY(prepare(e, tickets, &fresh, status));
  int more = fresh != NULL && may_follow && queue_ready(e->queue, e->window_s, e->max_batch);
  if (fresh != NULL)
    SBAG_TRY(launch(e, fresh, more, status));
  else if (e->ahead != NULL)
    SBAG_TRY(tell(e, WORD_FINISH, 0, 0, status));
  return go_on(e, fresh, more, status);
}

/* Rank 0 alone has all rows at hand: there is nothing to overlap with. */
static sbag_code_t run_batches(engine_t *e, ticket_t *tickets, sbag_status_t *status) {
  double until_s = clock_now() + 1e-3 * TURN_MS;
  sbag_code_t code = SBAG_OK;
  for (int i = 1; code == SBAG_OK && (tickets != NULL || e->ahead != NULL); i++) {
    int may_follow = comm_size(e->comm) > 1 && (i < TURN_BATCHES || clock_now() < until_s);
    code = run_batch(e, tickets, may_follow, status);
    tickets = code == SBAG_OK && e->ahead != NULL ? queue_take(e->queue, 0, e->window_s, e->max_batch) : NULL;
  }
  return code == SBAG_OK ? SBAG_OK : abandon(e, status);
}

sbag_code_t engine_turn(engine_t *e, double wait_s, sbag_status_t *status) {
  ticket_t *tickets = queue_take(e->queue, wait_s, e->window_s, e->max_batch);
  int alone = comm_size(e->comm) == 1;
  if (tickets == NULL && alone) return comm_check(e->comm, status); /* engine_answer_now may have broken it */
  if (tickets == NULL && clock_now() - e->called_s < CALL_S) return SBAG_OK;
  begin_work(e);
  sbag_code_t code = SBAG_OK;
  if (tickets != NULL)
    code = run_batches(e, tickets, status);
  else
    code = tell(e, WORD_CALL, 0, 0, status);
  if (code == SBAG_OK && tickets == NULL) code = comm_barrier(e->comm, "serving: a call", status);
  end_work(e);
  return code;
}

/* The tickets are told how it went. What breaks the comm ends the next turn too. */
int engine_answer_now(engine_t *e, ticket_t *ticket) {
  const request_t *r = &ticket->request;
  sbag_status_t status;
  if (comm_size(e->comm) > 1 || e->window_s > 0 || r->samples > NOW_SAMPLES || r->lookups > NOW_LOOKUPS)
    return 0;
  if (!model_dense_on_host(e->seats[ticket->seat].model) || !gemm_openblas_ready(e->mem)) return 0;
  if (!queue_borrow(e->queue)) return 0;
  ticket->next = NULL;
  ticket->queued_s = ticket->taken_s = clock_now();
  (void)run_batches(e, ticket, &status);
  end_work(e);
  queue_give_back(e->queue);
  return 1;
}

static sbag_code_t send_path(engine_t *e, sbag_status_t *status) {
  return comm_broadcast(e->comm, e->path, (int64_t)sizeof e->path, 0, "serving: a checkpoint", status);
}

sbag_code_t engine_load(engine_t *e, int seat, const char *path, sbag_status_t *status) {
  snprintf(e->path, sizeof e->path, "%s", path);
  begin_work(e);
  SBAG_TRY(tell(e, WORD_LOAD, 0, seat, status));
  SBAG_TRY(send_path(e, status));
  sbag_code_t code = e->load(e->user, seat, e->path, status);
  end_work(e);
  return code;
}

sbag_code_t engine_drop(engine_t *e, int seat, sbag_status_t *status) {
  SBAG_TRY(tell(e, WORD_DROP, 0, seat, status));
  e->drop(e->user, seat);
  return SBAG_OK;
}

static sbag_code_t abandon_load(sbag_status_t *status) {
  return status_set(status, SBAG_ERR_STATE, "the server ends");
}

/* A load is busy from pause to pause, as if each part of it were a batch. */
sbag_code_t engine_resume(engine_t *e, int abandon, sbag_status_t *status) {
  begin_work(e);
  SBAG_TRY(tell(e, WORD_RESUME, abandon, 0, status));
  return abandon ? abandon_load(status) : SBAG_OK;
}

sbag_code_t engine_end(engine_t *e, sbag_status_t *status) {
  return tell(e, WORD_END, 0, 0, status);
}

/* ---- the others ---- */

/* Quick at first: under load the next batch comes at once. */
static void rest(double idle_s) {
  struct timespec pause = {.tv_nsec = idle_s < 0.02 ? 20000 : idle_s < 1.0 ? 200000 : 1000000};
  if (idle_s < 0.0002)
    sched_yield();
  else
    nanosleep(&pause, NULL);
}

static sbag_code_t hear(engine_t *e, sbag_status_t *status) {
  comm_request_t *request = NULL;
  double since_s = clock_now();
  int done = 0;
  SBAG_TRY(e->comm->ops->broadcast_begin(e->comm, e->word, (int64_t)sizeof e->word, 0, &request, status));
  while (!done) {
    SBAG_TRY(e->comm->ops->test(e->comm, request, &done, status));
    double idle_s = clock_now() - since_s;
    if (!done && e->silence_s > 0 && idle_s > e->silence_s + CALL_S)
      return status_set(status, SBAG_ERR_TIMEOUT, "rank 0 has said nothing for %.0f s", idle_s);
    if (!done) rest(idle_s);
  }
  return comm_wait(e->comm, &request, "serving: a batch", status);
}

static sbag_code_t follow_batch(engine_t *e, sbag_status_t *status) {
  engine_flight_t *fresh = next_flight(e);
  int more = (int)e->word[3];
  sbag_status_t cause;
  status_clear(&cause);
  SBAG_TRY(comm_fail_by(e->comm, load_flight(e, fresh, e->word[0], (int)e->word[2], NULL, &cause), &cause,
                        status));
  fresh->batch.global_samples = e->word[1];
  begin_flight(e, fresh);
  return go_on(e, fresh, more, status);
}

/* What all ranks refuse is rank 0's to tell. */
static sbag_code_t follow_load(engine_t *e, int seat, sbag_status_t *status) {
  SBAG_TRY(send_path(e, status));
  sbag_code_t code = e->load(e->user, seat, e->path, status);
  return comm_check(e->comm, NULL) == SBAG_OK ? SBAG_OK : code;
}

static sbag_code_t follow_word(engine_t *e, sbag_status_t *status) {
  int seat = (int)e->word[2];
  switch (e->word[0]) {
  case WORD_CALL:
    return comm_barrier(e->comm, "serving: a call", status);
  case WORD_CHECK:
    e->seats[seat].pieces.count = e->word[1];
    return check_list(e, seat, status);
  case WORD_LOAD:
    return follow_load(e, seat, status);
  case WORD_DROP:
    e->drop(e->user, seat);
    return SBAG_OK;
  case WORD_FINISH:
    return go_on(e, NULL, 0, status);
  default:
    return follow_batch(e, status);
  }
}

sbag_code_t engine_follow(engine_t *e, sbag_status_t *status) {
  for (;;) {
    SBAG_TRY(hear(e, status));
    if (e->word[0] == WORD_END) return SBAG_OK;
    if (e->word[0] == WORD_RESUME) return e->word[1] != 0 ? abandon_load(status) : SBAG_OK;
    SBAG_TRY(follow_word(e, status));
  }
}
