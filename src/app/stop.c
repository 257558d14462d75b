/* A handler that leaves a mark, the only thing that it can tell the program. */
#include "app/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int stop_mark, refresh_mark;

static void mark_stop(int signal_number) {
  (void)signal_number;
  atomic_store(&stop_mark, 1);
}

static void mark_refresh(int signal_number) {
  (void)signal_number;
  atomic_store(&refresh_mark, 1);
}

static sbag_code_t catch_signal(int signal_number, void (*handler)(int), sbag_status_t *status) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (sigaction(signal_number, &action, NULL) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "cannot catch signal %d: %s", signal_number, strerror(errno));
}

sbag_code_t stop_catch(int signal_number, sbag_status_t *status) {
  return catch_signal(signal_number, mark_stop, status);
}

int stop_asked(void) {
  return atomic_exchange(&stop_mark, 0);
}

sbag_code_t refresh_catch(int signal_number, sbag_status_t *status) {
  return catch_signal(signal_number, mark_refresh, status);
}

int refresh_asked(void) {
  return atomic_exchange(&refresh_mark, 0);
}
