/* Pieces by number: those of one table behind those of the table before it. */
#include "serve/pieces.h"

#include <string.h>

enum { PIECE_UNKNOWN, PIECE_LISTED, PIECE_GOOD, PIECE_DAMAGED };

static int64_t count_of(int64_t rows, int64_t piece_rows) {
  return piece_rows > 0 ? rows / piece_rows + (rows % piece_rows > 0) : 0;
}

static sbag_code_t allocate(pieces_t *p, sbag_status_t *status) {
  const int64_t pieces = p->first[p->table_count];
  void *block = NULL;
  SBAG_TRY(mem_calloc(p->mem, mem_array_bytes(pieces, sizeof *p->state), "serving: pieces", &block, status));
  p->state = block;
  SBAG_TRY(mem_alloc(p->mem, mem_array_bytes(pieces, sizeof *p->list), "serving: pieces", &block, status));
  p->list = block;
  SBAG_TRY(mem_alloc(p->mem, mem_array_bytes(pieces, sizeof *p->damaged), "serving: pieces", &block, status));
  p->damaged = block;
  p->open = pieces;
  return SBAG_OK;
}

sbag_code_t pieces_create(const model_config_t *config, const int64_t *piece_rows, mem_t *mem, pieces_t *p,
                          sbag_status_t *status) {
  void *block = NULL;
  *p = (pieces_t){.mem = mem};
  if (piece_rows == NULL) return SBAG_OK;
  int tables = config->table_count;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(2 * (int64_t)tables + 1, sizeof *p->rows), "serving: pieces",
                     &block, status));
  p->table_count = tables;
  p->rows = block;
  p->first = p->rows + tables;
  p->first[0] = 0;
  for (int t = 0; t < tables; t++) {
    p->rows[t] = piece_rows[t];
    p->first[t + 1] = p->first[t] + count_of(config->tables[t].num_embeddings, piece_rows[t]);
  }
  sbag_code_t code = allocate(p, status);
  if (code != SBAG_OK) pieces_clear(p);
  return code;
}

void pieces_clear(pieces_t *p) {
  if (p->mem == NULL) return;
  mem_free(p->mem, p->rows);
  mem_free(p->mem, p->state);
  mem_free(p->mem, p->list);
  mem_free(p->mem, p->damaged);
  memset(p, 0, sizeof *p);
}

/* First-order weights read the bags of their feature. */
static const request_bags_t *bags_of(const model_config_t *config, const ticket_t *ticket, int feature) {
  int inputs = signature_inputs(config);
  return &ticket->request.features[feature < inputs ? feature : feature - inputs];
}

static void list_feature(pieces_t *p, int table, const request_bags_t *bags) {
  const int64_t rows = p->rows[table], first = p->first[table];
  if (rows == 0) return;
  for (int64_t i = 0; i < bags->count; i++) {
    int64_t piece = first + bags->indices[i] / rows;
    if (p->state[piece] != PIECE_UNKNOWN) continue;
    p->state[piece] = PIECE_LISTED;
    p->list[p->count++] = piece;
  }
}

void pieces_list(pieces_t *p, const model_config_t *config, const ticket_t *tickets) {
  p->count = 0;
  if (p->open == 0) return;
  for (const ticket_t *t = tickets; t != NULL; t = t->next)
    for (int f = 0; f < config->feature_count; f++)
      list_feature(p, config->features[f].table, bags_of(config, t, f));
}

void pieces_note(pieces_t *p) {
  for (int64_t i = 0; i < p->count; i++) {
    p->state[p->list[i]] = p->damaged[i] ? PIECE_DAMAGED : PIECE_GOOD;
    p->open -= !p->damaged[i];
    p->bad += p->damaged[i] != 0;
  }
  p->count = 0;
}

static int64_t damaged_in(const pieces_t *p, int table, const request_bags_t *bags) {
  const int64_t rows = p->rows[table], first = p->first[table];
  for (int64_t i = 0; rows > 0 && i < bags->count; i++)
    if (p->state[first + bags->indices[i] / rows] == PIECE_DAMAGED) return first + bags->indices[i] / rows;
  return -1;
}

int64_t pieces_damaged(const pieces_t *p, const model_config_t *config, const ticket_t *ticket) {
  int64_t found = -1;
  for (int f = 0; p->bad > 0 && found < 0 && f < config->feature_count; f++)
    found = damaged_in(p, config->features[f].table, bags_of(config, ticket, f));
  return found;
}

int pieces_table(const pieces_t *p, int64_t piece, int64_t *of_table) {
  int table = 0;
  while (piece >= p->first[table + 1]) table++;
  *of_table = piece - p->first[table];
  return table;
}
