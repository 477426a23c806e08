// A token drawn by the kernel of cuda is the one that Sampler draws of the same logits, to the last: ties, NaN, rows of
// no token, rows that are not live.
#include "tests/backends/cuda_fixture.h"
#include "tests/support/sample_rows.h"

namespace weft::testing {
namespace {

struct SampleSize {
  int64_t rows, vocab;
};
constexpr SampleSize kSampleSizes[] = {{1, 300}, {1, 1}, {7, 45}, {64, 1000}, {200, 300}, {1, 5000}};

TEST(CudaSample, IsWhatTheSamplerDraws) {
  const auto backend = load_cuda_backend();
  if (backend->devices().empty()) GTEST_SKIP() << backend->absent();
  const Kernel* kernel = find_kernel(*backend, "sample.f64");
  ASSERT_NE(kernel, nullptr);
  for (const SampleSize& s : kSampleSizes) {
    for (unsigned seed = 0; seed < (s.rows == 1 ? 60u : 20u); ++seed) {
      const SampleRows rows(s.rows, s.vocab, seed);
      OpGraph g;
      const int64_t n_live = s.rows - s.rows / 3;
      g.live = {static_cast<int32_t>(s.rows), static_cast<int32_t>(n_live)};
      const Ports ports = run_on_device(g, rows.add(g).node, *backend, *kernel);
      ASSERT_EQ(ports.size(), 1u);
      std::vector<int32_t> got(static_cast<size_t>(s.rows));
      std::memcpy(got.data(), ports[0].bytes.data(), got.size() * sizeof(int32_t));
      for (size_t r = 0; r < got.size(); ++r) {
        const bool live = static_cast<int64_t>(r) < n_live;
        EXPECT_EQ(got[r], live ? rows.expected[r] : -1) << (live ? "" : "not live and written: ") << s.rows << " x "
                                                        << s.vocab << ", seed " << seed << ", row " << r;
      }
    }
  }
}

}  // namespace
}  // namespace weft::testing
