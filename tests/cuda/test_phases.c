/* The ranges that a profiler sees of a step on a GPU, by the way that profilers take: NVTX hands them its
 * table of functions; and how often the host waits for the GPU in each. */
#include <check.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>
#include <shardbag/shardbag.h>
#include <string.h>

Suite *cuda_phases_suite(void);

enum { RANGES = 64 };

static const char *ranges[RANGES];
static int pushed, open_now, deepest;

static int NVTX_API push(const char *message) {
  if (pushed < RANGES) ranges[pushed] = message;
  pushed++;
  open_now++;
  if (open_now > deepest) deepest = open_now;
  return open_now - 1;
}

static int NVTX_API pop(void) {
  return --open_now;
}

static int NVTX_API inject(NvtxGetExportTableFunc_t table_of) {
  const NvtxExportTableCallbacks *callbacks = table_of(NVTX_ETID_CALLBACKS);
  NvtxFunctionTable table = NULL;
  unsigned int size = 0;
  if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size)) return 0;
  *table[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
  *table[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
  return 1;
}

/* NVTX's own name, declared by it, for a profiler that is linked in. */
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = inject;

/* ---- waits: the linker has this called in place of CUDA's (--wrap) ---- */

static int waits[RANGES + 1]; /* in the n-th range, from 1 */

cudaError_t __real_cudaStreamSynchronize(cudaStream_t stream);
cudaError_t __wrap_cudaStreamSynchronize(cudaStream_t stream);
cudaError_t __wrap_cudaStreamSynchronize(cudaStream_t stream) {
  if (pushed <= RANGES && open_now > 0) waits[pushed]++;
  return __real_cudaStreamSynchronize(stream);
}

static int waits_in(const char *range) {
  int count = 0;
  for (int i = 0; i < pushed && i < RANGES; i++)
    if (strcmp(ranges[i], range) == 0) count += waits[i + 1];
  return count;
}

/* ---- a step ---- */

/* The last of some, which is warm. */
static void train_step(void) {
  enum { ROWS = 10, DIM = 4, BAGS = 3, STEPS = 4 };
  static const int64_t indices[] = {1, 5, 5, 9}, offsets[BAGS] = {0, 2, 2};
  sbag_context_options_t on_gpu = sbag_context_options_default();
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", ROWS, DIM);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  const sbag_bags_t bags = sbag_bags_1d(indices, 4, offsets, BAGS);
  sbag_context_h context = NULL;
  sbag_collection_h collection = NULL;
  sbag_step_h step = NULL;
  sbag_status_t status = {0};
  float out[BAGS * DIM];
  on_gpu.device = SBAG_DEVICE_CUDA;
  ck_assert_msg(sbag_context_create(&on_gpu, &context, &status) == SBAG_OK, "%s", status.message);
  ck_assert_msg(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &status) ==
                    SBAG_OK,
                "%s", status.message);
  for (int i = 0; i < STEPS; i++) {
    pushed = 0;
    memset(waits, 0, sizeof waits);
    ck_assert_int_eq(sbag_collection_forward_begin(collection, &bags, 0, &step, &status), SBAG_OK);
    ck_assert_int_eq(sbag_step_forward_end(step, out, &status), SBAG_OK);
    ck_assert_int_eq(sbag_step_backward(step, out, NULL, &status), SBAG_OK);
    ck_assert_int_eq(sbag_step_update(step, 1.0, 1.0, &status), SBAG_OK);
    sbag_step_release(&step);
  }
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
}

START_TEST(a_step_is_shown_as_the_trace_tells_it) {
  static const char *const expected[] = {"exchange: route and send ids", "exchange: pool and send vectors",
                                         "exchange: combine vectors",    "exchange: send gradients",
                                         "exchange: merge gradients",    "update: tables"};
  int found = 0;
  train_step();
  ck_assert_int_le(pushed, RANGES);
  for (int i = 0; i < pushed && found < 6; i++) found += strcmp(ranges[i], expected[found]) == 0;
  ck_assert_msg(found == 6, "'%s' is not there, or out of order", found < 6 ? expected[found] : "");
  ck_assert_int_eq(open_now, 0);
  ck_assert_int_eq(deepest, 1);
}
END_TEST

/* On one rank. Where the host needs a number to go on, it has to wait for it. */
START_TEST(the_host_waits_where_it_needs_a_number) {
  static const struct {
    const char *range;
    int waits;
  } expected[] = {
      {"exchange: route and send ids", 1}, /* how many edges, and whether a batch is at fault */
      {"exchange: pool and send vectors", 0},
      {"exchange: combine vectors", 1}, /* the caller may read `out` at once */
      {"exchange: send gradients", 0},
      {"exchange: merge gradients", 1}, /* distinct rows, and how many of them a table has */
      {"update: tables", 0},
  };
  train_step();
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    ck_assert_msg(waits_in(expected[i].range) == expected[i].waits, "%s: the host waits %d times",
                  expected[i].range, waits_in(expected[i].range));
}
END_TEST

Suite *cuda_phases_suite(void) {
  Suite *suite = suite_create("cuda_phases");
  TCase *test_case = tcase_create("cuda_phases");
  tcase_add_test(test_case, a_step_is_shown_as_the_trace_tells_it);
  tcase_add_test(test_case, the_host_waits_where_it_needs_a_number);
  suite_add_tcase(suite, test_case);
  return suite;
}
