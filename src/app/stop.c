/* A handler that leaves a mark, the only thing that it can tell the program. */
#include "app/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int asked;

static void mark(int signal_number) {
  (void)signal_number;
  atomic_store(&asked, 1);
}

sbag_code_t stop_catch(int signal_number, sbag_status_t *status) {
  struct sigaction action = {.sa_handler = mark, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (sigaction(signal_number, &action, NULL) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "cannot catch signal %d: %s", signal_number, strerror(errno));
}

int stop_asked(void) {
  return atomic_exchange(&asked, 0);
}
