/* The gate: what a file must pass before libhdf5 sees it, which is not made for damaged files. It reads the
 * trailer (trailer.h) and holds its digest against the file's bytes. libhdf5 gets a copy in memory of just
 * the bytes that passed, so that neither a disk that fails later nor a file that is replaced meanwhile
 * reaches it. Nothing here is collective. */
#ifndef CHECKPOINT_GATE_H
#define CHECKPOINT_GATE_H

#include "checkpoint/trailer.h"

/* The digest of the bytes in front of `end` that belong to none of the trailer's arrays, which must be in the
 * order of their offsets. They are also written to `copy`, a file whose holes are zero, unless it is -1. */
sbag_code_t gate_digest(mem_t *mem, int file, const char *path, const trailer_t *trailer, int64_t end,
                        int copy, checksum_digest_t *digest, sbag_status_t *status);

/* Opens a regular file for reading and tells its bytes. */
sbag_code_t gate_open(const char *path, int *file, int64_t *bytes, sbag_status_t *status);
/* The last TRAILER_FOOTER_BYTES; *ours is 0 (and no error returned) if they are no footer. */
sbag_code_t gate_footer(int file, const char *path, int64_t bytes, void *footer, int *ours,
                        sbag_status_t *status);
/* The error of a file whose footer is not ours. */
sbag_code_t gate_no_footer(int file, const char *path, int64_t bytes, sbag_status_t *status);
/* The whole gate behind gate_footer: *list (mem_free'd by the caller) is the trailer's list as it stands in
 * the file, *copy a descriptor (closed by the caller) of what HDF5 may read. */
sbag_code_t gate_pass(mem_t *mem, int file, const char *path, int64_t bytes, const void *footer, void **list,
                      int *copy, sbag_status_t *status);

#endif
