// A device's recorder, on a machine with a GPU and CUPTI: it sees what ran since it was last asked, and only that.
#include <map>

#include "graph/spans.h"
#include "ops/quant/all.h"
#include "tests/backends/attention_steps.h"
#include "tests/backends/cuda_fixture.h"

namespace weft::testing {
namespace {

class CudaTrace : public ::testing::Test {
 protected:
  void SetUp() override {
    if (backend_->devices().empty()) GTEST_SKIP() << backend_->absent();
    try {
      recorder_ = backend_->record_spans(0);
    } catch (const Error& error) {
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << "one line";
      GTEST_SKIP() << error.what();
    }
    ASSERT_NE(recorder_, nullptr);
  }

  std::unique_ptr<Backend> backend_ = load_cuda_backend();
  std::unique_ptr<SpanRecorder> recorder_;
};

TEST_F(CudaTrace, NotesCopiesAndClearingsOnce) {
  constexpr size_t kBytes = size_t{1} << 20;
  const Buffer a = backend_->allocate(0, kBytes), b = backend_->allocate(0, kBytes);
  recorder_->take();
  backend_->clear(0, a.data(), kBytes);
  backend_->copy(0, b.data(), a.data(), kBytes);
  const Spans spans = recorder_->take();
  EXPECT_EQ(spans.lost, 0u);
  EXPECT_EQ(spans.list.size(), 2u);
  for (const Span& span : spans.list) {
    EXPECT_LT(span.start_ns, span.end_ns) << span.name;
    EXPECT_EQ(span.launch, 0u) << span.name << ": no graph";
  }
  EXPECT_TRUE(recorder_->take().list.empty());
}

TEST_F(CudaTrace, TellsTheLaunchesOfAGraphApart) {
  const Kernel* kernel = find_kernel(*backend_, "softmax_context.decode");
  ASSERT_NE(kernel, nullptr);
  OpGraph g;
  Variant rotary{"rotary", heads(8, 2, 64)};
  rotary.op.rotary = Rotary::half;
  rotary.op.rotary_dim = 32;
  const NodeId node = make_step(g, rotary, {{16}, {1}, 1, 16}, quant::f16);
  recorder_->take();
  run_on_device(g, node, *backend_, *kernel);  // launches its graph twice
  std::map<uint64_t, std::vector<std::string>> launches;
  for (const Span& span : recorder_->take().list) {
    if (span.launch != 0) launches[span.launch].push_back(span.name);
  }
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_FALSE(launches.begin()->second.empty());
  EXPECT_EQ(launches.begin()->second.size(), launches.rbegin()->second.size());
}

}  // namespace
}  // namespace weft::testing
