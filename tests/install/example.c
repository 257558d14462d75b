#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>
#include <stdio.h>

/* A million rows of 16 floats, cut over the ranks; one step of training on two bags a rank. */
int main(int argc, char **argv) {
  sbag_table_options_t table = sbag_table_options_default("movie", 1000000, 16);
  table.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAGRAD);
  sbag_feature_options_t liked = sbag_feature_options_default("liked", 0); /* of table 0, pooled by mean */
  const int64_t indices[] = {7, 999999, 7, 42, 3}, offsets[] = {0, 3};     /* {7, 999999, 7} and {42, 3} */
  sbag_bags_t bags = sbag_bags_1d(indices, 5, offsets, 2);
  sbag_context_h context = NULL;
  sbag_collection_h tables = NULL;
  sbag_step_h step = NULL;
  sbag_status_t status = {0};
  float out[32], grad[32]; /* [2 bags][16] */

  MPI_Init(&argc, &argv);
  sbag_code_t code = sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &status);
  if (!code) code = sbag_collection_create(context, NULL, &table, 1, &liked, 1, &tables, &status);
  if (!code) code = sbag_collection_forward_begin(tables, &bags, 0, &step, &status);
  if (!code) code = sbag_step_forward_end(step, out, &status);
  for (int i = 0; i < 32 && !code; i++) grad[i] = out[i];          /* the gradient of |out|^2 / 2 */
  if (!code) code = sbag_step_backward(step, grad, NULL, &status); /* home to the rows' owners, merged */
  if (!code) code = sbag_step_update(step, 1, 1, &status);         /* each owner updates its rows */
  if (!code) printf("rank %d of %d: %f\n", sbag_context_rank(context), sbag_context_size(context), out[0]);
  if (code) fprintf(stderr, "%s\n", status.message);
  sbag_step_release(&step);
  sbag_collection_destroy(&tables);
  sbag_context_destroy(&context);
  MPI_Finalize();
  return code ? 1 : 0;
}
