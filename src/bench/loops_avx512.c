/* The loops in AVX-512. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define VEC               __m512i
#define WIDTH             16
#define LOAD(from)        _mm512_loadu_si512(from)
#define STORE(to, value)  _mm512_storeu_si512(to, value)
#define STREAM(to, value) _mm512_stream_si512((void *)(to), value)
#define ADD(a, b)         _mm512_add_epi32(a, b)
#define TRIPLE(a)         _mm512_add_epi32(a, _mm512_add_epi32(a, a))
#define SUM(a)            ((uint32_t)_mm512_reduce_add_epi32(a))
#define ZERO              _mm512_setzero_si512()
#define ONE               _mm512_set1_epi32(1)
#define FENCE             _mm_sfence()
#define LOOP_TABLE        bench_loops_avx512
#include "bench/loops.inc"
#else
typedef int bench_loops_avx512_is_not_empty;
#endif
