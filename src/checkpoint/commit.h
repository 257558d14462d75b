/* A commit under way, for the two files that do it: commit.c makes the file and gives it its name,
 * commit_rows.c writes the rows. */
#ifndef CHECKPOINT_COMMIT_H
#define CHECKPOINT_COMMIT_H

#include "checkpoint/hdf5_make.h"
#include "checkpoint/writer.h"

/* Where the rows of an array or a blob come from. */
typedef struct commit_source {
  const layout_item_t *item;
  checkpoint_rows_t own; /* this rank's rows in memory */
  int is_owned;          /* all ranks' own rows make up the array: they are written from there */
} commit_source_t;

typedef struct commit {
  checkpoint_writer_t *w;
  int file; /* the temporary file, -1 while it is not open */
  int made; /* rank 0: the temporary file is ours to remove */
  hdf5_place_t place;
  trailer_t trailer; /* the arrays as they were declared, on rank 0 at last by offset */
  int64_t *sums;     /* all checksums, one array's behind the other's; those of other ranks are 0 */
  int64_t sum_count;
  commit_source_t *sources; /* [trailer.count], in the order of the declarations */
  int64_t *spans;           /* [ranks][trailer.count][2]: first row and rows of each rank's own */
  void *chunk;              /* of the rows that come by callback */
} commit_t;

/* Collective. Writes every array's and blob's rows and takes their checksums. */
sbag_code_t commit_rows(commit_t *c, sbag_status_t *status);

#endif
