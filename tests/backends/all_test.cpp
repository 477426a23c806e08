// make_backends: what a process is given is what it may ask for.
#include "backends/all.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace weft {
namespace {

bool has_cuda(const std::string& backend, std::vector<std::string> allowed = {}) {
  Env env;
  env.backends = std::move(allowed);
  const auto backends = make_backends(env, {.backend = backend, .threads = 1});
  return std::ranges::any_of(backends, [](const auto& b) { return b->name() == "cuda"; });
}

TEST(MakeBackends, LeavesTheGpusAloneWhereOthersWereAskedFor) {
  EXPECT_TRUE(has_cuda("auto")) << "a driver or no driver: it says why it has no device";
  EXPECT_TRUE(has_cuda("cuda"));
  EXPECT_FALSE(has_cuda("cpu"));
  EXPECT_FALSE(has_cuda("ref"));
  EXPECT_FALSE(has_cuda("auto", {"cpu", "ref"}));
}

}  // namespace
}  // namespace weft
