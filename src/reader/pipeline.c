/* The background thread and its ring.
 *
 * Slot s holds batch number s modulo the ring's size. made, taken and released only ever grow, under the
 * lock: the thread owns the slots from `made` up to `released + slot_count`, the caller those that it has
 * taken and not yet released: the last two. */
#include "reader/pipeline.h"
#include "reader/grow.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { CALLERS_BATCHES = 2 };

struct pipeline {
  source_t *source;
  slot_t *slots;
  int slot_count;
  pthread_t thread;
  int running, locks_made;
  pthread_mutex_t lock;
  pthread_cond_t reader_slot_free, batch_made;
  /* Constant while the thread runs: */
  reader_split_t split;
  int64_t epoch, first_step, step_count;
  /* Under the lock: */
  int64_t made, taken, released;
  int stop, ended, started;
  sbag_status_t error;
};

static sbag_code_t make_locks(pipeline_t *p, sbag_status_t *status) {
  int failed = pthread_mutex_init(&p->lock, NULL);
  if (failed == 0 && (failed = pthread_cond_init(&p->reader_slot_free, NULL)) != 0)
    pthread_mutex_destroy(&p->lock);
  if (failed == 0 && (failed = pthread_cond_init(&p->batch_made, NULL)) != 0) {
    pthread_cond_destroy(&p->reader_slot_free);
    pthread_mutex_destroy(&p->lock);
  }
  if (failed != 0)
    return status_set(status, SBAG_ERR_MEMORY, "reader: cannot make a lock: %s", strerror(failed));
  p->locks_made = 1;
  return SBAG_OK;
}

static sbag_code_t make_slots(pipeline_t *p, sbag_status_t *status) {
  source_t *source = p->source;
  int count = source->config->prefetch + CALLERS_BATCHES;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(count, sizeof *p->slots), "reader: ring of batches",
                      (void **)&p->slots, status));
  for (int i = 0; i < count; i++) {
    p->slot_count = i + 1;
    SBAG_TRY(reader_slot_init(&p->slots[i], source->dense_count, source->feature_count, source->weighted,
                              source->mem, status));
  }
  return SBAG_OK;
}

sbag_code_t reader_pipeline_create(source_t *source, pipeline_t **pipeline, sbag_status_t *status) {
  pipeline_t *made = NULL;
  SBAG_TRY(mem_calloc(source->mem, sizeof *made, "reader: pipeline", (void **)&made, status));
  made->source = source;
  sbag_code_t code = make_locks(made, status);
  if (code == SBAG_OK) code = make_slots(made, status);
  if (code != SBAG_OK)
    reader_pipeline_destroy(&made);
  else
    *pipeline = made;
  return code;
}

static void stop(pipeline_t *p) {
  if (!p->running) return;
  pthread_mutex_lock(&p->lock);
  p->stop = 1;
  pthread_cond_signal(&p->reader_slot_free);
  pthread_mutex_unlock(&p->lock);
  pthread_join(p->thread, NULL);
  p->running = 0;
}

void reader_pipeline_destroy(pipeline_t **pipeline) {
  pipeline_t *p = *pipeline;
  if (p == NULL) return;
  stop(p);
  for (int i = 0; i < p->slot_count; i++) reader_slot_free(&p->slots[i]);
  mem_free(p->source->mem, p->slots);
  if (p->locks_made) {
    pthread_cond_destroy(&p->batch_made);
    pthread_cond_destroy(&p->reader_slot_free);
    pthread_mutex_destroy(&p->lock);
  }
  mem_free(p->source->mem, p);
  *pipeline = NULL;
}

static int64_t split_samples(const pipeline_t *p) {
  return p->source->samples[p->split];
}

/* This rank's share of one global batch. */
static sbag_code_t fill_batch(const pipeline_t *p, int64_t step, slot_t *slot, sbag_status_t *status) {
  const reader_config_t *config = p->source->config;
  int64_t first = step * config->global_batch, left = split_samples(p) - first;
  int64_t samples = left < config->global_batch ? left : config->global_batch, begin, end;
  reader_source_share(samples, config->slice, config->rank, config->rank_count, &begin, &end);
  reader_slot_begin(slot);
  if (begin < end) SBAG_TRY(p->source->ops->fill(p->source, first + begin, first + end, slot, status));
  reader_slot_finish(slot);
  slot->batch.epoch = p->epoch;
  slot->batch.step = step;
  slot->batch.first_sample = begin;
  slot->batch.global_samples = samples;
  return SBAG_OK;
}

/* Waits for a slot to fill; NULL when asked to stop. */
static slot_t *wait_for_slot(pipeline_t *p) {
  slot_t *slot = NULL;
  pthread_mutex_lock(&p->lock);
  while (!p->stop && p->made - p->released == p->slot_count)
    pthread_cond_wait(&p->reader_slot_free, &p->lock);
  if (!p->stop) slot = &p->slots[p->made % p->slot_count];
  pthread_mutex_unlock(&p->lock);
  return slot;
}

static sbag_code_t read_all(pipeline_t *p, sbag_status_t *status) {
  const reader_config_t *config = p->source->config;
  if (p->first_step >= p->step_count) return SBAG_OK;
  SBAG_TRY(p->source->ops->seek(p->source, p->split, p->epoch, p->first_step * config->global_batch, status));
  for (int64_t step = p->first_step; step < p->step_count; step++) {
    slot_t *slot = wait_for_slot(p);
    if (slot == NULL) return SBAG_OK;
    SBAG_TRY(fill_batch(p, step, slot, status));
    pthread_mutex_lock(&p->lock);
    p->made++;
    pthread_cond_signal(&p->batch_made);
    pthread_mutex_unlock(&p->lock);
  }
  return SBAG_OK;
}

static void *thread_main(void *argument) {
  pipeline_t *p = argument;
  sbag_status_t status = {0};
  sbag_code_t code = read_all(p, &status);
  pthread_mutex_lock(&p->lock);
  if (code != SBAG_OK) p->error = status;
  p->ended = 1;
  pthread_cond_signal(&p->batch_made);
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

/* Signals are for the thread that trains. */
static int start_thread(pipeline_t *p) {
  sigset_t all, before;
  sigfillset(&all);
  int failed = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (failed != 0) return failed;
  failed = pthread_create(&p->thread, NULL, thread_main, p);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

/* Room for the longest share, so that the thread allocates nothing but bags longer than any before. */
static sbag_code_t reserve(pipeline_t *p, sbag_status_t *status) {
  const reader_config_t *config = p->source->config;
  int64_t samples = 0;
  for (int split = 0; split < READER_SPLITS; split++)
    if (p->source->samples[split] > samples) samples = p->source->samples[split];
  if (samples > config->global_batch) samples = config->global_batch;
  int64_t units = samples / config->slice + (samples % config->slice != 0);
  int64_t most = units / config->rank_count + (units % config->rank_count != 0);
  int64_t share = most > samples / config->slice ? samples : most * config->slice;
  for (int i = 0; i < p->slot_count; i++)
    SBAG_TRY(reader_slot_reserve(&p->slots[i], share, p->source->bag_room, status));
  return SBAG_OK;
}

sbag_code_t reader_pipeline_start(pipeline_t *p, reader_split_t split, int64_t epoch, int64_t step,
                                  sbag_status_t *status) {
  stop(p);
  p->started = 0;
  SBAG_TRY(reserve(p, status));
  p->split = split;
  p->epoch = epoch;
  p->first_step = step;
  int64_t samples = split_samples(p), batch = p->source->config->global_batch;
  p->step_count = samples / batch + (samples % batch != 0);
  if (step > p->step_count)
    return status_set(status, SBAG_ERR_ARGUMENT, "cannot start at step %lld: the epoch has %lld steps",
                      (long long)step, (long long)p->step_count);
  p->made = p->taken = p->released = 0;
  p->stop = p->ended = 0;
  status_clear(&p->error);
  int failed = start_thread(p);
  if (failed != 0)
    return status_set(status, SBAG_ERR_MEMORY, "reader: cannot start a thread: %s", strerror(failed));
  p->running = p->started = 1;
  return SBAG_OK;
}

sbag_code_t reader_pipeline_next(pipeline_t *p, const reader_batch_t **batch, sbag_status_t *status) {
  if (!p->started) return status_set(status, SBAG_ERR_STATE, "reader_next: call reader_start first");
  sbag_code_t code = SBAG_OK;
  const reader_batch_t *next = NULL;
  pthread_mutex_lock(&p->lock);
  if (p->taken - p->released == CALLERS_BATCHES) {
    p->released++;
    pthread_cond_signal(&p->reader_slot_free);
  }
  while (p->made == p->taken && !p->ended) pthread_cond_wait(&p->batch_made, &p->lock);
  if (p->made > p->taken)
    next = &p->slots[p->taken++ % p->slot_count].batch;
  else
    code = p->error.code;
  if (code != SBAG_OK) status_set(status, code, "%s", p->error.message);
  pthread_mutex_unlock(&p->lock);
  if (code == SBAG_OK) *batch = next;
  return code;
}
