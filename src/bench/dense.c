/* The dense part by itself, and its matrix products: see dense.h. */
#include "bench/dense.h"

#include "dense/gemm.h"

struct bench_dense {
  model_t *model;
  mem_t *mem;
  int64_t samples;
  float *values, *labels;
  float *input, *output, *weight; /* of any layer */
  void *block;
};

static void fill(float *to, int64_t count) {
  for (int64_t i = 0; i < count; i++) to[i] = (float)(i % 17 - 8) / 16;
}

static sbag_code_t take_room(bench_dense_t *d, sbag_status_t *status) {
  int64_t in = 0, out = 0, weights = 0, rows = d->samples, values = rows * model_dense_count(d->model);
  for (int l = 0; l < model_layer_count(d->model); l++) {
    model_layer_t layer = model_layer(d->model, l);
    in = layer.in > in ? layer.in : in;
    out = layer.out > out ? layer.out : out;
    weights = layer.in * layer.out > weights ? layer.in * layer.out : weights;
  }
  SBAG_TRY(mem_calloc(d->mem, mem_array_bytes(values + rows + rows * (in + out) + weights, sizeof(float)),
                      "bench: dense values", &d->block, status));
  d->values = d->block;
  d->labels = d->values + values;
  d->input = d->labels + rows;
  d->output = d->input + rows * in;
  d->weight = d->output + rows * out;
  fill(d->values, values);
  fill(d->input, rows * (in + out) + weights);
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
  for (int l = 0; l < model_layer_count(d->model); l++) {
    model_layer_t layer = model_layer(d->model, l);
    int64_t rows = d->samples, in = layer.in, out = layer.out;
    gemm->nt(rows, out, in, d->input, in, d->weight, in, d->output, out);
    gemm->tn(out, in, rows, d->output, out, d->input, in, d->weight, in);
    if (l > 0) gemm->nn(rows, in, out, d->output, out, d->weight, in, d->input, in);
  }
}
