#include "backends/all.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "backends/cpu/cpu.h"
#include "backends/cpu/machine.h"
#include "backends/cuda/cuda.h"
#include "backends/ref/ref.h"

namespace weft {

namespace {

/// More threads than cores wait for each other and read no faster.
int threads_that_help(int asked) {
  const int cores = cpu::usable_cores().all;
  if (asked <= cores) return asked;
  fmt::print(stderr, "weft: {} threads were asked for, this process may use {} core{}: running {}\n", asked, cores,
             cores == 1 ? "" : "s", cores);
  return cores;
}

}  // namespace

std::vector<std::unique_ptr<Backend>> make_backends(const Env& env, const BackendOptions& options) {
  for (const std::string& name : env.backends) {
    require(name == "cuda" || name == "cpu" || name == "ref", "WEFT_BACKENDS: there is no backend {} (cuda, cpu, ref)",
            name);
  }
  const auto wanted = [&](std::string_view name) {
    return env.backends.empty() || std::ranges::find(env.backends, name) != env.backends.end();
  };
  std::vector<std::unique_ptr<Backend>> backends;
  // A context on every GPU takes time and memory.
  const bool gpus = options.backend != "cpu" && options.backend != "ref";
  if (wanted("cuda") && gpus) backends.push_back(load_cuda_backend({.memory_limit = options.gpu_memory}));
  if (wanted("cpu"))
    backends.push_back(make_cpu_backend(
        {.threads = threads_that_help(options.threads), .isa = env.cpu_isa, .deterministic = options.deterministic}));
  if (wanted("ref")) backends.push_back(make_ref_backend());
  return backends;
}

}  // namespace weft
