/* What a served model takes and gives: the part of the protocol that follows from the model. There are two:
 * the prediction, and NAME/embeddings, the pooled vectors of every feature, for those who keep their own
 * dense part.
 */
#ifndef SERVE_SIGNATURE_H
#define SERVE_SIGNATURE_H

#include "model/model.h"

typedef enum serve_kind { SERVE_PREDICTION, SERVE_EMBEDDINGS, SERVE_KINDS } serve_kind_t;

/* A feature as an input: FEATURE, or FEATURE.values with FEATURE.offsets or FEATURE.lengths, and perhaps
 * FEATURE.weights. */
typedef struct serve_feature {
  const char *name;
  int table;
  int64_t rows;  /* indices are in [0, rows) */
  int weights;   /* 1: it pools by sum wherever it is looked up, and may have weights */
  int multi_hot; /* 0: told as FEATURE [samples][1], which is how it was trained */
} serve_feature_t;

typedef struct serve_output {
  char name[96];
  int64_t width;  /* 0: one value a sample, of shape [samples]; else [samples][width] */
  int64_t column; /* where it begins in what is computed */
  int feature;    /* embeddings: the input that it is of */
} serve_output_t;

typedef struct serve_signature {
  serve_kind_t kind;
  char name[160], version[24];
  int feature_count, dense_count, output_count;
  serve_feature_t *features;
  int dotted;          /* a feature's name has a dot: it may look like a part of another */
  char dense_name[16]; /* of the input of dense values */
  serve_output_t *outputs;
  int64_t columns; /* values computed a sample */
  mem_t *mem;
} serve_signature_t;

/* The model's two signatures; the first has no outputs where such a model predicts nothing by itself
 * (MODEL_MATCH). multi_hot: [the model's inputs], as in serve_feature_t. Names are borrowed from the config.
 */
sbag_code_t signature_create(const char *name, int64_t version, const model_config_t *config,
                             const model_t *model, const int *multi_hot, mem_t *mem,
                             serve_signature_t signatures[SERVE_KINDS], sbag_status_t *status);
void signature_clear(serve_signature_t signatures[SERVE_KINDS]);

/* How many features bring indices: the model's, but for the first-order weights, which read the same bags. */
static inline int signature_inputs(const model_config_t *config) {
  return config->feature_count - config->first_order;
}

#endif
