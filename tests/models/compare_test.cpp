#include "models/session/compare.h"

#include <gtest/gtest.h>

#include "backends/all.h"
#include "ops/quant/q8_0.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

struct Compare : ::testing::Test {
  Runtime runtime{Env{}, make_backends(Env{}, {.threads = 2})};
  Comparison compare(std::shared_ptr<const Checkpoint> a, std::shared_ptr<const Checkpoint> b, size_t n = 70) {
    const Model base(std::move(a)), other(std::move(b));
    return compare_models(base, other, runtime, "cpu", random_ids(n, 61, 3));
  }
};

TEST_F(Compare, AModelWithItself) {
  const auto result = compare(tiny_model(), tiny_model());
  EXPECT_EQ(result.layer_error, (std::vector<double>{0, 0}));
  EXPECT_EQ(result.kl.tokens(), 70);
  EXPECT_NEAR(result.kl.mean(), 0, 1e-7);
  EXPECT_EQ(result.kl.same_top(), 1);
}

TEST_F(Compare, AQuantizedLayerShowsFromThereOn) {
  const TinyOptions options{.d_model = 32, .n_head = 2, .d_ff = 64};
  const auto changed = tiny_model(options);
  const TensorType type = changed->at("blk.1.ffn_up.weight").type;
  // The same values through q8_0: set() draws by seed, and tensors count from 0 in the order of the architecture.
  const auto& names = changed->tensor_names();
  const auto at = static_cast<uint64_t>(std::ranges::find(names, "blk.1.ffn_up.weight") - names.begin());
  changed->set("blk.1.ffn_up.weight", {quant::q8_0, type.shape}, 1000 + at);
  const auto result = compare(tiny_model(options), changed);
  ASSERT_EQ(result.layer_error.size(), 2u);
  EXPECT_EQ(result.layer_error[0], 0);
  EXPECT_GT(result.layer_error[1], 1e-5);
  EXPECT_LT(result.layer_error[1], 1e-2);
  EXPECT_GT(result.kl.mean(), 0);
  EXPECT_LT(result.kl.mean(), 1e-3);
}

TEST_F(Compare, OtherSizesAreRefused) {
  expect_message(error_of([&] { compare(tiny_model(), tiny_model({.n_layer = 3})); }), "tiny has 2 layers");
  expect_message(error_of([&] { compare(tiny_model(), tiny_model({.n_vocab = 62})); }), "a vocabulary of 61");
  expect_message(error_of([&] { compare(tiny_model(), tiny_model({.d_model = 48})); }), "layer 0");
  expect_message(error_of([&] { compare(tiny_model(), tiny_model(), 0); }), "no tokens");
}

}  // namespace
}  // namespace weft
