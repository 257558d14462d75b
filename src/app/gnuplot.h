/* Drawing by gnuplot, which is a program that may be there. */
#ifndef APP_GNUPLOT_H
#define APP_GNUPLOT_H

#include "base/status.h"

/* Runs a script; SBAG_ERR_UNSUPPORTED where there is no gnuplot. What it says goes to SCRIPT.err, which is
 * gone afterwards. */
sbag_code_t gnuplot_run(const char *script, sbag_status_t *status);

#endif
