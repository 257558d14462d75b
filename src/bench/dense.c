/* The dense part by itself, and its matrix products: see dense.h. */
#include "bench/dense.h"

#include "dense/gemm.h"

struct bench_dense {
  model_t *model;
  mem_t *mem;
  int64_t samples;
  float *values, *labels;
  float *layers; /* of each: inputs, outputs, weights, their gradient, the inputs' */
  void *block;
};

static void fill(float *to, int64_t count) {
  for (int64_t i = 0; i < count; i++) to[i] = (float)(i % 17 - 8) / 16;
}

static int64_t layer_values(const bench_dense_t *d, int l) {
  model_layer_t layer = model_layer(d->model, l);
  return d->samples * (2 * layer.in + layer.out) + 2 * layer.in * layer.out;
}

/* Each layer has matrices of its own, as in a step: what is in the cache is what a step would find there. */
static sbag_code_t take_room(bench_dense_t *d, sbag_status_t *status) {
  int64_t rows = d->samples, values = rows * model_dense_count(d->model), count = 0;
  for (int l = 0; l < model_layer_count(d->model); l++) count += layer_values(d, l);
  SBAG_TRY(mem_calloc(d->mem, mem_array_bytes(values + rows + count, sizeof(float)), "bench: dense values",
                      &d->block, status));
  d->values = d->block;
  d->labels = d->values + values;
  d->layers = d->labels + rows;
  fill(d->values, values);
  fill(d->layers, count);
  return SBAG_OK;
}

sbag_code_t bench_dense_create(model_t *model, int64_t samples, mem_t *mem, bench_dense_t **dense,
                               sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(bench_dense_t), "bench: dense", &block, status));
  bench_dense_t *d = block;
  *d = (bench_dense_t){.model = model, .mem = mem, .samples = samples};
  sbag_code_t code = take_room(d, status);
  if (code == SBAG_OK)
    *dense = d;
  else
    bench_dense_destroy(&d);
  return code;
}

void bench_dense_destroy(bench_dense_t **dense) {
  bench_dense_t *d = *dense;
  if (d == NULL) return;
  mem_t *mem = d->mem;
  mem_free(mem, d->block);
  mem_free(mem, d);
  *dense = NULL;
}

sbag_code_t bench_dense_step(bench_dense_t *dense, sbag_status_t *status) {
  const model_batch_t batch = {.samples = dense->samples,
                               .global_samples = dense->samples,
                               .labels = dense->labels,
                               .dense = dense->values};
  return model_dense_step(dense->model, &batch, status);
}

void bench_dense_products(const bench_dense_t *d) {
  const gemm_ops_t *gemm = gemm_openblas();
  float *next = d->layers;
  for (int l = 0; l < model_layer_count(d->model); l++) {
    model_layer_t layer = model_layer(d->model, l);
    int64_t rows = d->samples, in = layer.in, out = layer.out;
    float *input = next, *output = input + rows * in, *weight = output + rows * out,
          *grad = weight + in * out;
    gemm->nt(rows, out, in, input, in, weight, in, output, out);
    gemm->tn(out, in, rows, output, out, input, in, grad, in);
    if (l > 0) gemm->nn(rows, in, out, output, out, weight, in, grad + in * out, in);
    next += layer_values(d, l);
  }
}
