/* A batch's buffers. */
#include "reader/slot.h"
#include "reader/grow.h"

#include <string.h>

sbag_code_t reader_slot_init(slot_t *slot, int dense_count, int feature_count, int weighted, mem_t *mem,
                             sbag_status_t *status) {
  *slot =
      (slot_t){.mem = mem, .dense_count = dense_count, .feature_count = feature_count, .weighted = weighted};
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(feature_count, sizeof *slot->bags), "reader: batch",
                      (void **)&slot->bags, status));
  return mem_calloc(mem, mem_array_bytes(feature_count, sizeof *slot->views), "reader: batch",
                    (void **)&slot->views, status);
}

void reader_slot_free(slot_t *slot) {
  for (int f = 0; slot->bags != NULL && f < slot->feature_count; f++) {
    mem_free(slot->mem, slot->bags[f].indices);
    mem_free(slot->mem, slot->bags[f].offsets);
  }
  mem_free(slot->mem, slot->bags);
  mem_free(slot->mem, slot->views);
  mem_free(slot->mem, slot->labels);
  mem_free(slot->mem, slot->dense);
  mem_free(slot->mem, slot->weights);
  *slot = (slot_t){0};
}

sbag_code_t reader_slot_reserve(slot_t *slot, int64_t samples, const int64_t *bag_room,
                                sbag_status_t *status) {
  mem_t *mem = slot->mem;
  if (samples <= slot->capacity && slot->labels != NULL) return SBAG_OK;
  size_t dense_bytes = mem_array_bytes(samples, (size_t)slot->dense_count * sizeof(float));
  SBAG_TRY(mem_realloc(mem, mem_array_bytes(samples, sizeof(float)), "reader: labels of a batch",
                       (void **)&slot->labels, status));
  SBAG_TRY(mem_realloc(mem, dense_bytes, "reader: dense values of a batch", (void **)&slot->dense, status));
  if (slot->weighted)
    SBAG_TRY(mem_realloc(mem, mem_array_bytes(samples, sizeof(float)), "reader: weights of a batch",
                         (void **)&slot->weights, status));
  for (int f = 0; f < slot->feature_count; f++) {
    slot_bag_t *bag = &slot->bags[f];
    SBAG_TRY(mem_realloc(mem, mem_array_bytes(samples + 1, sizeof *bag->offsets),
                         "reader: offsets of a batch", (void **)&bag->offsets, status));
    int64_t room = 0;
    if (__builtin_mul_overflow(samples, bag_room[f], &room)) room = INT64_MAX / 8;
    if (room <= bag->capacity && bag->indices != NULL) continue;
    SBAG_TRY(mem_realloc(mem, mem_array_bytes(room, sizeof *bag->indices), "reader: indices of a batch",
                         (void **)&bag->indices, status));
    bag->capacity = room;
  }
  slot->capacity = samples;
  return SBAG_OK;
}

void reader_slot_begin(slot_t *slot) {
  slot->samples = 0;
  for (int f = 0; f < slot->feature_count; f++) {
    slot->bags[f].nnz = 0;
    slot->bags[f].offsets[0] = 0;
  }
}

float *reader_slot_label(slot_t *slot) {
  return slot->labels + slot->samples;
}

float *reader_slot_weight(slot_t *slot) {
  return slot->weights + slot->samples;
}

float *reader_slot_dense(slot_t *slot) {
  return slot->dense + slot->samples * slot->dense_count;
}

sbag_code_t reader_slot_room(slot_t *slot, int feature, int64_t count, int64_t **room,
                             sbag_status_t *status) {
  slot_bag_t *bag = &slot->bags[feature];
  SBAG_TRY(reader_grow_to(slot->mem, (void **)&bag->indices, &bag->capacity, bag->nnz + count,
                          sizeof *bag->indices, "reader: indices of a batch", status));
  *room = bag->indices + bag->nnz;
  return SBAG_OK;
}

sbag_code_t reader_slot_push(slot_t *slot, int feature, int64_t index, sbag_status_t *status) {
  int64_t *room;
  SBAG_TRY(reader_slot_room(slot, feature, 1, &room, status));
  *room = index;
  slot->bags[feature].nnz++;
  return SBAG_OK;
}

void reader_slot_end_sample(slot_t *slot) {
  slot->samples++;
  for (int f = 0; f < slot->feature_count; f++) slot->bags[f].offsets[slot->samples] = slot->bags[f].nnz;
}

void reader_slot_finish(slot_t *slot) {
  for (int f = 0; f < slot->feature_count; f++) {
    const slot_bag_t *bag = &slot->bags[f];
    slot->views[f] = (reader_bags_t){.nnz = bag->nnz, .indices = bag->indices, .offsets = bag->offsets};
  }
  slot->batch.samples = slot->samples;
  slot->batch.labels = slot->labels;
  slot->batch.weights = slot->weights;
  slot->batch.dense = slot->dense;
  slot->batch.features = slot->views;
}
