/* `shardbag COMMAND ...`: finds the command, parses its options, and hands over. */
#include "app/commands.h"
#include "app/job.h"
#include "config/schema.h"
#include "base/status.h"

#include <stdio.h>
#include <string.h>

static const command_t *const commands[] = {
    &command_train, &command_eval,  &command_predict, &command_plan,       &command_ckpt,
    &command_data,  &command_bench, &command_report,  &command_neighbours, &command_serve};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void) {
  printf("Usage: shardbag COMMAND [OPTIONS] ...\n\n"
         "Embedding tables cut by rows over MPI ranks. Run it under mpirun for more than one rank.\n\n");
  for (int i = 0; i < COMMANDS; i++) printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
  printf("\nshardbag COMMAND --help tells more; shardbag --version prints the version.\n"
         "Exit codes: 0 success, 2 usage or config error, 1 anything else.\n");
}

static int refuse(const char *message) {
  if (job_speaks_early()) fprintf(stderr, "%s\n", message);
  return EXIT_USAGE;
}

static int refuse_command(const char *word) {
  const char *names[COMMANDS];
  char message[256];
  for (int i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
  const char *nearest = config_nearest(word, names, COMMANDS);
  if (nearest != NULL)
    snprintf(message, sizeof message, "shardbag: unknown command '%.64s', did you mean '%s'?", word, nearest);
  else
    snprintf(message, sizeof message, "shardbag: unknown command '%.64s'; see shardbag --help", word);
  return refuse(message);
}

static int run(const command_t *command, int argc, char **argv) {
  options_t options;
  sbag_status_t status;
  status_clear(&status);
  if (options_parse(command, argc, argv, &options, &status) != SBAG_OK) return refuse(status.message);
  if (!options.help) return command->run(&options);
  if (job_speaks_early()) options_print_help(command);
  return EXIT_DONE;
}

/* As `shardbag ckpt ls ...`: the part's name is the whole of it, "ckpt ls". */
static int run_part(const command_t *command, int argc, char **argv) {
  const char *word = argc > 1 ? argv[1] : "";
  size_t prefix = strlen(command->name) + 1;
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
    if (!job_speaks_early()) return EXIT_DONE;
    printf("Usage: shardbag %s %s\n\n%s\n\n", command->name, command->arguments, command->summary);
    for (const command_t *const *part = command->parts; *part != NULL; part++)
      printf("  %-8s %s\n", (*part)->name + prefix, (*part)->summary);
    printf("\nshardbag %s PART --help tells more.\n%s", command->name, command->details);
    return EXIT_DONE;
  }
  for (const command_t *const *part = command->parts; *part != NULL; part++)
    if (strcmp(word, (*part)->name + prefix) == 0) return run(*part, argc - 1, argv + 1);
  char message[256];
  snprintf(message, sizeof message, "shardbag %s: there is no '%.64s'; see shardbag %s --help", command->name,
           word, command->name);
  return refuse(message);
}

int main(int argc, char **argv) {
  if (argc < 2) return refuse("shardbag: a command is missing; see shardbag --help");
  const char *word = argv[1];
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
    if (job_speaks_early()) print_help();
    return EXIT_DONE;
  }
  if (strcmp(word, "--version") == 0) {
    if (job_speaks_early()) printf("shardbag %s\n", sbag_version());
    return EXIT_DONE;
  }
  for (int i = 0; i < COMMANDS; i++)
    if (strcmp(word, commands[i]->name) == 0)
      return commands[i]->parts != NULL ? run_part(commands[i], argc - 1, argv + 1)
                                        : run(commands[i], argc - 1, argv + 1);
  return refuse_command(word);
}
