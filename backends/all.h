// The backends of this build: one line each in all.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/backend.h"
#include "graph/env.h"

namespace weft {

struct BackendOptions {
  std::string backend = "auto";  // the one that will be asked for: GPUs are left alone where it is not theirs
  int threads = 0;  // of the cpu backend; 0: performance cores this process may use; at most all of its cores
  size_t gpu_memory = SIZE_MAX;  // bytes of each GPU that may be used
  bool deterministic = false;    // of the cpu backend: logits do not depend on chunks, batches and threads
};

/// Every backend this machine can run, best first, limited by WEFT_BACKENDS. Throws Error on a name that does not
/// exist.
std::vector<std::unique_ptr<Backend>> make_backends(const Env& env, const BackendOptions& options = {});

}  // namespace weft
