#include "models/session/draws.h"

#include <algorithm>

#include "models/session/philox.h"
#include "ops/sample.h"

namespace weft {
namespace {

bool penalizes(const SamplerOptions& options) { return options.repeat_penalty != 1 && options.repeat_last_n != 0; }

/// Of a history but for its newest token, which is penalized as well: the tokens that are, each once.
std::vector<int32_t> older(const SamplerOptions& options, std::span<const int32_t> known) {
  if (!penalizes(options)) return {};
  if (options.repeat_last_n > 0) {
    known = known.last(std::min(known.size(), static_cast<size_t>(options.repeat_last_n - 1)));
  }
  std::vector<int32_t> tokens(known.begin(), known.end());
  std::ranges::sort(tokens);
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

}  // namespace

int64_t drawn_from(const SamplerOptions& options) {
  const int64_t k = options.temperature == 0 ? 1 : options.top_k;
  if (k == 0 || (penalizes(options) && options.repeat_penalty < 1)) return 0;
  // Penalties only lower logits: without the penalized ones there are still k.
  const int64_t all = penalizes(options) ? k + kMostRecent + 1 : k;
  return all <= kMostDrawn ? all : 0;
}

std::optional<DrawInputs> draw_inputs(std::span<const Draw> draws, bool ahead) {
  DrawInputs inputs;
  for (const Draw& draw : draws) {
    const SamplerOptions& o = draw.options;
    const float penalty = penalizes(o) ? o.repeat_penalty : 1.0f;
    inputs.options.insert(inputs.options.end(), {o.temperature, o.top_p, o.min_p, penalty});
    const uint64_t bits = philox_bits(o.seed, draw.position + (ahead ? 1 : 0));
    inputs.draws.insert(inputs.draws.end(), {o.top_k, static_cast<int32_t>(bits >> 27),
                                             static_cast<int32_t>(bits & ((uint64_t{1} << 27) - 1))});
    std::vector<int32_t> recent = older(o, ahead ? draw.history : draw.history.first(draw.history.size() - 1));
    if (recent.size() > static_cast<size_t>(kMostRecent)) return std::nullopt;
    recent.resize(static_cast<size_t>(kMostRecent), -1);
    inputs.recent.insert(inputs.recent.end(), recent.begin(), recent.end());
  }
  static_assert(Sample::kOptionColumns == 4 && Sample::kDrawColumns == 3);
  return inputs;
}

}  // namespace weft
