/* A list behind a lock. */
#include "serve/queue.h"

#include "base/clock.h"
#include <time.h>

sbag_code_t queue_open(int64_t tickets_max, queue_t *queue, sbag_status_t *status) {
  pthread_condattr_t attributes;
  *queue = (queue_t){.tickets_max = tickets_max};
  if (pthread_condattr_init(&attributes) != 0)
    return status_set(status, SBAG_ERR_MEMORY, "serving: no condition for the queue");
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  int bad = pthread_cond_init(&queue->filled, &attributes);
  pthread_condattr_destroy(&attributes);
  if (!bad && pthread_mutex_init(&queue->mutex, NULL) != 0) {
    pthread_cond_destroy(&queue->filled);
    bad = 1;
  }
  return bad ? status_set(status, SBAG_ERR_MEMORY, "serving: no lock for the queue") : SBAG_OK;
}

void queue_destroy(queue_t *queue) {
  pthread_cond_destroy(&queue->filled);
  pthread_mutex_destroy(&queue->mutex);
}

int queue_put(queue_t *queue, ticket_t *ticket) {
  ticket->next = NULL;
  pthread_mutex_lock(&queue->mutex);
  int taken = !queue->closed && queue->tickets < queue->tickets_max;
  if (taken) {
    ticket->queued_s = clock_now();
    if (queue->last != NULL)
      queue->last->next = ticket;
    else
      queue->first = ticket;
    queue->last = ticket;
    queue->tickets++;
    queue->samples += ticket->request.samples;
  }
  int wake = taken && !queue->borrowed;
  pthread_mutex_unlock(&queue->mutex);
  if (wake) pthread_cond_signal(&queue->filled); /* whoever wakes finds the lock free */
  return taken;
}

/* Until something comes, or the time; 0 at that. */
static int wait_until(queue_t *queue, double until_s) {
  struct timespec until = {.tv_sec = (time_t)until_s};
  until.tv_nsec = (long)((until_s - (double)until.tv_sec) * 1e9);
  return pthread_cond_timedwait(&queue->filled, &queue->mutex, &until) == 0;
}

static ticket_t *cut(queue_t *queue, int64_t samples_max) {
  ticket_t *first = queue->first, *last = first;
  int64_t samples = first->request.samples;
  queue->tickets--;
  while (last->next != NULL && last->next->request.signature == first->request.signature &&
         samples + last->next->request.samples <= samples_max) {
    last = last->next;
    samples += last->request.samples;
    queue->tickets--;
  }
  queue->first = last->next;
  if (queue->first == NULL) queue->last = NULL;
  queue->samples -= samples;
  last->next = NULL;
  return first;
}

/* Until there is something, or the time. Meanwhile the place may be borrowed. */
static void wait_for_first(queue_t *queue, double until_s) {
  queue->idle = 1;
  while (queue->first == NULL && wait_until(queue, until_s)) {
  }
  queue->idle = 0;
  while (queue->borrowed) pthread_cond_wait(&queue->filled, &queue->mutex);
}

ticket_t *queue_take(queue_t *queue, double wait_s, double window_s, int64_t samples_max) {
  ticket_t *taken = NULL;
  double now_s = clock_now();
  pthread_mutex_lock(&queue->mutex);
  if (queue->working) {
    queue->work_s = now_s - queue->since_s;
    queue->since_s = now_s;
  }
  if (wait_s > 0) wait_for_first(queue, now_s + wait_s);
  if (queue->first != NULL) {
    double until_s = queue->first->queued_s + window_s;
    while (window_s > 0 && queue->samples < samples_max && !queue->closed && wait_until(queue, until_s)) {
    }
    taken = cut(queue, samples_max);
    now_s = clock_now();
    for (ticket_t *t = taken; t != NULL; t = t->next) t->taken_s = now_s;
  }
  queue->working = taken != NULL;
  if (queue->working) queue->since_s = now_s;
  pthread_mutex_unlock(&queue->mutex);
  return taken;
}

int queue_borrow(queue_t *queue) {
  double now_s = clock_now();
  pthread_mutex_lock(&queue->mutex);
  int lent = queue->idle && queue->first == NULL && !queue->borrowed && !queue->closed &&
             now_s - queue->since_s >= queue->work_s;
  if (lent) {
    queue->borrowed = 1;
    queue->since_s = now_s;
  }
  pthread_mutex_unlock(&queue->mutex);
  return lent;
}

void queue_give_back(queue_t *queue) {
  double now_s = clock_now();
  pthread_mutex_lock(&queue->mutex);
  queue->borrowed = 0;
  queue->work_s = now_s - queue->since_s;
  queue->since_s = now_s;
  int wake = queue->first != NULL || !queue->idle;
  pthread_mutex_unlock(&queue->mutex);
  if (wake) pthread_cond_signal(&queue->filled);
}

int queue_ready(queue_t *queue, double window_s, int64_t samples_max) {
  pthread_mutex_lock(&queue->mutex);
  int ready = queue->first != NULL && (window_s <= 0 || queue->closed || queue->samples >= samples_max ||
                                       clock_now() >= queue->first->queued_s + window_s);
  pthread_mutex_unlock(&queue->mutex);
  return ready;
}

void queue_close(queue_t *queue) {
  pthread_mutex_lock(&queue->mutex);
  queue->closed = 1;
  pthread_cond_signal(&queue->filled);
  pthread_mutex_unlock(&queue->mutex);
}

int64_t queue_length(queue_t *queue) {
  pthread_mutex_lock(&queue->mutex);
  int64_t length = queue->tickets;
  pthread_mutex_unlock(&queue->mutex);
  return length;
}
