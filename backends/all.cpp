#include "backends/all.h"

#include <algorithm>

#include "backends/cpu/cpu.h"
#include "backends/ref/ref.h"

namespace weft {

std::vector<std::unique_ptr<Backend>> make_backends(const Env& env, const BackendOptions& options) {
  for (const std::string& name : env.backends) {
    require(name == "cpu" || name == "ref", "WEFT_BACKENDS: there is no backend {} in this build (cpu, ref)", name);
  }
  const auto wanted = [&](std::string_view name) {
    return env.backends.empty() || std::ranges::find(env.backends, name) != env.backends.end();
  };
  std::vector<std::unique_ptr<Backend>> backends;
  if (wanted("cpu")) backends.push_back(make_cpu_backend({.threads = options.threads, .isa = env.cpu_isa, .pack = options.pack}));
  if (wanted("ref")) backends.push_back(make_ref_backend());
  return backends;
}

}  // namespace weft
