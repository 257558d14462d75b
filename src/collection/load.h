/* Arrays of a checkpoint into tables, of any plan and on any number of ranks: where a rank's rows stand
 * together in the file it reads them straight into its shard. And the way back: such rows as a checkpoint
 * writes them straight from the shard. */
#ifndef COLLECTION_LOAD_H
#define COLLECTION_LOAD_H

#include "checkpoint/checkpoint.h"
#include <shardbag/collection.h>

typedef struct collection_load {
  int table, state; /* state -1: the weight */
  const char *name; /* of the array in the file */
} collection_load_t;

/* Collective. Many arrays in one call load faster than one by one where their tables lie on different ranks.
 * An array of another type or shape is refused, but weights come from f32, f16 and bf16 alike: rounded to the
 * nearest where the table has fewer bits, and quantised row by row as they come where it is in int8 or int4.
 * After an error, which all ranks return alike, the tables' rows are of no use. */
sbag_code_t collection_load(sbag_collection_h collection, checkpoint_reader_t *reader,
                            const collection_load_t *loads, int count, sbag_status_t *status);

/* Collective. In place of loading it a weight is read where the file is mapped, as long as the reader lives:
 * what is wrong with the file is found by checkpoint_check_piece. Refused is a table whose rows a rank has
 * not in the file's order and type. *piece_rows: of a piece; 0: a replicated table, which was loaded. After
 * it the collection is for SBAG_FORWARD_READ_ONLY alone. */
sbag_code_t collection_map(sbag_collection_h collection, checkpoint_reader_t *reader,
                           const collection_load_t *load, int64_t *piece_rows, sbag_status_t *status);

/* Not collective. This rank's rows of a table that was mapped: [*first, *first + *rows). */
void collection_mapped_rows(sbag_collection_h collection, int table, int64_t *first, int64_t *rows);

/* The type in which a checkpoint has a weight (state -1) or a state. Not collective. */
checkpoint_type_t collection_kept_type(sbag_collection_h collection, int table, int state);
/* Collective: sbag_collection_read_range, of that type. */
sbag_code_t collection_read_kept(sbag_collection_h collection, int table, int state, int64_t first_row,
                                 int64_t rows, void *out, sbag_status_t *status);

/* Not collective. This rank's rows of a weight (state -1) or a state, brought up to date: a
 * checkpoint_own_t's answer, valid until the next call that changes rows. None where the plan does not keep a
 * rank's rows together, or no file call can read them. */
sbag_code_t collection_own_rows(sbag_collection_h collection, int table, int state, checkpoint_rows_t *own,
                                sbag_status_t *status);

#endif
