/* What saving, loading and resuming share: how arrays and numbers are called in the file. */
#ifndef TRAIN_SNAPSHOT_PARTS_H
#define TRAIN_SNAPSHOT_PARTS_H

#include "train/snapshot.h"

enum { SNAPSHOT_NAME_BYTES = 512, SNAPSHOT_FORMAT = 1 };

extern const char snapshot_reader_prefix[];
extern const char snapshot_inputs[], snapshot_config[];
extern const char snapshot_valid[]; /* the group of the last evaluation on the way */

/* One array of a table on its way to or from the file: state -1 is the weight. */
typedef struct snapshot_array {
  sbag_collection_h collection;
  int table, state;
  int64_t width; /* values a row */
} snapshot_array_t;

snapshot_array_t snapshot_array(const session_t *session, int table, int state);
/* "tables/<table>/weight" or "tables/<table>/state/<state>". */
void snapshot_array_name(const session_t *session, int table, int state, char name[SNAPSHOT_NAME_BYTES]);
/* A state of one value a row has one dimension. */
int snapshot_array_rank(const snapshot_array_t *array);

/* The whole numbers of progress, and the last evaluation's real ones: what they are called in the file. */
typedef struct snapshot_number {
  const char *key, *unit;
  size_t offset;
} snapshot_number_t;

enum { SNAPSHOT_NUMBERS = 7, SNAPSHOT_METRICS = 5 };
extern const snapshot_number_t snapshot_numbers[SNAPSHOT_NUMBERS], snapshot_metrics[SNAPSHOT_METRICS];

/* What the order of the samples follows from, with the config's key. */
typedef struct snapshot_order {
  const char *key, *unit, *config_key;
  int64_t value;
} snapshot_order_t;

enum { SNAPSHOT_ORDER = 7 };

void snapshot_order(const session_t *session, snapshot_order_t numbers[SNAPSHOT_ORDER]);

/* Refuses tables and table arrays that are not the config's. with_states: also optimizer states. */
sbag_code_t snapshot_check_shapes(const snapshot_t *snapshot, const session_t *session, int with_states,
                                  sbag_status_t *status);
/* The dense arrays, whole, on this rank. with_states: also their optimizer's. */
sbag_code_t snapshot_load_dense(const snapshot_t *snapshot, const model_t *model, int with_states,
                                sbag_status_t *status);
/* Collective: all tables to their owners. with_states: also optimizer states. */
sbag_code_t snapshot_load_tables(snapshot_t *snapshot, session_t *session, int with_states,
                                 sbag_status_t *status);

#endif
