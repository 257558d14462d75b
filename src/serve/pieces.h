/* Rows that nobody has read yet, of a checkpoint that is served where its file is mapped: which pieces of
 * which tables were held against their checksums, and what became of that. Rank 0 keeps account; every rank
 * has room for the list of pieces that are checked together. */
#ifndef SERVE_PIECES_H
#define SERVE_PIECES_H

#include "base/mem.h"
#include "serve/queue.h"

typedef struct pieces {
  mem_t *mem;
  int table_count;
  int64_t *rows;    /* [tables] of a piece; 0: the table is in memory */
  int64_t *first;   /* [tables + 1] the number of a table's first piece */
  uint8_t *state;   /* [pieces] */
  int64_t *list;    /* [pieces] numbers of those to check */
  int32_t *damaged; /* [pieces] of the list: what was found */
  int64_t count;    /* of the list */
  int64_t open;     /* pieces that are not known to be good */
  int64_t bad;      /* and those that are known to be damaged */
} pieces_t;

/* piece_rows: [the config's tables], or NULL: nothing is to be checked. */
sbag_code_t pieces_create(const model_config_t *config, const int64_t *piece_rows, mem_t *mem,
                          pieces_t *pieces, sbag_status_t *status);
void pieces_clear(pieces_t *pieces);

/* Lists what the tickets look up and nobody has checked. */
void pieces_list(pieces_t *pieces, const model_config_t *config, const ticket_t *tickets);
/* Notes what `damaged` says of the list. */
void pieces_note(pieces_t *pieces);
/* The number of a damaged piece that the ticket looks up, or -1. */
int64_t pieces_damaged(const pieces_t *pieces, const model_config_t *config, const ticket_t *ticket);
/* The table of a piece, and its number there. */
int pieces_table(const pieces_t *pieces, int64_t piece, int64_t *of_table);

#endif
