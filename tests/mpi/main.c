/* The MPI suites: see runner.h. */
#include "runner.h"

Suite *checkpoint_suite(void);
Suite *collection_suite(void);
Suite *comm_suite(void);
Suite *contract_suite(void);
Suite *direct_suite(void);
Suite *engine_suite(void);
Suite *examples_suite(void);
Suite *exchange_suite(void);
Suite *init_file_suite(void);
Suite *load_suite(void);
Suite *memory_suite(void);
Suite *metrics_suite(void);
Suite *model_suite(void);
Suite *property_suite(void);
Suite *quant_suite(void);
Suite *refusals_suite(void);
Suite *resume_suite(void);
Suite *steps_suite(void);
Suite *storage_suite(void);
Suite *topk_suite(void);

static const runner_suite_t suites[] = {
    {"checkpoint", checkpoint_suite},
    {"collection", collection_suite},
    {"comm", comm_suite},
    {"contract", contract_suite},
    {"direct", direct_suite},
    {"engine", engine_suite},
    {"examples", examples_suite},
    {"exchange", exchange_suite},
    {"init_file", init_file_suite},
    {"load", load_suite},
    {"memory", memory_suite},
    {"metrics", metrics_suite},
    {"model", model_suite},
    {"property", property_suite},
    {"quant", quant_suite},
    {"refusals", refusals_suite},
    {"resume", resume_suite},
    {"steps", steps_suite},
    {"storage", storage_suite},
    {"topk", topk_suite},
};

int main(int argc, char **argv) {
  return runner_mpi_main(suites, sizeof suites / sizeof *suites, argc, argv);
}
