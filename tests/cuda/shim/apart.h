/* EMU_APART=1: the host's memory and the device's are apart, as with a real GPU. Device memory can be touched
 * while work of a stream runs and at no other time; and the host's, as far as it was named here, not while a
 * kernel runs. Whoever does so ends with a line that says which, and where. */
#ifndef EMU_APART_H
#define EMU_APART_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

int emu_apart(void);
int emu_kernel_runs(void);
/* Memory of the host, in whole pages, to be hidden from kernels from now on; with more bytes: it has grown.
 */
void emu_apart_host(void *base, size_t bytes);

#ifdef __cplusplus
}

namespace emu {

enum runner { HOST_RUNS, COPY_RUNS, KERNEL_RUNS }; /* a copy, or a transfer, touches both */

/* Who runs from here on; returns who did. */
runner apart_enter(runner now);

/* Blocks of device memory, in whole pages; NULL where there is no more. */
void *apart_get(size_t bytes);
void apart_put(void *block, size_t bytes);

} // namespace emu
#endif
#endif
