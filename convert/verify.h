// Proof of a conversion: source and result run side by side.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/runtime.h"
#include "models/checkpoint.h"
#include "models/session/compare.h"

namespace weft {

struct Verification {
  int strings = 0;                         // tokenized by both
  std::vector<std::string> disagreements;  // of those, where ids or the text they give differ
  int64_t tokens = 0;                      // on which the models were compared
  Comparison comparison;
  double kl_bound = 0;  // mean KL divergence that passes

  bool passed() const { return disagreements.empty() && comparison.kl.mean() <= kl_bound; }
};

/// What a model of this type may lose: mean KL divergence from its source in nats, about three times what Llama-class
/// models lose in the published measurements of these types.
double kl_bound_of(DType type);

/// `kl_bound` below 0: that of the result's main type. Runs at Precision::exact. Throws Error if either cannot be run.
Verification verify_conversion(std::shared_ptr<const Checkpoint> source, std::shared_ptr<const Checkpoint> result,
                               Runtime& runtime, const std::string& backend, double kl_bound = -1);

}  // namespace weft
