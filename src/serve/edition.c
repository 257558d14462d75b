/* Counting who uses which edition. */
#include "serve/edition.h"

#include <inttypes.h>
#include <string.h>

sbag_code_t editions_open(editions_t *editions, sbag_status_t *status) {
  memset(editions, 0, sizeof *editions);
  for (int i = 0; i < EDITIONS; i++) editions->items[i].seat = i;
  if (pthread_mutex_init(&editions->mutex, NULL) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_MEMORY, "serving: no lock for what is served");
}

void editions_destroy(editions_t *editions) {
  for (int i = 0; i < EDITIONS; i++) signature_clear(editions->items[i].signatures);
  pthread_mutex_destroy(&editions->mutex);
}

edition_t *editions_take(editions_t *editions) {
  pthread_mutex_lock(&editions->mutex);
  edition_t *taken = &editions->items[editions->current];
  taken->users++;
  pthread_mutex_unlock(&editions->mutex);
  return taken;
}

void editions_give(editions_t *editions, edition_t **edition) {
  if (*edition == NULL) return;
  pthread_mutex_lock(&editions->mutex);
  (*edition)->users--;
  pthread_mutex_unlock(&editions->mutex);
  *edition = NULL;
}

void editions_switch(editions_t *editions, int seat) {
  pthread_mutex_lock(&editions->mutex);
  editions->current = seat;
  pthread_mutex_unlock(&editions->mutex);
}

int editions_unused(editions_t *editions, int seat) {
  pthread_mutex_lock(&editions->mutex);
  int unused = editions->items[seat].users == 0;
  pthread_mutex_unlock(&editions->mutex);
  return unused;
}

/* ---- the same to a client ---- */

static sbag_code_t refuse(const char *what, const char *name, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "its %s '%.64s' is not as in what is served; clients would have to change: restart to "
                    "serve it",
                    what, name);
}

static sbag_code_t check_model(const serve_signature_t *old, const serve_signature_t *fresh,
                               sbag_status_t *status) {
  if (old->feature_count != fresh->feature_count || old->output_count != fresh->output_count)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "it has %d inputs and %d outputs where %d and %d are served; clients would have to "
                      "change: restart to serve it",
                      fresh->feature_count, fresh->output_count, old->feature_count, old->output_count);
  for (int f = 0; f < old->feature_count; f++) {
    const serve_feature_t *a = &old->features[f], *b = &fresh->features[f];
    if (strcmp(a->name, b->name) != 0 || a->table != b->table || a->weights != b->weights ||
        a->multi_hot != b->multi_hot)
      return refuse("input", b->name, status);
  }
  if (old->dense_count != fresh->dense_count || strcmp(old->dense_name, fresh->dense_name) != 0)
    return refuse("input", fresh->dense_count > 0 ? fresh->dense_name : old->dense_name, status);
  for (int o = 0; o < old->output_count; o++) {
    const serve_output_t *a = &old->outputs[o], *b = &fresh->outputs[o];
    if (strcmp(a->name, b->name) != 0 || a->width != b->width || a->feature != b->feature)
      return refuse("output", b->name, status);
  }
  return SBAG_OK;
}

sbag_code_t edition_check(const edition_t *old, const edition_t *fresh, sbag_status_t *status) {
  for (int k = 0; k < SERVE_KINDS; k++)
    SBAG_TRY(check_model(&old->signatures[k], &fresh->signatures[k], status));
  return SBAG_OK;
}
