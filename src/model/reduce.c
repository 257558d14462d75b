/* Dense gradients over ranks: buckets in flight during backward, or slices in a fixed order. */
#include "model/reduce.h"

#include "model/model.h"
#include <string.h>

static int64_t slices_of(int64_t samples) {
  return (samples + MODEL_SLICE - 1) / MODEL_SLICE;
}

/* ---- creation ---- */

static sbag_code_t create_buckets(reduce_t *r, int64_t bucket_bytes, sbag_status_t *status) {
  if (bucket_bytes == 0) bucket_bytes = (int64_t)1 << 20;
  r->bucket_count = bucket_bytes / (int64_t)sizeof(float);
  if (r->bucket_count < 1) r->bucket_count = 1;
  r->request_max = (r->count + r->bucket_count - 1) / r->bucket_count;
  void *block = NULL;
  SBAG_TRY(mem_calloc(r->mem, mem_array_bytes(r->request_max, sizeof(comm_request_t *)), "model: buckets",
                      &block, status));
  r->requests = block;
  return SBAG_OK;
}

/* Rank p's share of the parameters is [share_first(p), share_first(p + 1)). */
static int64_t share_first(const reduce_t *r, int rank) {
  int64_t size = comm_size(r->comm), each = r->count / size, more = r->count % size;
  return each * rank + (rank < more ? rank : more);
}

static int64_t share_count(const reduce_t *r, int rank) {
  return share_first(r, rank + 1) - share_first(r, rank);
}

static sbag_code_t create_slices(reduce_t *r, sbag_status_t *status) {
  size_t size = (size_t)comm_size(r->comm);
  void *block = NULL;
  SBAG_TRY(mem_calloc(r->mem, size * sizeof(reduce_deal_t), "model: slices", &block, status));
  r->deals = block;
  SBAG_TRY(mem_calloc(r->mem, size * sizeof(int), "model: slices", &block, status));
  r->order = block;
  SBAG_TRY(mem_calloc(r->mem, size * sizeof(int64_t), "model: slices", &block, status));
  r->counts = block;
  SBAG_TRY(mem_calloc(r->mem, 2 * size * sizeof(comm_part_t), "model: slices", &block, status));
  r->parts = block;
  SBAG_TRY(mem_calloc(r->mem, size * sizeof(copy_part_t), "model: slices", &block, status));
  r->copies = block;
  r->sent.kind = r->received.kind = r->share.kind = MEMORY_DEVICE;
  size_t share = mem_array_bytes(share_count(r, comm_rank(r->comm)), sizeof(float));
  return kernel_buffer_reserve(r->dense->kernel, &r->share, share, "model: a share of the gradients", status);
}

sbag_code_t reduce_create(comm_t *comm, dense_t *dense, float *grad, int64_t count, int64_t bucket_bytes,
                          int by_slices, reduce_t *reduce, sbag_status_t *status) {
  *reduce = (reduce_t){.comm = comm,
                       .dense = dense,
                       .mem = dense->kernel->mem,
                       .count = count,
                       .grad = grad,
                       .by_slices = by_slices};
  return by_slices ? create_slices(reduce, status) : create_buckets(reduce, bucket_bytes, status);
}

void reduce_clear(reduce_t *reduce) {
  kernel_buffer_t *buffers[] = {&reduce->sent, &reduce->received, &reduce->share};
  void *blocks[] = {reduce->requests, reduce->deals,  reduce->order,      reduce->counts,
                    reduce->parts,    reduce->copies, reduce->slice_loss, reduce->all_loss};
  for (size_t i = 0; i < sizeof buffers / sizeof buffers[0] && reduce->dense != NULL; i++)
    kernel_buffer_free(reduce->dense->kernel, buffers[i]);
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) mem_free(reduce->mem, blocks[i]);
  *reduce = (reduce_t){.comm = reduce->comm, .mem = reduce->mem};
}

/* Before a comm is given gradients: on a GPU it comes after the ops that make them, and nobody waits. */
static sbag_code_t check(const reduce_t *r, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  kernel_t *k = r->dense->kernel;
  return comm_fail_by(r->comm, k->ops->stream_check(k, NULL, &cause), &cause, status);
}

/* Before it is given numbers of the host's that ops write. */
static sbag_code_t finish(const reduce_t *r, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  return comm_fail_by(r->comm, dense_sync(r->dense, &cause), &cause, status);
}

/* ---- buckets ---- */

static sbag_code_t begin_bucket(reduce_t *r, sbag_status_t *status) {
  int64_t first = r->begun * r->bucket_count, left = r->count - first;
  int64_t count = left < r->bucket_count ? left : r->bucket_count;
  comm_request_t **request = &r->requests[r->begun];
  r->in_flight = 1;
  SBAG_TRY(
      r->comm->ops->allreduce_begin(r->comm, r->grad + first, count, COMM_F32, COMM_SUM, request, status));
  r->begun++;
  return SBAG_OK;
}

sbag_code_t reduce_ready(reduce_t *reduce, int64_t end, sbag_status_t *status) {
  int64_t ready = end == reduce->count ? reduce->request_max : end / reduce->bucket_count;
  if (reduce->begun >= ready) return SBAG_OK;
  if (comm_size(reduce->comm) > 1) SBAG_TRY(check(reduce, status));
  while (reduce->begun < ready) SBAG_TRY(begin_bucket(reduce, status));
  return SBAG_OK;
}

sbag_code_t reduce_loss(reduce_t *reduce, double loss, double weight, sbag_status_t *status) {
  reduce->in_flight = 1;
  reduce->loss[0] = loss;
  reduce->loss[1] = (double)reduce->mine.samples;
  reduce->loss[2] = weight;
  return reduce->comm->ops->allreduce_begin(reduce->comm, reduce->loss, 3, COMM_F64, COMM_SUM,
                                            &reduce->request, status);
}

/* Counts are exact in a double below 2^53. */
static sbag_code_t end_buckets(reduce_t *r, double *loss, double *weight, sbag_status_t *status) {
  SBAG_TRY(comm_wait(r->comm, &r->request, "model: loss", status));
  for (int64_t i = 0; i < r->begun; i++)
    SBAG_TRY(comm_wait(r->comm, &r->requests[i], "model: dense gradients", status));
  if (r->loss[1] != (double)r->mine.global_samples)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: the ranks' batches have %.0f samples together, but global_samples is %lld",
                      r->loss[1], (long long)r->mine.global_samples);
  *loss = r->loss[0];
  *weight = r->loss[2];
  return SBAG_OK;
}

/* ---- slices ---- */

/* Insertion sort: ranks come in this order already, as a rule. */
static void sort_deals(reduce_t *r) {
  for (int p = 0; p < comm_size(r->comm); p++) {
    int at = p;
    for (; at > 0 && r->deals[r->order[at - 1]].first_sample > r->deals[p].first_sample; at--)
      r->order[at] = r->order[at - 1];
    r->order[at] = p;
  }
}

/* All ranks see the same deals, so all come to the same end. */
static sbag_code_t check_deals(reduce_t *r, sbag_status_t *status) {
  int64_t next = 0, global = r->deals[0].global_samples;
  for (int i = 0; i < comm_size(r->comm); i++) {
    const reduce_deal_t *deal = &r->deals[r->order[i]];
    if (deal->global_samples != global)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "model: rank %d has global_samples %lld, rank 0 %lld; they must be the same",
                        r->order[i], (long long)deal->global_samples, (long long)global);
    if (deal->samples == 0) continue;
    if (deal->first_sample != next || next % MODEL_SLICE != 0)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "model: rank %d's samples begin at %lld of the global batch; reproducible mode needs "
                        "them to begin where those before end, %lld, and at a multiple of %d",
                        r->order[i], (long long)deal->first_sample, (long long)next, (int)MODEL_SLICE);
    next += deal->samples;
  }
  if (next == global) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "model: the ranks' batches have %lld samples together, but global_samples is %lld",
                    (long long)next, (long long)global);
}

/* Room for the gradients and the losses of so many slices. */
static sbag_code_t renew(const reduce_t *r, int64_t slices, int64_t width, kernel_buffer_t *grads,
                         double (**losses)[2], sbag_status_t *status) {
  int64_t all;
  void *block = *losses;
  if (__builtin_mul_overflow(slices, width, &all)) all = INT64_MAX;
  SBAG_TRY(kernel_buffer_reserve(r->dense->kernel, grads, mem_array_bytes(all, sizeof(float)),
                                 "model: gradients of slices", status));
  SBAG_TRY(mem_realloc(r->mem, mem_array_bytes(slices, sizeof **losses), "model: losses of slices", &block,
                       status));
  *losses = block;
  return SBAG_OK;
}

/* At least half as much again as before, so that slowly growing batches do not allocate every time. */
static int64_t grown(int64_t room, int64_t slices) {
  return slices > room + room / 2 ? slices : room + room / 2;
}

static sbag_code_t room_for_mine(reduce_t *r, int64_t slices, sbag_status_t *status) {
  if (r->slice_loss != NULL && slices <= r->slice_room) return SBAG_OK;
  int64_t room = grown(r->slice_room, slices);
  r->slice_room = 0;
  SBAG_TRY(renew(r, room, r->count, &r->sent, &r->slice_loss, status));
  r->slice_room = room;
  return SBAG_OK;
}

static sbag_code_t room_for_all(reduce_t *r, int64_t slices, sbag_status_t *status) {
  if (r->all_loss != NULL && slices <= r->all_room) return SBAG_OK;
  int64_t room = grown(r->all_room, slices);
  r->all_room = 0;
  SBAG_TRY(renew(r, room, share_count(r, comm_rank(r->comm)), &r->received, &r->all_loss, status));
  r->all_room = room;
  return SBAG_OK;
}

sbag_code_t reduce_begin(reduce_t *reduce, const reduce_deal_t *mine, sbag_status_t *status) {
  reduce->mine = *mine;
  reduce->begun = 0;
  if (!reduce->by_slices) return SBAG_OK;
  SBAG_TRY(comm_allgather(reduce->comm, &reduce->mine, (int64_t)sizeof *mine, reduce->deals, "model: deals",
                          status));
  sort_deals(reduce);
  SBAG_TRY(check_deals(reduce, status));
  sbag_code_t code = room_for_mine(reduce, slices_of(mine->samples), status);
  if (code == SBAG_OK) code = room_for_all(reduce, slices_of(mine->global_samples), status);
  return comm_agree(reduce->comm, code, status);
}

double *reduce_slice_loss(reduce_t *reduce, int64_t slice) {
  return &reduce->slice_loss[slice][0];
}

void reduce_slice(reduce_t *reduce, int64_t slice, double weight) {
  int64_t slices = slices_of(reduce->mine.samples);
  kernel_t *k = reduce->dense->kernel;
  float *sent = reduce->sent.data;
  reduce->slice_loss[slice][1] = weight;
  for (int p = 0; p < comm_size(reduce->comm); p++) {
    int64_t first = share_first(reduce, p), count = share_count(reduce, p);
    reduce->copies[p] = (copy_part_t){sent + slices * first + slice * count, reduce->grad + first,
                                      count * (int64_t)sizeof(float)};
  }
  k->ops->copy(k, NULL, reduce->copies, comm_size(reduce->comm));
}

sbag_code_t reduce_slices_done(reduce_t *reduce, sbag_status_t *status) {
  int size = comm_size(reduce->comm);
  int64_t slices = slices_of(reduce->mine.samples), before = 0;
  int64_t share = share_count(reduce, comm_rank(reduce->comm));
  comm_part_t *send = reduce->parts, *receive = reduce->parts + size;
  float *sent = reduce->sent.data, *received = reduce->received.data;
  SBAG_TRY(finish(reduce, status));
  reduce->in_flight = 1;
  for (int p = 0; p < size; p++) {
    int64_t theirs = slices_of(reduce->deals[p].samples);
    send[p] = (comm_part_t){.data = sent + slices * share_first(reduce, p),
                            .bytes = slices * share_count(reduce, p) * (int64_t)sizeof(float)};
    receive[p] =
        (comm_part_t){.data = received + before * share, .bytes = theirs * share * (int64_t)sizeof(float)};
    before += theirs;
  }
  return reduce->comm->ops->exchange_begin(reduce->comm, send, receive, &reduce->request, status);
}

/* Where rank p's slices begin among what was received: those of the ranks before it. */
static int64_t slices_before(const reduce_t *r, int rank) {
  int64_t before = 0;
  for (int p = 0; p < rank; p++) before += slices_of(r->deals[p].samples);
  return before;
}

static sbag_code_t sum_share(reduce_t *r, sbag_status_t *status) {
  kernel_t *k = r->dense->kernel;
  int64_t share = share_count(r, comm_rank(r->comm));
  k->ops->clear(k, NULL, r->share.data, share * (int64_t)sizeof(float));
  for (int i = 0; i < comm_size(r->comm); i++) {
    int rank = r->order[i];
    const float *grad = (const float *)r->received.data + slices_before(r, rank) * share;
    for (int64_t s = 0; s < slices_of(r->deals[rank].samples); s++, grad += share)
      r->dense->ops->add(r->dense, share, grad, r->share.data);
  }
  return check(r, status);
}

static void sum_loss(const reduce_t *r, double *loss, double *weight) {
  *loss = *weight = 0.0;
  for (int i = 0; i < comm_size(r->comm); i++) {
    int64_t first = slices_before(r, r->order[i]);
    for (int64_t s = 0; s < slices_of(r->deals[r->order[i]].samples); s++) {
      *loss += r->all_loss[first + s][0];
      *weight += r->all_loss[first + s][1];
    }
  }
}

static sbag_code_t end_slices(reduce_t *r, double *loss, double *weight, sbag_status_t *status) {
  SBAG_TRY(comm_wait(r->comm, &r->request, "model: dense gradients of slices", status));
  SBAG_TRY(sum_share(r, status));
  for (int p = 0; p < comm_size(r->comm); p++) r->counts[p] = share_count(r, p) * (int64_t)sizeof(float);
  SBAG_TRY(comm_allgatherv(r->comm, r->share.data, r->counts, r->grad, "model: dense gradients", status));
  for (int p = 0; p < comm_size(r->comm); p++)
    r->counts[p] = slices_of(r->deals[p].samples) * (int64_t)sizeof r->all_loss[0];
  SBAG_TRY(comm_allgatherv(r->comm, r->slice_loss, r->counts, r->all_loss, "model: loss", status));
  sum_loss(r, loss, weight);
  return SBAG_OK;
}

/* ---- both ---- */

sbag_code_t reduce_end(reduce_t *reduce, double *loss, double *weight, sbag_status_t *status) {
  SBAG_TRY(reduce->by_slices ? end_slices(reduce, loss, weight, status)
                             : end_buckets(reduce, loss, weight, status));
  reduce->in_flight = 0;
  return SBAG_OK;
}

/* Their outcome matters no more: the step has an error already, and a comm that breaks here says so at its
 * next use. */
void reduce_abandon(reduce_t *reduce) {
  if (!reduce->in_flight) return;
  if (reduce->request != NULL) comm_wait(reduce->comm, &reduce->request, "model: loss", NULL);
  for (int64_t i = 0; i < reduce->begun; i++)
    if (reduce->requests[i] != NULL)
      comm_wait(reduce->comm, &reduce->requests[i], "model: dense gradients", NULL);
  reduce->begun = 0;
  reduce->in_flight = 0;
  if (comm_check(reduce->comm, NULL) != SBAG_OK) reduce->stranded = 1;
}
