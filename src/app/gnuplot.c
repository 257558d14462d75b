/* Starting gnuplot: see gnuplot.h. */
#include "app/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The first line of what it said. */
static void first_line(const char *path, char line[128]) {
  FILE *file = fopen(path, "re");
  line[0] = '\0';
  while (file != NULL && fgets(line, 128, file) != NULL && line[strspn(line, " \t\n")] == '\0')
    line[0] = '\0';
  line[strcspn(line, "\n")] = '\0';
  if (file != NULL) fclose(file);
}

sbag_code_t gnuplot_run(const char *script, sbag_status_t *status) {
  char said[PATH_MAX];
  char *const words[] = {(char *)(uintptr_t) "gnuplot", (char *)(uintptr_t)script, NULL};
  posix_spawn_file_actions_t actions;
  pid_t child = 0;
  int ended = 0;
  if (snprintf(said, sizeof said, "%s.err", script) >= (int)sizeof said)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.64s...: the path is too long", script);
  if (posix_spawn_file_actions_init(&actions) != 0)
    return status_set(status, SBAG_ERR_MEMORY, "gnuplot: no memory to start it");
  int failed =
      posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, said, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (failed == 0) failed = posix_spawnp(&child, "gnuplot", &actions, NULL, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed == ENOENT)
    return status_set(status, SBAG_ERR_UNSUPPORTED,
                      "gnuplot is not found, which draws; install it (Debian: gnuplot-nox)");
  if (failed != 0) return status_set(status, SBAG_ERR_IO, "gnuplot: cannot be started: %s", strerror(failed));
  while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
  char line[128];
  first_line(said, line);
  unlink(said);
  if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "gnuplot: %s: failed: %s", script, line);
}
