/* What a table is, how it starts, and which ranks own which of its rows; and what a feature is. */
#ifndef SHARDBAG_TABLE_H
#define SHARDBAG_TABLE_H

#include <shardbag/optimizer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sbag_dtype { SBAG_F32 = 0, SBAG_F64 = 1 } sbag_dtype_t;
/* How a table's weights are kept. In 16 bits or fewer they are widened to float as they are read, and
 * everything is computed in float. Of f32 collections only. INT8 and INT4: a row has a scale and a bias of
 * its own beside its 8- or 4-bit codes, as FBGEMM's fused rows do; for inference alone (weight_grad 0), on
 * the CPU. Rows that are written to such a table (loaded, say) are quantised one by one; a max_norm applies
 * to the value read. */
typedef enum sbag_storage {
  SBAG_STORAGE_FULL = 0,
  SBAG_STORAGE_F16,
  SBAG_STORAGE_BF16,
  SBAG_STORAGE_INT8,
  SBAG_STORAGE_INT4
} sbag_storage_t;
/* How an update's results become 16 bits. Stochastic: up or down by chance, such that what is expected is the
 * value itself, so that small steps are not lost; drawn from (seed, table name, row, column, update) alone.
 * Initial values, values written and rows scaled by max_norm are rounded to the nearest, ties to even. */
typedef enum sbag_rounding { SBAG_ROUNDING_STOCHASTIC = 0, SBAG_ROUNDING_NEAREST } sbag_rounding_t;
typedef enum sbag_mode { SBAG_SUM = 0, SBAG_MEAN = 1, SBAG_MAX = 2 } sbag_mode_t;

/* Initial values depend on (seed, table name, global row, column) alone, never on the number of ranks. */
typedef enum sbag_init {
  SBAG_INIT_NORMAL = 0,   /* a = mean, b = standard deviation */
  SBAG_INIT_UNIFORM,      /* between a and b */
  SBAG_INIT_UNIFORM_DLRM, /* between -1/sqrt(rows) and 1/sqrt(rows) */
  SBAG_INIT_CONSTANT      /* a */
} sbag_init_t;

/* How rows are dealt to the ranks that hold the table. */
typedef enum sbag_layout {
  SBAG_LAYOUT_BLOCK = 0, /* contiguous blocks, sizes differ by at most one row */
  SBAG_LAYOUT_CYCLIC,    /* row r on shard r mod shards */
  SBAG_LAYOUT_SCRAMBLE   /* a keyed permutation of the rows, then blocks: spreads hot neighbours */
} sbag_layout_t;

typedef struct sbag_table_options {
  const char *name;            /* unique within a collection; copied */
  int64_t num_embeddings;      /* at least 1 */
  int64_t embedding_dim;       /* at least 1 */
  sbag_init_t init;            /* SBAG_INIT_NORMAL */
  double init_a, init_b;       /* 0, 1 */
  uint64_t seed;               /* 0 */
  const void *from_pretrained; /* NULL, or [num_embeddings][embedding_dim] of the collection's dtype on every
                                  rank: read during creation only */
  const char *init_file; /* NULL, or an HDF5 file whose rows replace the initial values: each rank reads the
                            rows that it owns. Trusted files only */
  const char *init_dataset;   /* NULL: "tables/<name>/weight", as in shardbag's checkpoints;
                                 [num_embeddings][embedding_dim] */
  int freeze;                 /* 1: no gradient is kept and update leaves the table as it is */
  int has_max_norm;           /* 0 */
  double max_norm, norm_type; /* norm_type 2; may be INFINITY */
  sbag_optimizer_options_t optimizer;
  sbag_layout_t layout;
  const int
      *ranks; /* the ranks that own the table, distinct; NULL = all. One rank makes it table-wise. Copied */
  int rank_count;
  int replicated; /* 1: owned as above, and mirrored in full on every rank: forward reads the mirror */
  sbag_storage_t storage;   /* SBAG_STORAGE_FULL. In 16 bits or fewer: at most 65536 columns; in 16, an
                               optimizer   that leaves rows alone which a batch does not touch */
  sbag_rounding_t rounding; /* SBAG_ROUNDING_STOCHASTIC; of tables in 16 bits alone */
} sbag_table_options_t;

/* torch's defaults: N(0, 1), not frozen, no max_norm, SGD at 0.01, blocks on all ranks. */
SBAG_API sbag_table_options_t sbag_table_options_default(const char *name, int64_t num_embeddings,
                                                         int64_t embedding_dim);

/* As torch.nn.EmbeddingBag.from_pretrained: the weights given, frozen. */
SBAG_API sbag_table_options_t sbag_table_options_from_pretrained(const char *name, int64_t num_embeddings,
                                                                 int64_t embedding_dim, const void *weights);

typedef struct sbag_feature_options {
  const char *name;    /* unique within a collection; copied */
  int table;           /* which of the collection's tables it looks up; several features may share one */
  sbag_mode_t mode;    /* SBAG_MEAN, as torch's module */
  int has_padding_idx; /* 0 */
  int64_t padding_idx; /* negative counts from the end; left out of pool, count and gradient; its row starts
                          as zero (unless the weights are given) */
  int scale_grad_by_freq; /* 0; not for max */
} sbag_feature_options_t;

SBAG_API sbag_feature_options_t sbag_feature_options_default(const char *name, int table);

#ifdef __cplusplus
}
#endif
#endif
