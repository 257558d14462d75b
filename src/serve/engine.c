/* Batches on all ranks. */
#include "serve/engine.h"

#include "base/clock.h"
#include "collection/load.h"

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
  WORD_END
};
enum { CALL_S = 5 };

sbag_code_t engine_open(engine_t *e, int table_count, sbag_status_t *status) {
  void *block = NULL;
  size_t bytes = mem_array_bytes((int64_t)table_count * comm_size(e->comm), sizeof *e->lookups);
  SBAG_TRY(mem_alloc(e->mem, bytes, "serving: counts", &block, status));
  e->lookups = block;
  e->called_s = clock_now();
  atomic_init(&e->busy_us, (long long)(e->called_s * 1e6)); /* until all ranks are there */
  return SBAG_OK;
}

void engine_close(engine_t *e) {
  mem_free(e->mem, e->lookups);
  e->lookups = NULL;
}

sbag_code_t engine_take_seat(engine_t *e, int seat, model_t *model, const model_config_t *config,
                             const int64_t *piece_rows, sbag_status_t *status) {
  engine_seat_t *s = &e->seats[seat];
  SBAG_TRY(pieces_create(config, piece_rows, e->mem, &s->pieces, status));
  sbag_code_t code = batch_create(config, e->mem, &s->batch, status);
  if (code != SBAG_OK) {
    pieces_clear(&s->pieces);
    return code;
  }
  s->model = model;
  s->config = config;
  return SBAG_OK;
}

/* In a broken comm the transport may still read a batch's memory: it then lives until the process ends. */
void engine_leave_seat(engine_t *e, int seat) {
  engine_seat_t *s = &e->seats[seat];
  if (s->model != NULL && comm_check(e->comm, NULL) == SBAG_OK) {
    batch_clear(&s->batch);
    pieces_clear(&s->pieces);
  }
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

/* ---- one batch, on all ranks ---- */

static sbag_code_t pool(engine_seat_t *s, sbag_status_t *status) {
  sbag_step_h step = NULL;
  sbag_collection_h collection = model_collection(s->model);
  sbag_code_t code = sbag_collection_forward_begin(
      collection, s->batch.bags, SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_INDICES, &step, status);
  if (code == SBAG_OK) code = sbag_step_forward_end(step, s->batch.outputs, status);
  sbag_step_release(&step);
  return code;
}

static sbag_code_t predict(engine_seat_t *s, int64_t samples, sbag_status_t *status) {
  const model_batch_t batch = {.samples = s->batch.samples,
                               .global_samples = samples,
                               .dense = s->batch.dense,
                               .features = s->batch.bags};
  return model_predict(s->model, &batch, s->batch.outputs, status);
}

static sbag_code_t compute(engine_seat_t *s, int64_t word, int64_t samples, sbag_status_t *status) {
  return word == WORD_EMBEDDINGS ? pool(s, status) : predict(s, samples, status);
}

static int64_t columns_of(const engine_seat_t *s, int64_t word) {
  return word == WORD_EMBEDDINGS ? sbag_collection_output_dim(model_collection(s->model))
                                 : model_output_count(s->model);
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

static sbag_code_t tell(engine_t *e, int64_t word, int64_t number, int seat, sbag_status_t *status) {
  e->word[0] = word;
  e->word[1] = number;
  e->word[2] = seat;
  e->called_s = clock_now();
  if (comm_size(e->comm) == 1) return SBAG_OK;
  return comm_broadcast(e->comm, e->word, (int64_t)sizeof e->word, 0, "serving: a batch", status);
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

static void count_feature(engine_t *e, const engine_seat_t *s, const sbag_bags_t *bags, int table) {
  int ranks = comm_size(e->comm), rank = 0;
  int64_t *to = e->lookups + (int64_t)table * ranks, local = 0;
  const int64_t *indices = bags->indices;
  if (ranks == 1) to[0] += bags->index_count;
  for (int64_t i = 0; ranks > 1 && i < bags->index_count; i++)
    if (sbag_collection_locate(model_collection(s->model), table, indices[i], &rank, &local, NULL) == SBAG_OK)
      to[rank]++;
}

/* Which rows whose owners look up. The bags are gone when the tickets are. */
static void count_lookups(engine_t *e, const engine_seat_t *s) {
  memset(e->lookups, 0, (size_t)s->config->table_count * (size_t)comm_size(e->comm) * sizeof *e->lookups);
  for (int f = 0; f < s->config->feature_count; f++)
    count_feature(e, s, &s->batch.bags[f], s->config->features[f].table);
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

static sbag_code_t run_batch(engine_t *e, ticket_t *tickets, sbag_status_t *status) {
  int64_t word = tickets->request.signature->kind;
  engine_seat_t *s = &e->seats[tickets->seat];
  sbag_code_t code = batch_join(&s->batch, tickets, status);
  if (code == SBAG_OK) code = batch_room(&s->batch, columns_of(s, word), status);
  if (code != SBAG_OK) return code; /* the others know nothing of it */
  int64_t samples = s->batch.samples, requests = s->batch.tickets;
  SBAG_TRY(tell(e, word, samples, tickets->seat, status));
  SBAG_TRY(compute(s, word, samples, status));
  batch_deal(&s->batch, tickets, model_output_count(s->model));
  count_lookups(e, s);
  counters_batch(e->metrics, requests, samples, e->lookups);
  return SBAG_OK;
}

sbag_code_t engine_turn(engine_t *e, double wait_s, sbag_status_t *status) {
  ticket_t *tickets = queue_take(e->queue, wait_s, e->window_s, e->max_batch);
  if (tickets == NULL) {
    if (comm_size(e->comm) == 1 || clock_now() - e->called_s < CALL_S) return SBAG_OK;
    begin_work(e);
    SBAG_TRY(tell(e, WORD_CALL, 0, 0, status));
    sbag_code_t called = comm_barrier(e->comm, "serving: a call", status);
    end_work(e);
    return called;
  }
  begin_work(e);
  sbag_code_t code = check_touched(e, tickets, status);
  if (code == SBAG_OK) tickets = sort_out(e, tickets);
  if (code == SBAG_OK && tickets != NULL) code = run_batch(e, tickets, status);
  end_work(e);
  engine_answer(tickets, code, status);
  /* What all ranks refuse, or a batch without memory, ends no server. */
  return code == SBAG_OK || comm_check(e->comm, NULL) == SBAG_OK ? SBAG_OK : code;
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

static sbag_code_t follow_batch(engine_t *e, int64_t word, int64_t samples, sbag_status_t *status) {
  engine_seat_t *s = &e->seats[e->word[2]];
  sbag_code_t code = batch_join(&s->batch, NULL, status);
  if (code == SBAG_OK) code = batch_room(&s->batch, 1, status);
  if (code == SBAG_OK)
    code = compute(s, word, samples, status);
  else
    comm_fail(e->comm, status);
  return comm_check(e->comm, NULL) == SBAG_OK ? SBAG_OK : code;
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
  default:
    return follow_batch(e, e->word[0], e->word[1], status);
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
