// The cuda backend as a machine without a GPU sees it. On one with a GPU, tests/gpu/run.sh holds every op and model.
#include "backends/cuda/cuda.h"

#include <gtest/gtest.h>

#include "backends/all.h"
#include "graph/runtime.h"

namespace weft {
namespace {

TEST(Cuda, HasDevicesOrSaysWhyNot) {
  const auto backend = load_cuda_backend();
  EXPECT_EQ(backend->name(), "cuda");
  EXPECT_NE(backend->devices().empty(), backend->absent().empty());
  if (backend->devices().empty()) {
    EXPECT_EQ(backend->absent().find('\n'), std::string::npos) << "one line";
    EXPECT_TRUE(backend->kernels().empty());
    EXPECT_THROW(backend->allocate(0, 16), Error);
  }
}

TEST(Cuda, AskedForByNameItIsThereOrAnErrorWithTheReason) {
  Runtime runtime(Env{}, make_backends(Env{}, {.threads = 1}));
  if (!load_cuda_backend()->devices().empty()) {
    EXPECT_FALSE(runtime.devices("cuda").empty());
    return;
  }
  try {
    runtime.devices("cuda");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("cuda: "), std::string::npos) << error.what();
  }
  EXPECT_EQ(runtime.devices("auto").front().backend->name(), "cpu") << "auto goes on without";
}

TEST(Cuda, MemoryOfItsOwnIsHeldToTheLimit) {
  const auto backend = load_cuda_backend({.memory_limit = size_t{64} << 20});
  if (backend->devices().empty()) GTEST_SKIP() << backend->absent();
  for (const DeviceInfo& info : backend->devices()) EXPECT_LE(info.memory_bytes, size_t{64} << 20);
}

}  // namespace
}  // namespace weft
