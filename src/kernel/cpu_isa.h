/* Which instructions a kernel of the CPU uses. A file named *_avx2.c is compiled for AVX2 and F16C,
 * *_avx512.c for AVX-512 F, BW, VL and DQ as well (CMakeLists.txt); both only for x86-64, and nothing of them
 * is called unless the kernel's isa is that one. None may fuse a multiplication with an addition. */
#ifndef KERNEL_CPU_ISA_H
#define KERNEL_CPU_ISA_H

#include "kernel/kernel.h"

/* "scalar", "avx2" or "avx512". */
const char *cpu_isa_name(kernel_isa_t isa);

/* What `wanted` means here. ISA_BEST: the best that this machine has, or what SHARDBAG_ISA names. Refuses
 * what this machine lacks. */
sbag_code_t cpu_isa_resolve(kernel_isa_t wanted, kernel_isa_t *isa, sbag_status_t *status);

#endif
