/* How often the host waits for its GPU in a warm step of a collection, call by call. A message
 * waits on the device for what makes it; the host waits for the numbers that size what follows. */
#include "mpi/mpi_test.h"

#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

Suite *waits_suite(void);

static int waits;

cudaError_t __real_cudaStreamSynchronize(cudaStream_t stream);
cudaError_t __wrap_cudaStreamSynchronize(cudaStream_t stream);
cudaError_t __wrap_cudaStreamSynchronize(cudaStream_t stream) {
  waits++;
  return __real_cudaStreamSynchronize(stream);
}

enum { ROWS = 100, DIM = 4, BAGS = 8, LENGTH = 3, STEPS = 4 };
enum { ROUTE, VECTORS, COMBINE, SEND, MERGE, UPDATE, CALLS };

#define CHECK_OK(call) ck_assert_msg((call) == SBAG_OK, "%s", status.message)

static void count(int of[CALLS], int call) {
  of[call] = waits;
  waits = 0;
}

static void take_step(sbag_collection_h collection, const sbag_bags_t *bags, int of[CALLS]) {
  static float out[BAGS * DIM];
  sbag_status_t status = {0};
  sbag_step_h step = NULL;
  waits = 0;
  CHECK_OK(sbag_collection_prefetch(collection, bags, 0, &step, &status));
  CHECK_OK(sbag_step_advance(step, &status));
  CHECK_OK(sbag_step_advance(step, &status));
  count(of, ROUTE);
  CHECK_OK(sbag_step_forward_begin(step, &status));
  count(of, VECTORS);
  CHECK_OK(sbag_step_forward_end(step, out, &status));
  count(of, COMBINE);
  CHECK_OK(sbag_step_backward_begin(step, out, &status));
  count(of, SEND);
  CHECK_OK(sbag_step_backward_end(step, NULL, &status));
  count(of, MERGE);
  CHECK_OK(sbag_step_update(step, 1.0, 1.0, &status));
  count(of, UPDATE);
  sbag_step_release(&step);
}

START_TEST(waits_of_a_step) {
  static const int most[2][CALLS] = {{1, 0, 1, 0, 1, 0}, {2, 0, 1, 0, 0, 0}}; /* of one rank, and of more */
  int64_t indices[BAGS * LENGTH];
  int of[CALLS], size = 0, rank = 0;
  sbag_status_t status = {0};
  sbag_context_options_t options = sbag_context_options_default();
  sbag_collection_options_t defaults = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", ROWS, DIM);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  sbag_context_h context = NULL;
  sbag_collection_h collection = NULL;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int i = 0; i < BAGS * LENGTH; i++) indices[i] = (rank * 31 + i * 7) % ROWS;
  const sbag_bags_t bags = sbag_bags_2d(indices, BAGS, LENGTH);
  options.device = SBAG_DEVICE_CUDA;
  ck_assert_int_eq(setenv("EMU_DEVICES", "16", 1), 0); /* one a rank */
  CHECK_OK(sbag_context_create_mpi(MPI_COMM_WORLD, &options, &context, &status));
  CHECK_OK(sbag_collection_create(context, &defaults, &table, 1, &feature, 1, &collection, &status));
  for (int i = 0; i < STEPS; i++) take_step(collection, &bags, of);
  for (int call = 0; call < CALLS; call++)
    ck_assert_msg(of[call] <= most[size > 1][call], "call %d: the host waits %d times", call, of[call]);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
  ck_assert_int_eq(unsetenv("EMU_DEVICES"), 0);
}
END_TEST

Suite *waits_suite(void) {
  Suite *suite = suite_create("waits");
  TCase *tc = tcase_create("waits");
  tcase_add_test(tc, waits_of_a_step);
  suite_add_tcase(suite, tc);
  return suite;
}
