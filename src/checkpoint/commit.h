/* A commit under way, for the three files that do it: commit.c makes the file and gives it its name,
 * commit_rows.c says who writes which rows, commit_write.c writes them. */
#ifndef CHECKPOINT_COMMIT_H
#define CHECKPOINT_COMMIT_H

#include "checkpoint/direct.h"
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
  direct_t direct;
  int refused;  /* a direct write was, and there will be no more */
  void *bounce; /* aligned blocks for rows that are not */
  hdf5_place_t place;
  trailer_t trailer; /* the arrays as they were declared, on rank 0 at last by offset */
  int64_t *sums;     /* all checksums, one array's behind the other's; those of other ranks are 0 */
  int64_t sum_count;
  commit_source_t *sources; /* [trailer.count], in the order of the declarations */
  int64_t *spans;           /* [ranks][trailer.count][2]: first row and rows of each rank's own */
  void *chunk;              /* of the rows that come by callback */
} commit_t;

/* Pieces [piece, end) of an array, of which the first begins at `data`. */
typedef struct commit_run {
  const trailer_array_t *array;
  int64_t piece, end;
  const void *data;
  /* The pieces before and behind stand beside these in memory and this rank writes them too: runs may then
   * meet at a page's bound, so that no page has to be written twice. */
  int joins_before, joins_after;
} commit_run_t;

/* Not collective. Opens the file a second time, for direct writes, if the file system has them. */
sbag_code_t commit_open_direct(commit_t *c, sbag_status_t *status);
/* Not collective. Writes a run and takes its pieces' checksums. */
sbag_code_t commit_pieces(commit_t *c, const commit_run_t *run, sbag_status_t *status);

/* Collective. Writes every array's and blob's rows and takes their checksums. */
sbag_code_t commit_rows(commit_t *c, sbag_status_t *status);

#endif
