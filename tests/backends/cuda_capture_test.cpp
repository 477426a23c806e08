// Nothing of a plan allocates or waits while it runs: what is launched is captured once, and a capture refuses both.
#if __has_include(<cuda_runtime_api.h>)  // where nvcc is
#include "backends/cuda/steps.h"
#include "tests/backends/cuda_fixture.h"

namespace weft::testing {
namespace {

class CudaCapture : public ::testing::Test {
 protected:
  void SetUp() override {
    if (backend_->devices().empty()) GTEST_SKIP() << backend_->absent();
  }
  /// The message of the error that a plan with such a launch ends in, "" if there is none.
  std::string error_of_plan(const std::function<void()>& launch) {
    return error_of([&] {
      auto steps = backend_->begin(0);
      cuda::emit(*steps, [&](cudaStream_t) { launch(); });
      backend_->finish(std::move(steps));
    });
  }

  std::unique_ptr<Backend> backend_ = load_cuda_backend();
};

TEST_F(CudaCapture, RefusesToAllocateAndToWait) {
  const Buffer buffer = backend_->allocate(0, 64);
  std::byte there[64] = {};
  for (int round = 0; round < 2; ++round) {  // the second: an error leaves the stream as it was
    EXPECT_NE(error_of_plan([&] { backend_->allocate(0, 1 << 20); }), "");
    EXPECT_NE(error_of_plan([&] { backend_->read(0, there, buffer.data(), sizeof there); }), "");
    EXPECT_NE(error_of_plan([&] { fail("a launch that is refused"); }), "");
    EXPECT_EQ(error_of_plan([&] { backend_->clear(0, buffer.data(), 64); }), "") << "a clearing is a node";
    EXPECT_EQ(error_of_plan([] {}), "");
  }
}

// What was captured runs when the plan is launched, and not before.
TEST_F(CudaCapture, RunsWhatItNoted) {
  const Buffer buffer = backend_->allocate(0, 64);
  const std::vector<std::byte> ones(64, std::byte{1});
  std::vector<std::byte> got(64);
  EXPECT_NE(error_of_plan([&] { backend_->allocate(0, 1 << 20); }), "")
      << "and what comes after is as if that were not";
  backend_->write(0, buffer.data(), ones.data(), ones.size());
  auto steps = backend_->begin(0);
  cuda::emit(*steps, [&](cudaStream_t) { backend_->clear(0, buffer.data(), 64); });
  const auto segment = backend_->finish(std::move(steps));
  backend_->read(0, got.data(), buffer.data(), got.size());
  EXPECT_EQ(got, ones);
  segment->launch();
  backend_->read(0, got.data(), buffer.data(), got.size());
  EXPECT_EQ(got, std::vector<std::byte>(64));
}

}  // namespace
}  // namespace weft::testing
#endif
