/* The loops in AVX2. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

static inline uint32_t sum_of(__m256i value) {
  uint32_t words[8], sum = 0;
  _mm256_storeu_si256((__m256i *)(void *)words, value);
  for (int i = 0; i < 8; i++) sum += words[i];
  return sum;
}

#define VEC               __m256i
#define WIDTH             8
#define LOAD(from)        _mm256_loadu_si256((const __m256i *)(const void *)(from))
#define STORE(to, value)  _mm256_storeu_si256((__m256i *)(void *)(to), value)
#define STREAM(to, value) _mm256_stream_si256((__m256i *)(void *)(to), value)
#define ADD(a, b)         _mm256_add_epi32(a, b)
#define TRIPLE(a)         _mm256_add_epi32(a, _mm256_add_epi32(a, a))
#define SUM(a)            sum_of(a)
#define ZERO              _mm256_setzero_si256()
#define ONE               _mm256_set1_epi32(1)
#define FENCE             _mm_sfence()
#define LOOP_TABLE        bench_loops_avx2
#include "bench/loops.inc"
#else
typedef int bench_loops_avx2_is_not_empty;
#endif
