/* The exact Mann-Whitney count of labelled scores that are spread over ranks.
 *
 * What comes in: each rank's (key, label, weight). What goes out: twice the number of (positive, negative)
 * pairs in which the positive has the higher key, a tie counting half; an integer, so it cannot depend on the
 * number of ranks. With weights a pair counts as the product of its two, which are taken as integers: in
 * units of 2^-31 of the largest. */
#ifndef TRAIN_RANKING_H
#define TRAIN_RANKING_H

#include "base/mem.h"
#include "base/status.h"
#include "comm/comm.h"
#include <stdint.h>

/* 2 * positives * negatives passes 2^63 at 2^31 samples of each. */
__extension__ typedef unsigned __int128 ranking_wide_t;

/* Filled by the caller: comm and mem, the rest zero. */
typedef struct ranking {
  comm_t *comm;
  mem_t *mem;
  uint64_t *pairs; /* [count] of ranking_pair; owned by mem, freed by the caller */
  int weighted;    /* a weight is not 1 */
  int64_t count, capacity;
} ranking_t;

/* Order-preserving: negative floats have their bits inverted, the others their sign bit set. -0 equals +0.
 * value is not NaN. */
uint32_t ranking_key(float value);

/* weight: finite, not negative; its bits are the lower 31. */
uint64_t ranking_pair(float value, int label, float weight);

typedef struct ranking_counts {
  ranking_wide_t twice;
  int64_t positives, negatives; /* over all ranks: their number, or their weight in the same unit */
} ranking_counts_t;

/* Room for `more` pairs behind count. */
sbag_code_t ranking_reserve(ranking_t *ranking, int64_t more, sbag_status_t *status);

/* Collective. Sorts the pairs (their order means nothing). */
sbag_code_t ranking_count(ranking_t *ranking, ranking_counts_t *counts, sbag_status_t *status);

#endif
