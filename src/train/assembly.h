/* From settings to what the reader and the model want: tables made for features that name none, rows taken
 * from the vocabularies, and every mismatch refused with the config's line. */
#ifndef TRAIN_ASSEMBLY_H
#define TRAIN_ASSEMBLY_H

#include "model/model.h"
#include "reader/reader.h"
#include "train/inputs.h"
#include "train/settings.h"

/* The reader's config. `columns` is its storage, freed by assembly_source_clear. */
typedef struct assembly_source {
  reader_config_t config;
  reader_column_t *columns;
  int64_t *bag_length;
  const char **paths; /* of all splits */
  mem_t *mem;
} assembly_source_t;

/* global_batch: training's or the evaluation's. Not collective. */
sbag_code_t assembly_source(const settings_t *settings, int64_t global_batch, int rank, int rank_count,
                            mem_t *mem, assembly_source_t *source, sbag_status_t *status);
/* As session_open_files says: other files in place of the config's. */
sbag_code_t assembly_source_files(assembly_source_t *source, const config_texts_t *paths, int unlabelled,
                                  sbag_status_t *status);
void assembly_source_clear(assembly_source_t *source);

typedef struct assembly_name {
  char text[80]; /* of the feature and its table: FEATURE.first_order */
} assembly_name_t;

/* The model's config with the arrays it points to. The model's features are the reader's and, with
 * first-order weights, the same again. */
typedef struct assembly {
  model_config_t model;
  sbag_table_options_t *tables;
  sbag_feature_options_t *features;
  model_role_t *roles;    /* [features], where the reader's have any; else NULL */
  int *ranks;             /* the tables' rank lists, one behind the other */
  int read_count;         /* the reader's features: the model's first ones */
  assembly_name_t *names; /* [read_count], of first-order weights, the features behind them; or NULL */
  mem_t *mem;
} assembly_t;

/* Not collective. The features of `inputs` must outlive the assembly (names). */
sbag_code_t assembly_create(const settings_t *settings, const inputs_t *inputs, mem_t *mem,
                            assembly_t *assembly, sbag_status_t *status);
void assembly_clear(assembly_t *assembly);

/* Which of the reader's features a feature of the model has its bags from. */
int assembly_read_feature(const assembly_t *assembly, int feature);

#endif
