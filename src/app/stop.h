/* Signals by which a process is asked to stop in good order, or to look for newer files. They are caught, not
 * blocked: a library's threads may be older than main (OpenBLAS starts some when it is loaded), and one that
 * blocks nothing would take the signal and end the process. */
#ifndef APP_STOP_H
#define APP_STOP_H

#include "base/status.h"

/* From here on the signal asks, and ends nothing. Calls that it interrupts are begun again. */
sbag_code_t stop_catch(int signal_number, sbag_status_t *status);

/* Whether such a signal came since the last call. */
int stop_asked(void);

/* The same of a signal that asks to look for what is newer. */
sbag_code_t refresh_catch(int signal_number, sbag_status_t *status);
int refresh_asked(void);

#endif
