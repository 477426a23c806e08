// Two models side by side on the same tokens: how far their layers and predictions lie apart.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "graph/runtime.h"
#include "models/model.h"
#include "models/session/scoring.h"

namespace weft {

struct Comparison {
  /// Of what each layer hands to the next: root mean square of the difference over that of the base.
  std::vector<double> layer_error;
  KlScore kl;  // of the predictions after each token
};

/// Runs both at Precision::exact in chunks on `backend`. Throws Error if their vocabularies, depths or widths differ,
/// or there are no ids.
Comparison compare_models(const Model& base, const Model& other, Runtime& runtime, const std::string& backend,
                          std::span<const int32_t> ids);

}  // namespace weft
