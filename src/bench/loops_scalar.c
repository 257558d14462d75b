/* The loops word by word, for any machine. */
#define VEC               uint32_t
#define WIDTH             1
#define LOAD(from)        (*(from))
#define STORE(to, value)  (*(to) = (value))
#define STREAM(to, value) (*(to) = (value))
#define ADD(a, b)         ((a) + (b))
#define TRIPLE(a)         (3 * (a))
#define SUM(a)            (a)
#define ZERO              0
#define ONE               1
#define FENCE             ((void)0)
#define LOOP_TABLE        bench_loops_scalar
#include "bench/loops.inc"
