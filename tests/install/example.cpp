// The library from C++17: torch's documented example of from_pretrained, by mean, on a table cut over the
// ranks.
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

void check(sbag_code_t code, const sbag_status_t &status) {
  if (code != SBAG_OK) throw std::runtime_error(status.message);
}

struct ContextDeleter {
  using pointer = sbag_context_h;
  void operator()(pointer context) const { sbag_context_destroy(&context); }
};

struct CollectionDeleter {
  using pointer = sbag_collection_h;
  void operator()(pointer collection) const { sbag_collection_destroy(&collection); }
};

void run() {
  sbag_status_t status{};
  sbag_context_h context_handle = nullptr;
  check(sbag_context_create_mpi(MPI_COMM_WORLD, nullptr, &context_handle, &status), status);
  const std::unique_ptr<sbag_context_h, ContextDeleter> context(context_handle);

  constexpr std::array<float, 6> weights{1.0F, 2.3F, 3.0F, 4.0F, 5.1F, 6.3F};
  const sbag_table_options_t table = sbag_table_options_from_pretrained("t", 2, 3, weights.data());
  const sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
  sbag_collection_h collection_handle = nullptr;
  check(sbag_collection_create(context.get(), nullptr, &table, 1, &feature, 1, &collection_handle, &status),
        status);
  const std::unique_ptr<sbag_collection_h, CollectionDeleter> collection(collection_handle);

  constexpr std::array<std::int64_t, 2> indices{1, 0};
  const sbag_bags_t bags = sbag_bags_2d(indices.data(), 1, 2);
  sbag_step_h step = nullptr;
  check(sbag_collection_forward_begin(collection.get(), &bags, SBAG_FORWARD_READ_ONLY, &step, &status),
        status);
  std::array<float, 3> out{};
  const sbag_code_t code = sbag_step_forward_end(step, out.data(), &status);
  sbag_step_release(&step);
  check(code, status);

  constexpr std::array<float, 3> expected{2.5F, 3.7F, 4.65F};
  for (std::size_t column = 0; column < out.size(); column++) {
    if (!(std::fabs(out[column] - expected[column]) <= 1e-6F))
      throw std::runtime_error("column " + std::to_string(column) + " is " + std::to_string(out[column]));
  }
  std::printf("rank %d of %d: %g %g %g\n", sbag_context_rank(context.get()), sbag_context_size(context.get()),
              double{out[0]}, double{out[1]}, double{out[2]});
}

} // namespace

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int code = 0;
  try {
    run();
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    code = 1;
  }
  MPI_Finalize();
  return code;
}
