/* Parsing a command's part of the command line. */
#include "app/options.h"

#include "base/status.h"
#include "config/schema.h"
#include "reader/binary.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct option_entry {
  int bit; /* 0: every command */
  const char *name, *value, *help;
} option_entry_t;

static const option_entry_t entries[] = {
    {0, "help", NULL, "print this and exit"},
    {OPTION_HELP_CONFIG, "help-config", NULL, "print every key of a config, with type, default and meaning"},
    {OPTION_SET, "set", "KEY=VALUE", "override a key of the config, as train.epochs=2; repeatable"},
    {OPTION_DEVICE, "device", "KIND", "cpu, cuda or auto, as --set device=KIND"},
    {OPTION_RESUME, "resume", NULL, "go on from the run's newest complete checkpoint"},
    {OPTION_JSON, "json", "FILE", "append one JSON object a line to FILE"},
    {OPTION_PROGRESS, "progress", "KIND",
     "auto, bar, plain or none (auto: a bar on a terminal, not under mpirun)"},
    {OPTION_TIMEOUT, "timeout", "SECONDS",
     "give up on a rank that is silent for so long; 0 waits for ever (60)"},
    {OPTION_RANKS, "ranks", "N", "as if for N ranks instead of those launched"},
    {OPTION_COUNT_ONLY, "count-only", NULL, "count what --ranks N would send, in one process"},
    {OPTION_COVER, "cover", NULL, "also find the exact minimum of vectors (slow)"},
    {OPTION_TABLE, "table", "NAME", "a table, or an array by its whole name, instead of all"},
    {OPTION_ROWS, "rows", "A:B", "its rows from A up to and without B"},
    {OPTION_INPUT, "input", "FILE", "the rows to predict"},
    {OPTION_NO_LABEL, "no-label", NULL, "the input has no column of labels"},
    {OPTION_FORMAT, "format", "KIND", "tsv or json (tsv)"},
    {OPTION_K, "k", "N", "so many at most"},
    {OPTION_DTYPE, "dtype", "KIND", "keep tables in f32, f16, bf16, int8 or int4"},
    {OPTION_OUTPUT, "output", "FILE", "the file (report: folder) to write"},
    {OPTION_SPLIT, "split", "NAME", "train, valid or test alone; repeatable (all)"},
    {OPTION_SERVE, "bind", "ADDRESS", "the address to listen at; 0.0.0.0 and :: are all (127.0.0.1)"},
    {OPTION_SERVE, "port", "P", "the port; 0 takes a free one (8000)"},
    {OPTION_SERVE, "name", "NAME", "the model's name (that of the run)"},
    {OPTION_SERVE, "token-file", "FILE", "refuse requests without the bearer token in its first line"},
    {OPTION_SERVE, "mmap", NULL, "read no table before it is looked up; checksums are held then"},
    {OPTION_SERVE, "tls-cert", "FILE", "a PEM file of a certificate: answer HTTPS; with --tls-key"},
    {OPTION_SERVE, "tls-key", "FILE", "a PEM file of its key"},
    {OPTION_SERVE, "log-level", "LEVEL", "what is logged: error, warn, info or debug (info)"},
    {OPTION_SERVE, "watch", "SECONDS", "look for a newer checkpoint so often; 0: when asked alone (0)"},
    {OPTION_SERVE, "batch-window", "US", "wait so many microseconds for more requests to a look-up (0)"},
    {OPTION_SERVE, "max-batch", "N", "samples of a look-up, and of a request, at most (4096)"},
    {OPTION_SERVE, "queue", "N", "requests that may wait; more are refused with 503 (256)"},
    {OPTION_SERVE, "max-wait", "MS", "under load, that a request may have waited to be read; 0: any (50)"},
    {OPTION_SERVE, "http-threads", "N", "threads of rank 0 that read and parse requests (2)"},
    {OPTION_SERVE, "max-connections", "N", "open connections at most (256)"},
    {OPTION_SERVE, "max-body", "BYTES", "of a request's body (67108864)"},
    {OPTION_SERVE, "max-inputs", "N", "tensors of a request (1024)"},
    {OPTION_SERVE, "max-bag", "N", "indices of a bag (65536)"},
    {OPTION_SERVE, "request-time", "SECONDS", "to receive a request, and to take its answer (10)"},
    {OPTION_SERVE, "idle-time", "SECONDS", "of a connection between two requests (60)"}};
enum { ENTRIES = sizeof entries / sizeof entries[0] };

void options_print_help(const command_t *command) {
  printf("Usage: shardbag %s [OPTIONS] %s\n\n%s\n\n", command->name, command->arguments, command->summary);
  for (int i = 0; i < ENTRIES; i++) {
    const option_entry_t *e = &entries[i];
    if (e->bit != 0 && (command->options & e->bit) == 0) continue;
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", e->name, e->value != NULL ? " " : "",
             e->value != NULL ? e->value : "");
    printf("  %-20s %s\n", left, e->help);
  }
  printf("\n%s", command->details);
}

static sbag_code_t refuse(const command_t *command, sbag_status_t *status, const char *what,
                          const char *word) {
  return status_set(status, SBAG_ERR_ARGUMENT, "shardbag %s: %s '%s'; see shardbag %s --help", command->name,
                    what, word, command->name);
}

static int under_launcher(void) {
  static const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMIX_RANK"};
  for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
    if (getenv(marks[i]) != NULL) return 1;
  return 0;
}

static journal_progress_t progress_auto(void) {
  return isatty(STDOUT_FILENO) && !under_launcher() ? JOURNAL_BAR : JOURNAL_PLAIN;
}

static sbag_code_t take_progress(const command_t *command, const char *word, options_t *options,
                                 sbag_status_t *status) {
  if (strcmp(word, "auto") == 0)
    options->progress = progress_auto();
  else if (strcmp(word, "bar") == 0)
    options->progress = JOURNAL_BAR;
  else if (strcmp(word, "plain") == 0)
    options->progress = JOURNAL_PLAIN;
  else if (strcmp(word, "none") == 0)
    options->progress = JOURNAL_NONE;
  else
    return refuse(command, status, "--progress is auto, bar, plain or none, not", word);
  return SBAG_OK;
}

static sbag_code_t take_number(const command_t *command, const char *name, const char *word, double min,
                               double max, double *value, sbag_status_t *status) {
  char *end = NULL, what[96];
  errno = 0;
  *value = strtod(word, &end);
  if (end != word && *end == '\0' && errno == 0 && *value >= min && *value <= max) return SBAG_OK;
  snprintf(what, sizeof what, "--%s is a number from %g to %g, not", name, min, max);
  return refuse(command, status, what, word);
}

static sbag_code_t take_rows(const command_t *command, const char *word, options_t *options,
                             sbag_status_t *status) {
  char *middle = NULL, *end = NULL;
  errno = 0;
  long long first = strtoll(word, &middle, 10), last = 0;
  if (middle != word && *middle == ':') last = strtoll(middle + 1, &end, 10);
  if (end == NULL || end == middle + 1 || *end != '\0' || errno != 0 || first < 0 || last < first)
    return refuse(command, status, "--rows is A:B with 0 <= A <= B, not", word);
  options->rows[0] = first;
  options->rows[1] = last;
  return SBAG_OK;
}

static sbag_code_t take_split(const command_t *command, const char *word, options_t *options,
                              sbag_status_t *status) {
  for (int s = 0; s < READER_SPLITS; s++)
    if (strcmp(word, reader_split_name((reader_split_t)s)) == 0) {
      options->splits |= 1 << s;
      return SBAG_OK;
    }
  return refuse(command, status, "--split is train, valid or test, not", word);
}

static sbag_code_t take_set(const command_t *command, const char *set, options_t *options,
                            sbag_status_t *status) {
  if (options->set_count == OPTIONS_SETS_MAX) return refuse(command, status, "too many --set, at", set);
  options->sets[options->set_count++] = set;
  return SBAG_OK;
}

static sbag_code_t take_device(const command_t *command, const char *word, options_t *options,
                               sbag_status_t *status) {
  static const char *const sets[] = {"device=cpu", "device=cuda", "device=auto"};
  for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
    if (strcmp(sets[i] + strlen("device="), word) == 0) return take_set(command, sets[i], options, status);
  return refuse(command, status, "--device is cpu, cuda or auto, not", word);
}

const char *const options_dtypes[] = {"f32", "f16", "bf16", "int8", "int4", NULL};

int options_storage(const char *dtype, sbag_storage_t *storage) {
  for (int i = 0; dtype != NULL && options_dtypes[i] != NULL; i++)
    if (strcmp(options_dtypes[i], dtype) == 0) {
      *storage = (sbag_storage_t)i;
      return 1;
    }
  return 0;
}

static sbag_code_t take_dtype(const command_t *command, const char *word, options_t *options,
                              sbag_status_t *status) {
  sbag_storage_t storage;
  if (options_storage(word, &storage)) {
    options->dtype = options_dtypes[storage];
    return SBAG_OK;
  }
  return refuse(command, status, "--dtype is f32, f16, bf16, int8 or int4, not", word);
}

/* The numbers of a server: where they go, and whether they are whole. */
typedef struct serve_number {
  const char *name;
  size_t offset;
  int whole;
  double min, max;
} serve_number_t;

static const serve_number_t serve_numbers[] = {
    {"port", offsetof(serve_options_t, port), 1, 0, 65535},
    {"batch-window", offsetof(serve_options_t, window_us), 0, 0, 1e6},
    {"max-batch", offsetof(serve_options_t, max_batch), 1, 1, 1 << 24},
    {"queue", offsetof(serve_options_t, queue), 1, 1, 1 << 20},
    {"max-wait", offsetof(serve_options_t, wait_ms), 0, 0, 1e6},
    {"http-threads", offsetof(serve_options_t, threads), 1, 1, 256},
    {"max-connections", offsetof(serve_options_t, connections), 1, 1, 65536},
    {"max-body", offsetof(serve_options_t, body_bytes), 1, 64, 1e12},
    {"max-inputs", offsetof(serve_options_t, tensors), 1, 1, 1 << 20},
    {"max-bag", offsetof(serve_options_t, bag_length), 1, 1, 1 << 30},
    {"watch", offsetof(serve_options_t, watch_s), 0, 0, 1e6},
    {"request-time", offsetof(serve_options_t, request_s), 0, 0.01, 1e6},
    {"idle-time", offsetof(serve_options_t, idle_s), 0, 0.01, 1e6}};
enum { SERVE_NUMBERS = sizeof serve_numbers / sizeof serve_numbers[0] };

static sbag_code_t take_level(const command_t *command, const char *word, serve_level_t *level,
                              sbag_status_t *status) {
  for (int i = 0; serve_levels[i] != NULL; i++)
    if (strcmp(serve_levels[i], word) == 0) {
      *level = (serve_level_t)i;
      return SBAG_OK;
    }
  return refuse(command, status, "--log-level is error, warn, info or debug, not", word);
}

static sbag_code_t take_serve(const command_t *command, const char *name, const char *word,
                              serve_options_t *options, sbag_status_t *status) {
  if (strcmp(name, "mmap") == 0) options->mapped = 1;
  if (strcmp(name, "bind") == 0) options->bind = word;
  if (strcmp(name, "name") == 0) options->name = word;
  if (strcmp(name, "token-file") == 0) options->token_file = word;
  if (strcmp(name, "tls-cert") == 0) options->tls_cert = word;
  if (strcmp(name, "tls-key") == 0) options->tls_key = word;
  if (strcmp(name, "log-level") == 0) return take_level(command, word, &options->level, status);
  for (int i = 0; i < SERVE_NUMBERS; i++) {
    const serve_number_t *n = &serve_numbers[i];
    double number = 0;
    if (strcmp(name, n->name) != 0) continue;
    SBAG_TRY(take_number(command, name, word, n->min, n->max, &number, status));
    if (n->whole && number != floor(number))
      return refuse(command, status, "a whole number is needed, not", word);
    if (n->whole)
      *(int64_t *)(void *)((char *)options + n->offset) = (int64_t)number;
    else
      *(double *)(void *)((char *)options + n->offset) = number;
  }
  return SBAG_OK;
}

static sbag_code_t take_option(const command_t *command, const option_entry_t *entry, const char *value,
                               options_t *options, sbag_status_t *status) {
  double number = 0;
  if (entry->bit != 0 && (command->options & entry->bit) == 0)
    return refuse(command, status, "does not take the option", entry->name);
  switch (entry->bit) {
  case OPTION_HELP_CONFIG:
    options->help_config = 1;
    break;
  case OPTION_RESUME:
    options->resume = 1;
    break;
  case OPTION_INPUT:
    options->input = value;
    break;
  case OPTION_NO_LABEL:
    options->no_label = 1;
    break;
  case OPTION_FORMAT:
    options->format = strcmp(value, "json") == 0 ? PREDICT_JSON : PREDICT_TSV;
    if (options->format == PREDICT_TSV && strcmp(value, "tsv") != 0)
      return refuse(command, status, "--format is tsv or json, not", value);
    break;
  case OPTION_COUNT_ONLY:
    options->count_only = 1;
    break;
  case OPTION_COVER:
    options->cover = 1;
    break;
  case OPTION_SET:
    return take_set(command, value, options, status);
  case OPTION_DEVICE:
    return take_device(command, value, options, status);
  case OPTION_JSON:
    options->json = value;
    break;
  case OPTION_PROGRESS:
    return take_progress(command, value, options, status);
  case OPTION_TIMEOUT:
    return take_number(command, entry->name, value, 0, 1e9, &options->timeout_s, status);
  case OPTION_RANKS:
    SBAG_TRY(take_number(command, entry->name, value, 1, 1e6, &number, status));
    if (number != floor(number)) return refuse(command, status, "--ranks is an integer, not", value);
    options->ranks = (int64_t)number;
    break;
  case OPTION_K:
    SBAG_TRY(take_number(command, entry->name, value, 1, 1 << 20, &number, status));
    if (number != floor(number)) return refuse(command, status, "--k is an integer, not", value);
    options->k = (int64_t)number;
    break;
  case OPTION_DTYPE:
    return take_dtype(command, value, options, status);
  case OPTION_TABLE:
    options->table = value;
    break;
  case OPTION_OUTPUT:
    options->output = value;
    break;
  case OPTION_SPLIT:
    return take_split(command, value, options, status);
  case OPTION_SERVE:
    return take_serve(command, entry->name, value, &options->serve, status);
  case OPTION_ROWS:
    return take_rows(command, value, options, status);
  default:
    options->help = 1;
  }
  return SBAG_OK;
}

/* What getopt_long did not like: '?' an unknown word, ':' a value that is missing. */
static sbag_code_t refuse_option(const command_t *command, int found, const char *word,
                                 sbag_status_t *status) {
  if (found == ':') return refuse(command, status, "a value is missing behind", word);
  const char *names[ENTRIES];
  int count = 0;
  for (int i = 0; i < ENTRIES; i++)
    if (entries[i].bit == 0 || (command->options & entries[i].bit) != 0) names[count++] = entries[i].name;
  const char *nearest = strncmp(word, "--", 2) == 0 ? config_nearest(word + 2, names, count) : NULL;
  if (nearest == NULL) return refuse(command, status, "unknown option", word);
  return status_set(status, SBAG_ERR_ARGUMENT, "shardbag %s: unknown option '%s', did you mean '--%s'?",
                    command->name, word, nearest);
}

static sbag_code_t take_arguments(const command_t *command, int count, char **words, options_t *options,
                                  sbag_status_t *status) {
  if (options->help || options->help_config) return SBAG_OK;
  int any = command->argument_count < 0, most = any ? OPTIONS_ARGUMENTS_MAX : command->argument_count;
  if (count > most) return refuse(command, status, "unexpected argument", words[most]);
  if (count < (any ? 1 : command->argument_count))
    return refuse(command, status, "arguments are missing, needed:", command->arguments);
  options->argument_count = count;
  for (int i = 0; i < count; i++) options->arguments[i] = words[i];
  return SBAG_OK;
}

sbag_code_t options_parse(const command_t *command, int argc, char **argv, options_t *options,
                          sbag_status_t *status) {
  struct option longs[ENTRIES + 1];
  memset(longs, 0, sizeof longs);
  for (int i = 0; i < ENTRIES; i++)
    longs[i] = (struct option){.name = entries[i].name,
                               .has_arg = entries[i].value != NULL ? required_argument : no_argument};
  *options = (options_t){.command = command,
                         .timeout_s = -1,
                         .progress = progress_auto(),
                         .rows = {-1, -1},
                         .serve = serve_options_default()};
  opterr = 0; /* one line, ours */
  for (;;) {
    int index = -1;
    int found = getopt_long(argc, argv, ":h", longs, &index);
    if (found == -1) break;
    if (found == 'h')
      options->help = 1;
    else if (found != 0)
      return refuse_option(command, found, argv[optind - 1], status);
    else
      SBAG_TRY(take_option(command, &entries[index], optarg, options, status));
  }
  return take_arguments(command, argc - optind, argv + optind, options, status);
}
