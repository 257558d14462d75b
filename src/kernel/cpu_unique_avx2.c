/* Distinct keys by a map of bits, with the instruction that counts them, which comes with AVX2. */
#include "kernel/cpu_unique.h"

#define UNIQUE_MAP    unique_map_avx2
#define BITS_IN(word) __builtin_popcountll(word)

#include "kernel/cpu_unique_map.inc"
