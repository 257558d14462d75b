/* The unit suites: see runner.h. */
#include "runner.h"

Suite *base_suite(void);
Suite *bench_cover_suite(void);
Suite *bench_load_suite(void);
Suite *comm_self_suite(void);
Suite *config_suite(void);
Suite *dense_suite(void);
Suite *embedding_bag_suite(void);
Suite *gate_suite(void);
Suite *kernel_cover_suite(void);
Suite *kernel_integer_suite(void);
Suite *kernel_narrow_suite(void);
Suite *kernel_pack_suite(void);
Suite *kernel_places_suite(void);
Suite *kernel_quant_suite(void);
Suite *kernel_reduce_suite(void);
Suite *kernel_rows_suite(void);
Suite *kernel_storage_suite(void);
Suite *layout_suite(void);
Suite *losses_suite(void);
Suite *metrics_suite(void);
Suite *optimizer_suite(void);
Suite *plan_suite(void);
Suite *reader_binary_suite(void);
Suite *reader_criteo_suite(void);
Suite *reader_delimited_suite(void);
Suite *reader_forms_suite(void);
Suite *reader_match_suite(void);
Suite *reader_movielens_suite(void);
Suite *reader_parts_suite(void);
Suite *reader_synthetic_suite(void);
Suite *reader_text_suite(void);
Suite *serve_suite(void);
Suite *store_suite(void);
Suite *trace_suite(void);

static const runner_suite_t suites[] = {
    {"base", base_suite},
    {"bench_cover", bench_cover_suite},
    {"bench_load", bench_load_suite},
    {"comm_self", comm_self_suite},
    {"config", config_suite},
    {"dense", dense_suite},
    {"embedding_bag", embedding_bag_suite},
    {"gate", gate_suite},
    {"kernel_cover", kernel_cover_suite},
    {"kernel_integer", kernel_integer_suite},
    {"kernel_narrow", kernel_narrow_suite},
    {"kernel_pack", kernel_pack_suite},
    {"kernel_places", kernel_places_suite},
    {"kernel_quant", kernel_quant_suite},
    {"kernel_reduce", kernel_reduce_suite},
    {"kernel_rows", kernel_rows_suite},
    {"kernel_storage", kernel_storage_suite},
    {"layout", layout_suite},
    {"losses", losses_suite},
    {"metrics", metrics_suite},
    {"optimizer", optimizer_suite},
    {"plan", plan_suite},
    {"reader_binary", reader_binary_suite},
    {"reader_criteo", reader_criteo_suite},
    {"reader_delimited", reader_delimited_suite},
    {"reader_forms", reader_forms_suite},
    {"reader_match", reader_match_suite},
    {"reader_movielens", reader_movielens_suite},
    {"reader_parts", reader_parts_suite},
    {"reader_synthetic", reader_synthetic_suite},
    {"reader_text", reader_text_suite},
    {"serve", serve_suite},
    {"store", store_suite},
    {"trace", trace_suite},
};

int main(int argc, char **argv) {
  return runner_main(suites, sizeof suites / sizeof *suites, argc, argv);
}
