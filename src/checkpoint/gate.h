/* The gate: what a file must pass on one rank before libhdf5 sees it, which is not made for damaged files. It
 * reads the trailer (trailer.h) and holds its digest against the file's bytes. Nothing here is collective. */
#ifndef CHECKPOINT_GATE_H
#define CHECKPOINT_GATE_H

#include "checkpoint/trailer.h"

/* The digest of the bytes in front of `end` that belong to none of the trailer's arrays, which must be in the
 * order of their offsets. */
sbag_code_t gate_digest(mem_t *mem, int file, const char *path, const trailer_t *trailer, int64_t end,
                        checksum_digest_t *digest, sbag_status_t *status);

/* Opens a regular file for reading and tells its bytes. */
sbag_code_t gate_open(const char *path, int *file, int64_t *bytes, sbag_status_t *status);
/* The last TRAILER_FOOTER_BYTES; *ours is 0 (and no error returned) if they are no footer. */
sbag_code_t gate_footer(int file, const char *path, int64_t bytes, void *footer, int *ours,
                        sbag_status_t *status);
/* The error of a file whose footer is not ours. */
sbag_code_t gate_no_footer(int file, const char *path, int64_t bytes, sbag_status_t *status);
/* The whole gate behind gate_footer: *list (mem_free'd by the caller) is the trailer's list as it stands in
 * the file. */
sbag_code_t gate_pass(mem_t *mem, int file, const char *path, int64_t bytes, const void *footer, void **list,
                      sbag_status_t *status);

#endif
