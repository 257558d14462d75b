/* Every setting of a run: the config's keys as structs, filled by the tables in settings.c.
 *
 * What comes in: a YAML file and overrides. What goes out: settings_t, checked as far as that is possible
 * without the data; what needs the data (rows, features) is checked in assembly.c. */
#ifndef TRAIN_SETTINGS_H
#define TRAIN_SETTINGS_H

#include "config/schema.h"
#include "reader/reader.h"
#include "train/schedule.h"
#include <shardbag/collection.h>

/* NaN: the optimizer's own default. */
typedef struct settings_optimizer {
  const config_node_t *node;
  int kind; /* sbag_optimizer_t */
  double lr, momentum, dampening, weight_decay, eps, lr_decay, initial_accumulator_value, beta1, beta2, alpha;
  double eta, ema_beta, ar_alpha, min_shrinkage, clip_value;
  int nesterov, maximize, amsgrad, centered;
  int weight_decay_mode; /* sbag_weight_decay_t */
} settings_optimizer_t;

typedef struct settings_table {
  const config_node_t *node; /* NULL: made for a feature that names no table */
  const char *name;
  int64_t rows; /* 0: as many as the features that look it up need */
  int64_t dim;
  int init; /* sbag_init_t */
  double init_a, init_b;
  const char *init_file, *init_dataset; /* "": none, the checkpoint's own */
  int freeze;
  double max_norm; /* NaN: off */
  double norm_type;
  int layout; /* sbag_layout_t */
  config_ints_t ranks;
  int replicated;
  int dtype;    /* sbag_storage_t */
  int rounding; /* sbag_rounding_t */
  settings_optimizer_t optimizer;
} settings_table_t;

/* padding_idx: none. */
#define SETTINGS_NO_PADDING INT64_MIN

typedef struct settings_feature {
  const config_node_t *node;
  const char *name, *table; /* table "": of the feature's own name */
  int mode;                 /* sbag_mode_t, or -1: mean */
  int64_t padding_idx;
  int scale_grad_by_freq;
} settings_feature_t;

typedef struct settings_column {
  const config_node_t *node;
  const char *name;
  int64_t index; /* -1: its place in the list */
  int kind, transform, mapping;
  double missing;
  int64_t rows, min_count, max_length;
  char separator;
} settings_column_t;

/* A reader_kind_t, or what is one with other words. */
typedef enum settings_source {
  SETTINGS_MOVIELENS = READER_MOVIELENS,
  SETTINGS_DELIMITED = READER_DELIMITED,
  SETTINGS_SYNTHETIC = READER_SYNTHETIC,
  SETTINGS_BINARY = READER_BINARY,
  SETTINGS_RANKING = READER_RANKING,
  SETTINGS_CORPUS = READER_CORPUS,
  SETTINGS_CRITEO, /* delimited, with Criteo's columns */
  SETTINGS_TEXT    /* delimited: a label and a text */
} settings_source_t;

typedef struct settings_movielens {
  const config_node_t *node;
  const char *folder, *name;
  double like_threshold;
  int64_t history_length;
  int shuffle_labels;
} settings_movielens_t;

typedef struct settings_delimited {
  const config_node_t *node;
  config_texts_t path;
  char delimiter;
  int64_t header_lines;
  config_sections_t columns; /* settings_column_t */
  config_reals_t split;
  int split_by_order, skip_bad_rows;
  int64_t shuffle_window;
} settings_delimited_t;

typedef struct settings_criteo {
  const config_node_t *node;
  config_texts_t path;
  int transform, mapping;
  int64_t min_count;
  config_ints_t rows, multi_hot; /* one number, or one for each category */
  config_reals_t split;
  int split_by_order, skip_bad_rows;
  int64_t shuffle_window;
} settings_criteo_t;

typedef struct settings_text {
  const config_node_t *node;
  config_texts_t train, valid, test; /* valid, test: one "" is none */
  int lowercase, skip_bad_rows;
  int64_t ngrams, buckets, max_length, shuffle_window;
} settings_text_t;

typedef struct settings_ranking {
  const config_node_t *node;
  config_texts_t train, valid, test; /* as above */
  int held_out;                      /* 1: .inter files */
  config_reals_t holdout;
  double min_rating;
  int64_t negatives, history_length;
  int skip_bad_rows;
} settings_ranking_t;

typedef struct settings_corpus {
  const config_node_t *node;
  config_texts_t path;
  int lowercase, skip_bad_rows;
  int64_t min_count, window, negatives;
  double subsample;
  config_reals_t split;
} settings_corpus_t;

typedef struct settings_binary {
  const config_node_t *node;
  const char *path;
  int64_t shuffle_window; /* -1: as the source had it */
} settings_binary_t;

typedef struct settings_synthetic {
  const config_node_t *node;
  config_ints_t samples, rows, bag_length;
  int64_t dense_count;
  double zipf;
} settings_synthetic_t;

typedef struct settings_data {
  const config_node_t *node;
  int kind;                 /* settings_source_t */
  int64_t seed, split_seed; /* seed -1: the run's */
  int shuffle;
  int64_t prefetch;
  settings_movielens_t movielens;
  settings_delimited_t delimited;
  settings_criteo_t criteo;
  settings_binary_t binary;
  settings_synthetic_t synthetic;
  /* Not of the config: other files in its place, and whether they have labels (session_open_files). */
  config_texts_t files;
  int unlabelled;
  settings_text_t text;
  settings_ranking_t ranking;
  settings_corpus_t corpus;
} settings_data_t;

typedef struct settings_model {
  const config_node_t *node;
  int kind, interaction;            /* model_kind_t, model_interaction_t */
  int64_t cross_layers, cross_rank; /* rank 0: full */
  int cross_structure;              /* 1: parallel */
  int first_order;
  settings_optimizer_t first_order_optimizer; /* node NULL: the tables' */
  int64_t interaction_dim;                    /* 0: the tables' default dim */
  int loss;                                   /* match_loss_t */
  double temperature, l2;
  config_ints_t bottom, top;
  double dropout, clip_norm, clip_value;
  int64_t bucket_bytes;
  settings_optimizer_t optimizer;
} settings_model_t;

typedef struct settings_wire {
  const config_node_t *node;
  int vectors; /* sbag_wire_t */
  int64_t chunk_bytes;
} settings_wire_t;

typedef struct settings_schedule {
  const config_node_t *node;
  int kind; /* schedule_kind_t */
  int64_t warmup_steps, every, decay_steps;
  double warmup_start, gamma, power, end;
} settings_schedule_t;

typedef struct settings_train {
  const config_node_t *node;
  int64_t epochs, max_steps, global_batch, eval_batch, eval_every, log_every, patience, top_k;
  const char *patience_metric;
  config_reals_t class_weights; /* empty: none */
  int reproducible, pipeline;
} settings_train_t;

/* More data to evaluate on, of the kind of `data`. */
typedef struct settings_eval {
  const config_node_t *node;
  const char *name;
  config_texts_t path;
} settings_eval_t;

typedef struct settings_run {
  const config_node_t *node;
  const char *dir;
  int checkpoint;
} settings_run_t;

typedef struct settings_checkpoint {
  const config_node_t *node;
  const char *dir;
  int64_t every_steps;  /* 0: never */
  double every_minutes; /* 0: never */
  int64_t keep;         /* 0: all */
} settings_checkpoint_t;

typedef struct settings_bench {
  const config_node_t *node;
  int64_t steps, rounds, warmup;
  int64_t batches; /* 0: the reader's */
} settings_bench_t;

typedef struct settings {
  const config_node_t *node;
  const char *name;
  int64_t seed;
  settings_run_t run;
  settings_checkpoint_t checkpoint;
  settings_data_t data;
  settings_model_t model;
  settings_table_t table;     /* the defaults of all tables */
  config_sections_t tables;   /* settings_table_t */
  config_sections_t features; /* settings_feature_t */
  int device;                 /* sbag_device_t */
  int64_t threads;            /* 0: auto */
  int exchange;               /* sbag_exchange_t */
  settings_wire_t wire;
  settings_schedule_t schedule;
  settings_train_t train;
  config_sections_t eval; /* settings_eval_t */
  settings_bench_t bench;
  config_tree_t *tree; /* owns every text and list above */
} settings_t;

/* The file with `sets` ("key.path=value") applied in order. Not collective. */
sbag_code_t settings_load(const char *file, const char *const *sets, int set_count, mem_t *mem,
                          settings_t *settings, sbag_status_t *status);
/* The same from the text that a checkpoint keeps of its config, whose own overrides stand at its end, as
 * config_tree_text writes them, and are applied before `sets`. */
sbag_code_t settings_load_kept(const char *origin, const char *text, const char *const *sets, int set_count,
                               mem_t *mem, settings_t *settings, sbag_status_t *status);
void settings_clear(settings_t *settings);

/* The text of --help-config; freed by mem_free. */
sbag_code_t settings_help(mem_t *mem, char **text, sbag_status_t *status);

/* The library's description, with the optimizer's own defaults where the config gives none. */
sbag_optimizer_options_t settings_optimizer_options(const settings_optimizer_t *optimizer);

/* The seed of shuffling and hashing. */
int64_t settings_data_seed(const settings_t *settings);

/* total_steps is the span of a polynomial decay that names none. */
schedule_t settings_schedule(const settings_schedule_t *schedule, int64_t total_steps);

#endif
