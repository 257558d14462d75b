/* A batch's buffers. They are filled again and again and only ever grow. */
#ifndef READER_SLOT_H
#define READER_SLOT_H

#include "base/mem.h"
#include "reader/reader.h"

typedef struct slot_bag {
  int64_t *indices, *offsets;
  int64_t nnz, capacity;
} slot_bag_t;

typedef struct slot {
  mem_t *mem;
  int dense_count, feature_count;
  int64_t capacity; /* samples */
  int64_t samples;  /* complete so far */
  int weighted;
  float *labels, *dense, *weights; /* weights: NULL unless weighted */
  slot_bag_t *bags;
  reader_bags_t *views;
  reader_batch_t batch;
} slot_t;

sbag_code_t reader_slot_init(slot_t *slot, int dense_count, int feature_count, int weighted, mem_t *mem,
                             sbag_status_t *status);
void reader_slot_free(slot_t *slot);

/* Room for so many samples; bag_room as in source_t. */
sbag_code_t reader_slot_reserve(slot_t *slot, int64_t samples, const int64_t *bag_room,
                                sbag_status_t *status);
/* Empties the slot. */
void reader_slot_begin(slot_t *slot);
/* Where the label, the weight (of a weighted slot) and the dense values of the current sample go. */
float *reader_slot_label(slot_t *slot);
float *reader_slot_weight(slot_t *slot);
float *reader_slot_dense(slot_t *slot);
/* Room for `count` more indices of a feature; the caller writes them at *room and then adds to nnz what it
 * has used. */
sbag_code_t reader_slot_room(slot_t *slot, int feature, int64_t count, int64_t **room, sbag_status_t *status);
sbag_code_t reader_slot_push(slot_t *slot, int feature, int64_t index, sbag_status_t *status);
/* The current sample is complete. */
void reader_slot_end_sample(slot_t *slot);
/* The batch's views of what has been filled; the counts about the global batch are the caller's. */
void reader_slot_finish(slot_t *slot);

#endif
