#include "models/session/importance.h"

#include <gtest/gtest.h>

#include "tests/convert/temp_folder.h"
#include "tests/models/rig.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(Importance, MeansOfSquares) {
  ImportanceMatrix matrix;
  matrix.add("w", std::vector<float>{1, 2, 3, 4}, 2, 0, 1);
  EXPECT_EQ(matrix.means("w", 2, 1), (std::vector<float>{5, 10}));
  EXPECT_TRUE(matrix.means("other", 2, 1).empty());
  expect_message(error_of([&] { matrix.means("w", 4, 1); }), "has 2 values for w, the weight has 4 columns in 1");
  expect_message(error_of([&] { matrix.add("w", std::vector<float>{1}, 1, 0, 1); }), "came after another size");
}

TEST(Importance, AnExpertThatSawNothingCountsAllColumnsAlike) {
  ImportanceMatrix matrix;
  matrix.add("w", std::vector<float>{3}, 1, 1, 2);
  EXPECT_EQ(matrix.means("w", 1, 2), (std::vector<float>{1, 9}));
  matrix.set("alike", {{4, 6}, {2}});
  EXPECT_EQ(matrix.means("alike", 1, 2), (std::vector<float>{2, 3})) << "one count for all";
}

TEST(Importance, ARunFillsEveryMatrixButTheOutput) {
  for (const char* backend : {"ref", "cpu"}) {
    TinyOptions tiny{.n_expert = 3};
    const auto checkpoint = tiny_model(tiny);
    ImportanceMatrix matrix;
    ImportanceObserver observer(matrix);
    SessionOptions options = Rig::exact(backend);
    options.fallback = true;
    options.observer = &observer;
    Rig rig(checkpoint, options);
    const auto ids = random_ids(7, tiny.n_vocab, 1);
    rig.logits(ids, 4);
    size_t matrices = 0;
    for (const TensorSpec& spec : rig->model().architecture().tensors(rig->model().metadata())) {
      if (spec.shape.rank() < 2 || !spec.gguf.starts_with("blk.")) continue;
      ++matrices;
      const auto columns = static_cast<size_t>(spec.shape.columns());
      const size_t count = spec.shape.rank() == 3 ? static_cast<size_t>(spec.shape[0]) : 1;
      const auto means = matrix.means(spec.gguf, columns, count);
      ASSERT_EQ(means.size(), columns * count) << spec.gguf;
      const auto& counts = matrix.entries().find(spec.gguf)->second.counts;
      double rows = 0;
      for (const float c : counts) rows += c;
      EXPECT_EQ(rows, count > 1 ? 7 * 2 : 7) << spec.gguf << ": live tokens only, two experts each";
    }
    EXPECT_EQ(matrix.entries().size(), matrices) << "no output matrix";
    // The gains of RMSNorm are near 1, so what it gives has a mean square near 1.
    const auto means = matrix.means("blk.0.attn_q.weight", 36, 1);
    double sum = 0;
    for (const float m : means) sum += m;
    EXPECT_NEAR(sum / 36, 1, 0.3);
  }
}

}  // namespace
}  // namespace weft
