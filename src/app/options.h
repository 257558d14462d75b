/* The command line: one table of options, of which each command takes some. getopt_long does the parsing;
 * messages and help come from the tables. */
#ifndef APP_OPTIONS_H
#define APP_OPTIONS_H

#include "serve/options.h"
#include "train/journal.h"
#include "train/predict.h"
#include <shardbag/status.h>

enum { OPTIONS_SETS_MAX = 256, OPTIONS_ARGUMENTS_MAX = 32 };

/* Which options a command takes, besides --help. */
typedef enum option_bit {
  OPTION_JSON = 1,
  OPTION_SET = 2,
  OPTION_TIMEOUT = 4,
  OPTION_PROGRESS = 8,
  OPTION_HELP_CONFIG = 16,
  OPTION_RANKS = 32,
  OPTION_TABLE = 64,
  OPTION_ROWS = 128,
  OPTION_RESUME = 256,
  OPTION_COUNT_ONLY = 512,
  OPTION_COVER = 1024,
  OPTION_OUTPUT = 2048,
  OPTION_SPLIT = 4096,
  OPTION_DEVICE = 8192,
  OPTION_INPUT = 16384,
  OPTION_NO_LABEL = 32768,
  OPTION_FORMAT = 65536,
  OPTION_K = 131072,
  OPTION_SERVE = 262144,
  OPTION_DTYPE = 524288
} option_bit_t;

typedef struct options {
  const struct command *command; /* that takes them */
  const char *arguments[OPTIONS_ARGUMENTS_MAX];
  int argument_count;
  const char *sets[OPTIONS_SETS_MAX];
  int set_count;
  const char *json; /* NULL: none */
  double timeout_s; /* negative: the library's default */
  journal_progress_t progress;
  int64_t ranks;      /* 0 = those launched */
  int64_t k;          /* neighbours, predict: 0 = not given */
  const char *table;  /* ckpt: NULL = all */
  const char *dtype;  /* eval: NULL = not given, or one of options_dtypes */
  const char *output; /* data, predict: NULL = not given */
  const char *input;  /* predict: NULL = not given */
  predict_format_t format;
  int splits;      /* data, predict: bit s stands for reader_split_t s; 0 = all */
  int64_t rows[2]; /* ckpt: first and end; {-1, -1} = all */
  serve_options_t serve;
  int help, help_config, resume, count_only, cover, no_label;
} options_t;

typedef struct command {
  const char *name, *arguments, *summary; /* arguments: "CHECKPOINT CONFIG" */
  int argument_count;                     /* -1: one or more */
  int options;                            /* option_bit_t */
  const char *details;                    /* the end of --help */
  int (*run)(const options_t *options);   /* the exit code */
  const struct command *const *parts;     /* in place of run: its own commands, NULL behind the last */
} command_t;

/* By sbag_storage_t; NULL behind the last. */
extern const char *const options_dtypes[];
/* 1, and *storage, of a word of that list; else (NULL is allowed) 0. */
int options_storage(const char *dtype, sbag_storage_t *storage);

/* argv[0] is the command's name. An error is one line without a line end. */
sbag_code_t options_parse(const command_t *command, int argc, char **argv, options_t *options,
                          sbag_status_t *status);
void options_print_help(const command_t *command);

#endif
