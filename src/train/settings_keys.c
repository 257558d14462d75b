/* The tables of all keys: name, type, default, range and help of each, and where it is kept. */
#include "train/settings_keys.h"

#include "model/model.h"
#include "train/settings.h"

#include <math.h>

#define BIG 9e18 /* no upper limit */

#define AT(type, field) offsetof(type, field)
#define KEY_BOOL(type, field, initial, help)                                                                 \
  { #field, CONFIG_BOOL, AT(type, field), initial, 0, 0, NULL, NULL, help, 0 }
#define KEY_INT(type, field, initial, min, max, words, help)                                                 \
  { #field, CONFIG_INT, AT(type, field), initial, min, max, words, NULL, help, 0 }
#define KEY_REAL(type, field, initial, min, max, words, help)                                                \
  { #field, CONFIG_REAL, AT(type, field), initial, min, max, words, NULL, help, 0 }
#define KEY_TEXT(type, field, initial, help)                                                                 \
  { #field, CONFIG_TEXT, AT(type, field), initial, 0, 0, NULL, NULL, help, 0 }
#define KEY_TEXTS(type, field, initial, help)                                                                \
  { #field, CONFIG_TEXTS, AT(type, field), initial, 0, 0, NULL, NULL, help, 0 }
#define KEY_CHAR(type, field, initial, help)                                                                 \
  { #field, CONFIG_CHAR, AT(type, field), initial, 0, 0, NULL, NULL, help, 0 }
#define KEY_CHOICE(type, name, field, initial, words, help)                                                  \
  { name, CONFIG_CHOICE, AT(type, field), initial, 0, 0, words, NULL, help, 0 }
#define KEY_INTS(type, field, initial, min, max, help)                                                       \
  { #field, CONFIG_INTS, AT(type, field), initial, min, max, NULL, NULL, help, 0 }
#define KEY_REALS(type, field, initial, min, max, help)                                                      \
  { #field, CONFIG_REALS, AT(type, field), initial, min, max, NULL, NULL, help, 0 }
#define KEY_SECTION(type, field, section, help)                                                              \
  { #field, CONFIG_SECTION, AT(type, field), NULL, 0, 0, NULL, section, help, 0 }
#define KEY_SECTIONS(type, field, section, origin, help)                                                     \
  { #field, CONFIG_SECTIONS, AT(type, field), NULL, 0, 0, NULL, section, help, origin }
#define KEYS_END                                                                                             \
  { NULL, CONFIG_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, 0 }
#define SECTION(type, keys)                                                                                  \
  { keys, sizeof(type), AT(type, node) }

static const config_word_t word_own[] = {{"own", NAN}, {NULL, 0}};
static const config_word_t word_off[] = {{"off", NAN}, {NULL, 0}};
static const config_word_t word_never[] = {{"off", 0}, {NULL, 0}};
static const config_word_t word_auto[] = {{"auto", 0}, {NULL, 0}};
static const config_word_t word_all[] = {{"all", 0}, {NULL, 0}};
static const config_word_t word_none[] = {{"none", (double)SETTINGS_NO_PADDING}, {NULL, 0}};
static const config_word_t word_place[] = {{"auto", -1}, {NULL, 0}};
static const config_word_t word_source[] = {{"source", -1}, {NULL, 0}};
static const config_word_t word_same[] = {{"same", -1}, {NULL, 0}};

/* ---- optimizers ---- */

static const config_word_t optimizer_names[] = {{"sgd", SBAG_OPT_SGD},
                                                {"adagrad", SBAG_OPT_ADAGRAD},
                                                {"adam", SBAG_OPT_ADAM},
                                                {"adamw", SBAG_OPT_ADAMW},
                                                {"sparse_adam", SBAG_OPT_SPARSE_ADAM},
                                                {"rmsprop", SBAG_OPT_RMSPROP},
                                                {"exact_sgd", SBAG_OPT_EXACT_SGD},
                                                {"exact_adagrad", SBAG_OPT_EXACT_ADAGRAD},
                                                {"exact_rowwise_adagrad", SBAG_OPT_EXACT_ROWWISE_ADAGRAD},
                                                {"fbgemm_adam", SBAG_OPT_FBGEMM_ADAM},
                                                {"partial_rowwise_adam", SBAG_OPT_PARTIAL_ROWWISE_ADAM},
                                                {"lamb", SBAG_OPT_LAMB},
                                                {"partial_rowwise_lamb", SBAG_OPT_PARTIAL_ROWWISE_LAMB},
                                                {"lars_sgd", SBAG_OPT_LARS_SGD},
                                                {"rowwise_rmsprop", SBAG_OPT_ROWWISE_RMSPROP},
                                                {NULL, 0}};
static const config_word_t dense_optimizer_names[] = {
    {"sgd", SBAG_OPT_SGD}, {"adagrad", SBAG_OPT_ADAGRAD}, {"adam", SBAG_OPT_ADAM}, {NULL, 0}};
static const config_word_t decay_modes[] = {
    {"none", SBAG_DECAY_NONE}, {"l2", SBAG_DECAY_L2}, {"decoupled", SBAG_DECAY_DECOUPLED}, {NULL, 0}};

#define OWN_REAL(field, min, max, help) KEY_REAL(settings_optimizer_t, field, "own", min, max, word_own, help)
#define OPTIMIZER_KEYS                                                                                       \
  OWN_REAL(lr, 0, 1e6, "learning rate, before the schedule's factor"),                                       \
      OWN_REAL(momentum, 0, 1e3, "sgd, rmsprop, lars_sgd: momentum"),                                        \
      OWN_REAL(dampening, -1e3, 1e3, "sgd: dampening of the momentum"),                                      \
      KEY_BOOL(settings_optimizer_t, nesterov, "false", "sgd: Nesterov momentum"),                           \
      KEY_BOOL(settings_optimizer_t, maximize, "false", "torch's optimizers: go up instead of down"),        \
      OWN_REAL(weight_decay, 0, 1e3, "weight decay, in the optimizer's own form"),                           \
      OWN_REAL(eps, 0, 1e3, "added to a denominator"),                                                       \
      OWN_REAL(lr_decay, 0, 1e3, "adagrad: lr / (1 + (step - 1) lr_decay)"),                                 \
      OWN_REAL(initial_accumulator_value, 0, 1e6, "adagrad and FBGEMM's: the sum's first value"),            \
      OWN_REAL(beta1, 0, 1, "Adam and LAMB: decay of the first moment"),                                     \
      OWN_REAL(beta2, 0, 1, "Adam and LAMB: decay of the second moment"),                                    \
      KEY_BOOL(settings_optimizer_t, amsgrad, "false", "adam, adamw: the AMSGrad variant"),                  \
      OWN_REAL(alpha, 0, 1, "rmsprop: decay of the squared average"),                                        \
      KEY_BOOL(settings_optimizer_t, centered, "false", "rmsprop: subtract the squared mean")

static const config_key_t dense_optimizer_keys[] = {
    KEY_CHOICE(settings_optimizer_t, "name", kind, "adagrad", dense_optimizer_names, "as torch defines it"),
    OPTIMIZER_KEYS, KEYS_END};
static const config_key_t optimizer_keys[] = {
    KEY_CHOICE(settings_optimizer_t, "name", kind, "adagrad", optimizer_names,
               "torch's or FBGEMM's, each exact"),
    OPTIMIZER_KEYS,
    KEY_CHOICE(settings_optimizer_t, "weight_decay_mode", weight_decay_mode, "none", decay_modes,
               "exact_rowwise_adagrad: how weight_decay applies"),
    OWN_REAL(eta, 0, 1e3, "lars_sgd: the trust coefficient"),
    OWN_REAL(ema_beta, 0, 1, "rowwise_rmsprop: decay of the average"),
    OWN_REAL(ar_alpha, 0, 1e3, "rowwise_rmsprop: adaptive regularisation"),
    OWN_REAL(min_shrinkage, 0, 1, "rowwise_rmsprop: least shrinkage"),
    OWN_REAL(clip_value, 0, 1e30, "a row's merged gradient is clamped to +-clip_value; 0 is off"),
    KEYS_END};
static const config_section_t dense_optimizer_section = SECTION(settings_optimizer_t, dense_optimizer_keys);
static const config_section_t optimizer_section = SECTION(settings_optimizer_t, optimizer_keys);

/* ---- tables and features ---- */

static const config_word_t init_names[] = {{"normal", SBAG_INIT_NORMAL},
                                           {"uniform", SBAG_INIT_UNIFORM},
                                           {"uniform_dlrm", SBAG_INIT_UNIFORM_DLRM},
                                           {"constant", SBAG_INIT_CONSTANT},
                                           {NULL, 0}};
static const config_word_t layout_names[] = {{"block", SBAG_LAYOUT_BLOCK},
                                             {"cyclic", SBAG_LAYOUT_CYCLIC},
                                             {"scramble", SBAG_LAYOUT_SCRAMBLE},
                                             {NULL, 0}};
static const config_word_t dtype_names[] = {
    {"f32", SBAG_STORAGE_FULL}, {"f16", SBAG_STORAGE_F16}, {"bf16", SBAG_STORAGE_BF16}, {NULL, 0}};
static const config_word_t rounding_names[] = {
    {"stochastic", SBAG_ROUNDING_STOCHASTIC}, {"nearest", SBAG_ROUNDING_NEAREST}, {NULL, 0}};
static const config_word_t mode_names[] = {
    {"sum", SBAG_SUM}, {"mean", SBAG_MEAN}, {"max", SBAG_MAX}, {NULL, 0}};

#define TABLE_KEYS                                                                                           \
  KEY_INT(settings_table_t, dim, "16", 1, 65536, NULL, "columns: the vectors' length"),                      \
      KEY_CHOICE(settings_table_t, "init", init, "uniform_dlrm", init_names,                                 \
                 "initial values; uniform_dlrm is +-1/sqrt(rows)"),                                          \
      KEY_REAL(settings_table_t, init_a, "0", -1e30, 1e30, NULL,                                             \
               "normal: mean; uniform: lowest; constant: the value"),                                        \
      KEY_REAL(settings_table_t, init_b, "1", -1e30, 1e30, NULL,                                             \
               "normal: standard deviation; uniform: highest"),                                              \
      KEY_TEXT(settings_table_t, init_file, "",                                                              \
               "an HDF5 file (a checkpoint) whose rows the table starts from"),                              \
      KEY_TEXT(settings_table_t, init_dataset, "", "its dataset; empty: tables/<name>/weight"),              \
      KEY_BOOL(settings_table_t, freeze, "false", "leave the table as it starts"),                           \
      KEY_REAL(settings_table_t, max_norm, "off", 0, 1e30, word_off, "rows are scaled down to this norm"),   \
      KEY_REAL(settings_table_t, norm_type, "2", 0, INFINITY, NULL, "the p of that norm; .inf is allowed"),  \
      KEY_CHOICE(settings_table_t, "layout", layout, "block", layout_names,                                  \
                 "how rows are dealt to ranks; scramble spreads hot neighbours"),                            \
      KEY_INTS(settings_table_t, ranks, "[]", 0, 1e6, "the ranks that own rows; empty: all"),                \
      KEY_BOOL(settings_table_t, replicated, "false", "mirror the whole table on every rank"),               \
      KEY_CHOICE(settings_table_t, "dtype", dtype, "f32", dtype_names,                                       \
                 "how weights are kept; all is computed in f32, optimizer state stays f32"),                 \
      KEY_CHOICE(settings_table_t, "rounding", rounding, "stochastic", rounding_names,                       \
                 "f16, bf16: how an update's results are rounded"),                                          \
      KEY_SECTION(settings_table_t, optimizer, &optimizer_section, "the table's own optimizer")

static const config_key_t table_default_keys[] = {TABLE_KEYS, KEYS_END};
static const config_key_t table_keys[] = {KEY_TEXT(settings_table_t, name, NULL, "the table's name"),
                                          KEY_INT(settings_table_t, rows, "auto", 1, BIG, word_auto,
                                                  "rows; auto: as many as its features' vocabularies need"),
                                          TABLE_KEYS, KEYS_END};
static const config_section_t table_default_section = SECTION(settings_table_t, table_default_keys);
static const config_section_t table_section = SECTION(settings_table_t, table_keys);

static const config_key_t feature_keys[] = {
    KEY_TEXT(settings_feature_t, name, NULL, "the reader's name of the feature"),
    KEY_TEXT(settings_feature_t, table, "", "the table it looks up; empty: one of the feature's own name"),
    KEY_CHOICE(settings_feature_t, "mode", mode, "mean", mode_names, "how a bag is pooled"),
    KEY_INT(settings_feature_t, padding_idx, "none", -BIG, BIG, word_none,
            "an index left out of pool, count and gradient; negative counts from the end"),
    KEY_BOOL(settings_feature_t, scale_grad_by_freq, "false",
             "divide a row's gradient by its frequency in the batch"),
    KEYS_END};
static const config_section_t feature_section = SECTION(settings_feature_t, feature_keys);

/* ---- data ---- */

static const config_word_t data_kinds[] = {
    {"movielens", SETTINGS_MOVIELENS}, {"delimited", SETTINGS_DELIMITED}, {"criteo", SETTINGS_CRITEO},
    {"binary", SETTINGS_BINARY},       {"synthetic", SETTINGS_SYNTHETIC}, {"text", SETTINGS_TEXT},
    {"ranking", SETTINGS_RANKING},     {"corpus", SETTINGS_CORPUS},       {NULL, 0}};
static const config_word_t column_kinds[] = {{"label", COLUMN_LABEL},
                                             {"dense", COLUMN_DENSE},
                                             {"one_hot", COLUMN_ONE_HOT},
                                             {"multi_hot", COLUMN_MULTI_HOT},
                                             {"skip", COLUMN_SKIP},
                                             {"weight", COLUMN_WEIGHT},
                                             {NULL, 0}};
static const config_word_t transforms[] = {{"none", TRANSFORM_NONE},
                                           {"log1p", TRANSFORM_LOG1P},
                                           {"zscore", TRANSFORM_ZSCORE},
                                           {"log1p_zscore", TRANSFORM_LOG1P_ZSCORE},
                                           {NULL, 0}};
static const config_word_t mappings[] = {
    {"identity", MAPPING_IDENTITY}, {"hash", MAPPING_HASH}, {"vocabulary", MAPPING_VOCABULARY}, {NULL, 0}};
static const config_word_t criteo_mappings[] = {
    {"hash", MAPPING_HASH}, {"vocabulary", MAPPING_VOCABULARY}, {NULL, 0}};
static const config_word_t split_names[] = {{"hash", 0}, {"order", 1}, {NULL, 0}};
static const config_word_t bad_row_names[] = {{"error", 0}, {"skip", 1}, {NULL, 0}};

static const config_key_t movielens_keys[] = {
    KEY_TEXT(settings_movielens_t, folder, "data/ml-100k", "holds NAME.inter, NAME.item and NAME.user"),
    KEY_TEXT(settings_movielens_t, name, "ml-100k", "the files' common name"),
    KEY_REAL(settings_movielens_t, like_threshold, "4", -1e9, 1e9, NULL, "label: rating >= this"),
    KEY_INT(settings_movielens_t, history_length, "20", 0, 1e6, NULL,
            "the newest so many earlier liked movies; 0 leaves the feature out"),
    KEY_BOOL(settings_movielens_t, shuffle_labels, "false", "a control: permuted labels, AUC must be 0.5"),
    KEYS_END};
static const config_section_t movielens_section = SECTION(settings_movielens_t, movielens_keys);

static const config_key_t column_keys[] = {
    KEY_TEXT(settings_column_t, name, NULL, "the column's, and its feature's, name"),
    KEY_INT(settings_column_t, index, "auto", 0, 1e6, word_place, "0-based; auto: its place in this list"),
    KEY_CHOICE(settings_column_t, "kind", kind, NULL, column_kinds,
               "what the column is; weight: of the sample, in loss and metrics"),
    KEY_CHOICE(settings_column_t, "transform", transform, "none", transforms, "dense: of the value"),
    KEY_REAL(settings_column_t, missing, "0", -1e30, 1e30, NULL, "dense: an empty field's value"),
    KEY_CHOICE(settings_column_t, "mapping", mapping, "vocabulary", mappings,
               "how a token becomes a row; vocabulary: row 0 is for rare and unknown tokens"),
    KEY_INT(settings_column_t, rows, "all", 1, BIG, word_all,
            "identity, hash: rows of the table; vocabulary: at most so many"),
    KEY_INT(settings_column_t, min_count, "1", 1, BIG, NULL, "vocabulary: rarer tokens go to row 0"),
    KEY_INT(settings_column_t, max_length, "all", 1, BIG, word_all, "multi_hot: the first so many tokens"),
    KEY_CHAR(settings_column_t, separator, " ", "multi_hot: between tokens"),
    KEYS_END};
static const config_section_t column_section = SECTION(settings_column_t, column_keys);

/* What all files of rows have. */
#define ROWS_KEYS(type, by)                                                                                  \
  KEY_REALS(type, split, "[0.8, 0.1, 0.1]", 0, 1, "shares of train, valid and test"),                        \
      KEY_CHOICE(type, "split_by", split_by_order, by, split_names,                                          \
                 "hash: of the row's number with split_seed; order: the last rows are the test"),            \
      KEY_CHOICE(type, "on_bad_row", skip_bad_rows, "error", bad_row_names,                                  \
                 "a row that cannot be read ends the run, or is left out and counted"),                      \
      KEY_INT(type, shuffle_window, "65536", 0, 1e9, NULL,                                                   \
              "training rows permuted together; 0 keeps the file's order")

static const config_key_t delimited_keys[] = {
    KEY_TEXTS(settings_delimited_t, path, NULL,
              "the file, or files that are one in this order; plain or gzip"),
    KEY_CHAR(settings_delimited_t, delimiter, "\t", "between columns"),
    KEY_INT(settings_delimited_t, header_lines, "0", 0, 1e6, NULL, "lines skipped at the top of each file"),
    KEY_SECTIONS(settings_delimited_t, columns, &column_section, 0, "what each column is"),
    ROWS_KEYS(settings_delimited_t, "hash"),
    KEYS_END};
static const config_section_t delimited_section = SECTION(settings_delimited_t, delimited_keys);

static const config_key_t criteo_keys[] = {
    KEY_TEXTS(settings_criteo_t, path, NULL, "the file, or files that are one in this order; plain or gzip"),
    KEY_CHOICE(settings_criteo_t, "transform", transform, "log1p", transforms,
               "of I1 to I13; log1p: log(1 + x), missing and negative values as 0, as MLPerf's DLRM"),
    KEY_CHOICE(settings_criteo_t, "mapping", mapping, "vocabulary", criteo_mappings,
               "how a category becomes a row; vocabulary: row 0 is for rare and unknown ones"),
    KEY_INT(settings_criteo_t, min_count, "1", 1, BIG, NULL, "vocabulary: rarer categories go to row 0"),
    KEY_INTS(
        settings_criteo_t, rows, "[0]", 0, BIG,
        "hash: rows of the tables C1 to C26, or one number for all; vocabulary: at most so many, 0: all"),
    KEY_INTS(settings_criteo_t, multi_hot, "[1]", 1, 1 << 20,
             "bag sizes of C1 to C26, or one for all: a category's row and rows drawn for it, as in MLPerf"),
    ROWS_KEYS(settings_criteo_t, "order"),
    KEYS_END};
static const config_section_t criteo_section = SECTION(settings_criteo_t, criteo_keys);

static const config_key_t binary_keys[] = {
    KEY_TEXT(settings_binary_t, path, NULL, "a file of shardbag data convert"),
    KEY_INT(settings_binary_t, shuffle_window, "source", 0, 1e9, word_source,
            "training rows permuted, and in memory, together; source: as the source that was converted"),
    KEYS_END};
static const config_section_t binary_section = SECTION(settings_binary_t, binary_keys);

static const config_key_t synthetic_keys[] = {
    KEY_INTS(settings_synthetic_t, samples, "[65536, 8192, 8192]", 0, BIG, "of train, valid and test"),
    KEY_INT(settings_synthetic_t, dense_count, "13", 0, 4096, NULL, "dense values a sample"),
    KEY_INTS(settings_synthetic_t, rows, "[1000, 10000, 100000]", 1, BIG, "of each feature's table"),
    KEY_INTS(settings_synthetic_t, bag_length, "[1]", 1, 1e6, "indices a bag, each feature's or one for all"),
    KEY_REAL(settings_synthetic_t, zipf, "1.05", 0, 10, NULL, "exponent of the rows' popularity; 0: uniform"),
    KEYS_END};
static const config_section_t synthetic_section = SECTION(settings_synthetic_t, synthetic_keys);

#define SPLIT_FILES(type)                                                                                    \
  KEY_TEXTS(type, train, NULL, "the file to train on, or files; plain or gzip"),                             \
      KEY_TEXTS(type, valid, "", "for evaluations on the way; empty: none"),                                 \
      KEY_TEXTS(type, test, "", "for the evaluation at the end; empty: none")

static const config_key_t text_keys[] = {
    SPLIT_FILES(settings_text_t),
    KEY_BOOL(settings_text_t, lowercase, "true", "A to Z count as a to z"),
    KEY_INT(settings_text_t, ngrams, "2", 1, 8, NULL,
            "runs of up to so many words have vectors of their own"),
    KEY_INT(settings_text_t, buckets, "262144", 1, BIG, NULL,
            "rows of the table that words and runs are hashed to"),
    KEY_INT(settings_text_t, max_length, "all", 1, BIG, word_all, "the first so many words of a text"),
    KEY_CHOICE(settings_text_t, "on_bad_row", skip_bad_rows, "error", bad_row_names,
               "a row that cannot be read ends the run, or is left out and counted"),
    KEY_INT(settings_text_t, shuffle_window, "65536", 0, 1e9, NULL,
            "training rows permuted together; 0 keeps the files' order"),
    KEYS_END};
static const config_section_t text_section = SECTION(settings_text_t, text_keys);

static const config_word_t ranking_formats[] = {{"lists", 0}, {"inter", 1}, {NULL, 0}};
static const config_key_t ranking_keys[] = {
    SPLIT_FILES(settings_ranking_t),
    KEY_CHOICE(
        settings_ranking_t, "format", held_out, "lists", ranking_formats,
        "lists: lines 'user item item ...' of integers, as LightGCN's; inter: RecBole's .inter in train"),
    KEY_REALS(settings_ranking_t, holdout, "[0, 0.2]", 0, 0.99,
              "inter: of each user's items the newest, shares of valid and test"),
    KEY_REAL(settings_ranking_t, min_rating, "0", -1e9, 1e9, NULL, "inter: lower ratings are left out"),
    KEY_INT(settings_ranking_t, negatives, "1", 1, RANKING_NEGATIVES_MAX, NULL,
            "items that are none of the user's, drawn for each of the user's"),
    KEY_INT(settings_ranking_t, history_length, "0", 0, 1e6, NULL,
            "at most so many of the user's other items beside the user's own vector, of inter the newest "
            "before the "
            "item; 0 leaves the feature out"),
    KEY_CHOICE(settings_ranking_t, "on_bad_row", skip_bad_rows, "error", bad_row_names,
               "a row that cannot be read ends the run, or is left out and counted"),
    KEYS_END};
static const config_section_t ranking_section = SECTION(settings_ranking_t, ranking_keys);

static const config_key_t corpus_keys[] = {
    KEY_TEXTS(settings_corpus_t, path, NULL, "the text file, or files; plain or gzip"),
    KEY_BOOL(settings_corpus_t, lowercase, "true", "A to Z count as a to z"),
    KEY_INT(settings_corpus_t, min_count, "5", 1, BIG, NULL, "rarer words are left out"),
    KEY_INT(settings_corpus_t, window, "5", 1, 1000, NULL,
            "words before and behind that count: 1 to so many, drawn"),
    KEY_INT(settings_corpus_t, negatives, "5", 1, RANKING_NEGATIVES_MAX, NULL,
            "words drawn by their count^0.75 for each word"),
    KEY_REAL(settings_corpus_t, subsample, "1e-3", 0, 1, NULL,
             "words with a larger share of the text are thinned out; 0: none"),
    KEY_REALS(settings_corpus_t, split, "[1, 0, 0]", 0, 1,
              "shares of train, valid and test, in the text's order"),
    KEY_CHOICE(settings_corpus_t, "on_bad_row", skip_bad_rows, "error", bad_row_names,
               "a word that cannot be read ends the run, or is left out and counted"),
    KEYS_END};
static const config_section_t corpus_section = SECTION(settings_corpus_t, corpus_keys);

static const config_key_t data_keys[] = {
    KEY_CHOICE(settings_data_t, "kind", kind, NULL, data_kinds, "where samples come from"),
    KEY_INT(settings_data_t, seed, "same", 0, BIG, word_same,
            "of shuffling and hashing; same: the run's seed"),
    KEY_INT(settings_data_t, split_seed, "1", 0, BIG, NULL, "of the split by a hash of the line number"),
    KEY_BOOL(settings_data_t, shuffle, "true", "shuffle the training samples anew each epoch"),
    KEY_INT(settings_data_t, prefetch, "4", 1, 1024, NULL, "batches kept ready by the background thread"),
    KEY_SECTION(settings_data_t, movielens, &movielens_section,
                "kind movielens: MovieLens in recbole's files"),
    KEY_SECTION(settings_data_t, delimited, &delimited_section, "kind delimited: files of separated columns"),
    KEY_SECTION(settings_data_t, criteo, &criteo_section, "kind criteo: Criteo's click logs"),
    KEY_SECTION(settings_data_t, binary, &binary_section, "kind binary: samples of shardbag data convert"),
    KEY_SECTION(settings_data_t, synthetic, &synthetic_section, "kind synthetic: made up from the seed"),
    KEY_SECTION(settings_data_t, text, &text_section, "kind text: lines of a label, a tab and a text"),
    KEY_SECTION(settings_data_t, ranking, &ranking_section, "kind ranking: users and their items"),
    KEY_SECTION(settings_data_t, corpus, &corpus_section,
                "kind corpus: text, whose words are guessed from those around"),
    KEYS_END};
static const config_section_t data_section = SECTION(settings_data_t, data_keys);

/* ---- model, exchange, schedule, loop ---- */

static const config_word_t model_kinds[] = {
    {"ctr", MODEL_CTR}, {"classify", MODEL_CLASSIFY}, {"match", MODEL_MATCH}, {NULL, 0}};
static const config_word_t match_losses[] = {
    {"bpr", MATCH_BPR}, {"softmax", MATCH_SOFTMAX}, {"logistic", MATCH_LOGISTIC}, {NULL, 0}};
static const config_word_t interactions[] = {
    {"dot", MODEL_DOT}, {"cross", MODEL_CROSS}, {"fm", MODEL_FM}, {"concat", MODEL_CONCAT}, {NULL, 0}};
static const config_word_t structures[] = {{"stacked", 0}, {"parallel", 1}, {NULL, 0}};
static const config_word_t word_full[] = {{"full", 0}, {NULL, 0}};

static const config_key_t model_keys[] = {
    KEY_CHOICE(
        settings_model_t, "kind", kind, "ctr", model_kinds,
        "ctr: whether a sample's label is 1 (DLRM, DCN-v2, DeepFM, Wide & Deep, by the keys below); "
        "classify: which of the data's classes (kind text); match: which item goes with a query (kinds "
        "ranking, corpus)"),
    KEY_CHOICE(settings_model_t, "interaction", interaction, "dot", interactions,
               "of the features' vectors; dot: products of pairs (DLRM), cross: cross layers (DCN-v2), fm: a "
               "factorisation machine beside the top MLP (DeepFM), concat: none"),
    KEY_INT(settings_model_t, cross_layers, "3", 1, 64, NULL, "cross: layers"),
    KEY_INT(settings_model_t, cross_rank, "full", 1, 1e6, word_full, "cross: rank of their matrices"),
    KEY_CHOICE(settings_model_t, "cross_structure", cross_structure, "stacked", structures,
               "cross: the top MLP stands behind the cross layers, or beside them"),
    KEY_BOOL(
        settings_model_t, first_order, "false",
        "also a weight for each row and dense value, added to the logit; rows' weights are a table of dim "
        "1 a feature, named FEATURE.first_order"),
    KEY_SECTION(settings_model_t, first_order_optimizer, &optimizer_section,
                "of the tables FEATURE.first_order that are not in `tables`; without it table.optimizer"),
    KEY_CHOICE(settings_model_t, "loss", loss, "bpr", match_losses,
               "match; bpr: the item's score against each negative's, softmax: against all of them, "
               "logistic: each by "
               "itself (word2vec's)"),
    KEY_REAL(settings_model_t, temperature, "1", 1e-6, 1e6, NULL, "match: scores are divided by it"),
    KEY_REAL(settings_model_t, l2, "0", 0, 1e3, NULL,
             "match: half of it times the squares of a sample's vectors is added to its loss"),
    KEY_INT(settings_model_t, interaction_dim, "auto", 1, 65536, word_auto,
            "of the vectors in the interaction; auto: table.dim"),
    KEY_INTS(settings_model_t, bottom, "[64]", 1, 1e6, "hidden layers of the bottom MLP (dense values)"),
    KEY_INTS(settings_model_t, top, "[64, 32]", 1, 1e6, "hidden layers of the top MLP"),
    KEY_REAL(settings_model_t, dropout, "0", 0, 0.99, NULL, "on the top MLP's hidden layers, in training"),
    KEY_REAL(settings_model_t, clip_norm, "0", 0, 1e30, NULL, "of all gradients together; 0 is off"),
    KEY_REAL(settings_model_t, clip_value, "0", 0, 1e30, NULL, "dense gradients are clamped; 0 is off"),
    KEY_INT(settings_model_t, bucket_bytes, "1048576", 1, 1 << 30, NULL, "of one dense all-reduce"),
    KEY_SECTION(settings_model_t, optimizer, &dense_optimizer_section, "of the dense layers"),
    KEYS_END};
static const config_section_t model_section = SECTION(settings_model_t, model_keys);

static const config_word_t device_kinds[] = {
    {"cpu", SBAG_DEVICE_CPU}, {"cuda", SBAG_DEVICE_CUDA}, {"auto", SBAG_DEVICE_AUTO}, {NULL, 0}};
static const config_word_t exchange_kinds[] = {{"auto", SBAG_EXCHANGE_AUTO},
                                               {"pools", SBAG_EXCHANGE_POOLS},
                                               {"rows", SBAG_EXCHANGE_ROWS},
                                               {"dense", SBAG_EXCHANGE_DENSE},
                                               {NULL, 0}};
static const config_word_t wire_kinds[] = {
    {"full", SBAG_WIRE_FULL}, {"f16", SBAG_WIRE_F16}, {"bf16", SBAG_WIRE_BF16}, {NULL, 0}};
static const config_key_t wire_keys[] = {
    KEY_CHOICE(settings_wire_t, "vectors", vectors, "full", wire_kinds,
               "rows, pools and gradients between ranks; what 16 bits lose is logged"),
    KEY_INT(settings_wire_t, chunk_bytes, "67108864", 1, 1 << 30, NULL, "largest single message"), KEYS_END};
static const config_section_t wire_section = SECTION(settings_wire_t, wire_keys);

static const config_word_t schedule_kinds[] = {{"constant", SCHEDULE_CONSTANT},
                                               {"step", SCHEDULE_STEP},
                                               {"polynomial", SCHEDULE_POLYNOMIAL},
                                               {"exponential", SCHEDULE_EXPONENTIAL},
                                               {NULL, 0}};
static const config_key_t schedule_keys[] = {
    KEY_CHOICE(settings_schedule_t, "kind", kind, "constant", schedule_kinds,
               "of the factor on all learning rates, after the warm-up"),
    KEY_INT(settings_schedule_t, warmup_steps, "0", 0, BIG, NULL, "steps of linear warm-up, before any kind"),
    KEY_REAL(settings_schedule_t, warmup_start, "0", 0, 1, NULL, "factor of the first warm-up step"),
    KEY_INT(settings_schedule_t, every, "1000", 1, BIG, NULL, "step, exponential: steps for one gamma"),
    KEY_REAL(settings_schedule_t, gamma, "0.9", 0, 1, NULL, "step, exponential: factor per `every` steps"),
    KEY_INT(settings_schedule_t, decay_steps, "auto", 1, BIG, word_auto,
            "polynomial: steps from 1 to `end`; auto: the whole run"),
    KEY_REAL(settings_schedule_t, power, "1", 0.01, 100, NULL, "polynomial: 1 is linear"),
    KEY_REAL(settings_schedule_t, end, "0", 0, 1, NULL, "polynomial: the last factor"),
    KEYS_END};
static const config_section_t schedule_section = SECTION(settings_schedule_t, schedule_keys);

static const config_key_t train_keys[] = {
    KEY_INT(settings_train_t, epochs, "1", 1, 1e9, NULL, "passes over the training samples"),
    KEY_INT(settings_train_t, max_steps, "off", 1, BIG, word_never, "stop after so many steps"),
    KEY_INT(settings_train_t, global_batch, "1024", 1, 1 << 30, NULL, "samples a step, over all ranks"),
    KEY_INT(settings_train_t, eval_batch, "4096", 1, 1 << 30, NULL,
            "samples a step of an evaluation, over all ranks"),
    KEY_INT(settings_train_t, eval_every, "off", 1, BIG, word_never,
            "steps between evaluations on valid; there is one at the end in any case"),
    KEY_INT(settings_train_t, top_k, "20", 1, 1 << 20, NULL,
            "data kind ranking: recall and NDCG are of the best so many"),
    KEY_INT(settings_train_t, log_every, "100", 1, BIG, NULL, "steps between lines of progress"),
    KEY_INT(settings_train_t, patience, "off", 1, 1e9, word_never,
            "stop after so many evaluations on valid without a better patience_metric"),
    KEY_TEXT(settings_train_t, patience_metric, "",
             "a metric by the name that it is printed with; empty: the first one, as auc of ctr. Losses, "
             "normalized_entropy and calibration shall fall, others rise"),
    KEY_REALS(settings_train_t, class_weights, "[]", 0, 1e30,
              "samples of label 0, 1, ... weigh so much in the loss; empty: 1 each"),
    KEY_BOOL(settings_train_t, reproducible, "false", "the same bits for any number of ranks, but slower"),
    KEY_BOOL(settings_train_t, pipeline, "true",
             "send the next batch's ids while this one is computed; the results are the same to the bit"),
    KEYS_END};
static const config_section_t train_section = SECTION(settings_train_t, train_keys);

static const config_key_t eval_keys[] = {
    KEY_TEXT(settings_eval_t, name, NULL, "what its metrics are printed with"),
    KEY_TEXTS(settings_eval_t, path, NULL, "the file or files, in place of those of `data`"), KEYS_END};
static const config_section_t eval_section = SECTION(settings_eval_t, eval_keys);

static const config_key_t run_keys[] = {
    KEY_TEXT(settings_run_t, dir, "", "of metrics.jsonl and checkpoints; empty: runs/<name>"),
    KEY_BOOL(settings_run_t, checkpoint, "true", "write ckpt-<step>.h5 at the end"), KEYS_END};
static const config_section_t run_section = SECTION(settings_run_t, run_keys);

static const config_key_t checkpoint_keys[] = {
    KEY_TEXT(settings_checkpoint_t, dir, "", "of ckpt-<step>.h5; empty: run.dir"),
    KEY_INT(settings_checkpoint_t, every_steps, "off", 1, BIG, word_never, "steps between checkpoints"),
    KEY_REAL(settings_checkpoint_t, every_minutes, "off", 0, 1e9, word_never,
             "minutes between checkpoints, by rank 0's clock"),
    KEY_INT(settings_checkpoint_t, keep, "all", 0, BIG, word_all,
            "the run's newest so many checkpoints stay, older ones are removed; 0 is all"),
    KEYS_END};
static const config_section_t checkpoint_section = SECTION(settings_checkpoint_t, checkpoint_keys);

static const config_key_t bench_keys[] = {
    KEY_INT(settings_bench_t, steps, "20", 1, 1e6, NULL, "of a round, with the pipeline and without it"),
    KEY_INT(settings_bench_t, rounds, "5", 1, 1000, NULL, "of both, in turn"),
    KEY_INT(settings_bench_t, warmup, "5", 0, 1e6, NULL, "steps before, each way"),
    KEY_INT(settings_bench_t, batches, "0", 0, 1e6, NULL,
            "that are read before and come in turn; 0: the reader makes new ones beside the steps"),
    KEYS_END};
static const config_section_t bench_section = SECTION(settings_bench_t, bench_keys);

static const config_key_t settings_keys[] = {
    KEY_TEXT(settings_t, name, "", "of the run; empty: the config file's"),
    KEY_INT(settings_t, seed, "1", 0, BIG, NULL, "of initial values, shuffling and dropout"),
    KEY_SECTION(settings_t, run, &run_section, "what the run leaves behind"),
    KEY_SECTION(settings_t, checkpoint, &checkpoint_section, "what train --resume continues from"),
    KEY_SECTION(settings_t, data, &data_section, "the samples"),
    KEY_SECTION(settings_t, model, &model_section, "its dense part"),
    KEY_SECTION(settings_t, table, &table_default_section, "defaults of every table"),
    KEY_SECTIONS(settings_t, tables, &table_section, AT(settings_t, table) + 1,
                 "tables that differ from the defaults: name, rows, and any key of `table`. Every feature "
                 "that names no table has one of its own name. name is required; rows: an integer or auto"),
    KEY_SECTIONS(settings_t, features, &feature_section, 0,
                 "features that differ from the defaults; the reader's others are pooled by mean"),
    KEY_CHOICE(settings_t, "device", device, "cpu", device_kinds,
               "cuda: every rank on a GPU of its own; auto: cuda where every rank has one, else cpu"),
    KEY_INT(settings_t, threads, "auto", 1, 4096, word_auto,
            "of each rank on the CPU; auto: OMP_NUM_THREADS, or its part of the machine's cores"),
    KEY_CHOICE(settings_t, "exchange", exchange, "auto", exchange_kinds,
               "what owners send; auto: per pair of ranks, table and batch, whatever takes the fewest bytes"),
    KEY_SECTION(settings_t, wire, &wire_section, "how it travels between ranks"),
    KEY_SECTION(settings_t, schedule, &schedule_section, "of the learning rates"),
    KEY_SECTION(settings_t, train, &train_section, "the loop"),
    KEY_SECTIONS(
        settings_t, eval, &eval_section, 0,
        "more sets to evaluate on, beside valid and test: whole files of data.kind delimited, criteo, "
        "text, ranking (format lists), corpus or binary"),
    KEY_SECTION(settings_t, bench, &bench_section, "what `shardbag bench step` takes"),
    KEYS_END};
const config_section_t settings_section = SECTION(settings_t, settings_keys);
