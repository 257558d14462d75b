/* Signatures from a model's config. */
#include "serve/signature.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void fill_features(const model_config_t *config, const int *multi_hot, serve_signature_t *s) {
  int inputs = signature_inputs(config);
  s->feature_count = inputs;
  for (int f = 0; f < inputs; f++) {
    const sbag_feature_options_t *from = &config->features[f];
    int second = config->first_order > 0 ? f + inputs : f;
    s->features[f] =
        (serve_feature_t){.name = from->name,
                          .table = from->table,
                          .rows = config->tables[from->table].num_embeddings,
                          .weights = from->mode == SBAG_SUM && config->features[second].mode == SBAG_SUM,
                          .multi_hot = multi_hot[f]};
    s->dotted |= strchr(from->name, '.') != NULL;
  }
}

/* No feature's own name. */
static void name_dense(serve_signature_t *s) {
  snprintf(s->dense_name, sizeof s->dense_name, "dense");
  for (int f = 0; f < s->feature_count; f++)
    if (strcmp(s->features[f].name, s->dense_name) == 0)
      snprintf(s->dense_name, sizeof s->dense_name, "dense.values");
}

static void add_output(serve_signature_t *s, const char *name, int64_t width, int feature) {
  serve_output_t *output = &s->outputs[s->output_count++];
  *output = (serve_output_t){.width = width, .column = s->columns, .feature = feature};
  snprintf(output->name, sizeof output->name, "%s", name);
  s->columns += width > 0 ? width : 1;
}

static void fill_prediction(const model_config_t *config, serve_signature_t *s) {
  s->dense_count = config->dense_count;
  if (config->kind == MODEL_CTR) {
    add_output(s, "probability", 0, -1);
    add_output(s, "logit", 0, -1);
  } else if (config->kind == MODEL_CLASSIFY) {
    add_output(s, "probabilities", config->classes, -1);
    add_output(s, "logits", config->classes, -1);
  }
}

static void fill_embeddings(const model_config_t *config, const model_t *model, serve_signature_t *s) {
  int inputs = signature_inputs(config);
  for (int f = 0; f < config->feature_count; f++) {
    const sbag_feature_options_t *from = &config->features[f];
    add_output(s, from->name, config->tables[from->table].embedding_dim, f < inputs ? f : f - inputs);
    s->outputs[f].column = sbag_collection_output_offset(model_collection(model), f);
  }
}

static sbag_code_t create(const model_config_t *config, const int *multi_hot, mem_t *mem,
                          serve_signature_t *s, sbag_status_t *status) {
  void *block = NULL;
  int outputs = config->feature_count > 2 ? config->feature_count : 2;
  s->mem = mem;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(signature_inputs(config), sizeof *s->features), "serving: inputs",
                      &block, status));
  s->features = block;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(outputs, sizeof *s->outputs), "serving: outputs", &block, status));
  s->outputs = block;
  fill_features(config, multi_hot, s);
  name_dense(s);
  return SBAG_OK;
}

sbag_code_t signature_create(const char *name, int64_t version, const model_config_t *config,
                             const model_t *model, const int *multi_hot, mem_t *mem,
                             serve_signature_t signatures[SERVE_KINDS], sbag_status_t *status) {
  static const char *const suffix[] = {"", "/embeddings"};
  memset(signatures, 0, SERVE_KINDS * sizeof *signatures);
  for (int k = 0; k < SERVE_KINDS; k++) {
    serve_signature_t *s = &signatures[k];
    s->kind = (serve_kind_t)k;
    sbag_code_t code = create(config, multi_hot, mem, s, status);
    int length = snprintf(s->name, sizeof s->name, "%s%s", name, suffix[k]);
    if (code == SBAG_OK && length >= (int)sizeof s->name)
      code =
          status_set(status, SBAG_ERR_ARGUMENT, "the model's name '%.32s...' is too long; give --name", name);
    if (code != SBAG_OK) {
      signature_clear(signatures);
      return code;
    }
    snprintf(s->version, sizeof s->version, "%" PRId64, version);
  }
  fill_prediction(config, &signatures[SERVE_PREDICTION]);
  fill_embeddings(config, model, &signatures[SERVE_EMBEDDINGS]);
  return SBAG_OK;
}

void signature_clear(serve_signature_t signatures[SERVE_KINDS]) {
  for (int k = 0; k < SERVE_KINDS; k++) {
    if (signatures[k].mem == NULL) continue;
    mem_free(signatures[k].mem, signatures[k].features);
    mem_free(signatures[k].mem, signatures[k].outputs);
  }
  memset(signatures, 0, SERVE_KINDS * sizeof *signatures);
}
