/* The one status type of shardbag.
 *
 * Every call that can fail returns an sbag_code_t (SBAG_OK is 0) and takes, as its last argument, the address
 * of an sbag_status_t, which receives the code and one line that says what was wrong, where, and what would
 * be right. The library never prints and never exits. `status` may be NULL where only the code matters. */
#ifndef SHARDBAG_STATUS_H
#define SHARDBAG_STATUS_H

#include <shardbag/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sbag_code {
  SBAG_OK = 0,
  SBAG_ERR_ARGUMENT, /* the caller's arguments, configuration or input data */
  SBAG_ERR_MEMORY,   /* an allocation failed */
  SBAG_ERR_COMM,     /* MPI or NCCL failed, or a peer ended */
  SBAG_ERR_TIMEOUT,  /* a peer did not answer within the context's deadline */
  SBAG_ERR_IO,       /* a file could not be opened, read or written */
  SBAG_ERR_FORMAT,   /* a file's content is not what it should be */
  SBAG_ERR_STATE,    /* the call does not fit the object's state */
  SBAG_ERR_UNSUPPORTED
} sbag_code_t;

enum { SBAG_MESSAGE_BYTES = 504 };

typedef struct sbag_status {
  sbag_code_t code;
  int rank; /* rank on which the cause was recognised; -1 outside a communicator */
  char message[SBAG_MESSAGE_BYTES];
} sbag_status_t;

/* The name of a code, as "argument" or "timeout". Never NULL. */
SBAG_API const char *sbag_code_name(sbag_code_t code);

#ifdef __cplusplus
}
#endif
#endif
