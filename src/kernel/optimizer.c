/* The scalar reference of the sparse optimizers: see optimizer_isa.inc. */
#define ISA(name)    name##_scalar
#define VECTOR_BYTES 16
#include "kernel/optimizer_isa.inc"

void optimizer_update_scalar(const optimizer_update_t *of) {
  optimizer_scalar.update(of, NULL, 0, of->count, INT64_MAX);
}

void optimizer_catch_up_scalar(const optimizer_rows_t *at, int64_t step, int64_t count, const int64_t *rows) {
  optimizer_scalar.catch_up(at, step, 0, count, rows);
}
