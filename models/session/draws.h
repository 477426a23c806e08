// What a device is told so that it draws a token as a Sampler would: the inputs of ops/sample.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/session/sampler.h"

namespace weft {

/// A token to be drawn as Sampler::sample draws it. `history` ends with the token whose logits it is drawn from.
struct Draw {
  SamplerOptions options;
  std::span<const int32_t> history;
  uint64_t position = 0;
};

constexpr int64_t kMostRecent = 63;  // tokens that a device penalizes beside the one it is fed
constexpr int64_t kMostDrawn = 128;  // largest logits that it draws from

/// Row by row.
struct DrawInputs {
  std::vector<float> options;   // [rows, Sample::kOptionColumns]
  std::vector<int32_t> draws;   // [rows, Sample::kDrawColumns]
  std::vector<int32_t> recent;  // [rows, kMostRecent]; -1: none

  bool operator==(const DrawInputs&) const = default;
};

/// How many of the largest logits decide, whatever the history; 0: more than kMostDrawn, or all of them.
int64_t drawn_from(const SamplerOptions& options);

/// For these tokens or, `ahead`, for those that follow them, whatever they are: the device knows what it drew. Nothing
/// if a row has more recent tokens than fit.
std::optional<DrawInputs> draw_inputs(std::span<const Draw> draws, bool ahead);

}  // namespace weft
