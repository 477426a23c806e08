#include "models/session/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/error.h"
#include "models/session/philox.h"

namespace weft {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kNone = -std::numeric_limits<float>::infinity();

}  // namespace

void SamplerOptions::check() const {
  // Written so that NaN fails.
  require(temperature >= 0 && std::isfinite(temperature), "temperature is {}, expected 0 or more", temperature);
  require(top_k >= 0, "top_k is {}, expected 0 (all) or more", top_k);
  require(top_p > 0 && top_p <= 1, "top_p is {}, expected above 0 and up to 1", top_p);
  require(min_p >= 0 && min_p <= 1, "min_p is {}, expected 0 to 1", min_p);
  require(repeat_penalty > 0 && std::isfinite(repeat_penalty), "repeat_penalty is {}, expected above 0",
          repeat_penalty);
  require(repeat_last_n >= -1, "repeat_last_n is {}, expected -1 (all) or more", repeat_last_n);
}

Sampler::Sampler(const SamplerOptions& options) : options_(options) { options_.check(); }

size_t Sampler::decisive(std::span<const int32_t> history) const {
  const size_t k = options_.temperature == 0 ? 1 : static_cast<size_t>(options_.top_k);
  if (k == 0 || options_.repeat_penalty < 1) return 0;
  // Penalties only lower the logits of the recent ones: without them there are still k.
  return options_.repeat_penalty == 1 ? k : k + recent(history).size();
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t position) {
  gather(logits, {}, history);
  return choose(logits.size(), position);
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> tokens,
                        std::span<const int32_t> history, uint64_t position) {
  require(logits.size() == tokens.size() && !tokens.empty(), "sampler: {} logits of {} tokens", logits.size(),
          tokens.size());
  gather(logits, tokens, history);
  return choose(logits.size(), position);
}

int32_t Sampler::choose(size_t n_logits, uint64_t position) {
  require(!candidates_.empty(), "sampler: none of the {} logits is above -infinity", n_logits);
  const auto best = std::min_element(candidates_.begin(), candidates_.end(), before);
  if (options_.temperature == 0) return best->id;

  const double largest = best->logit, temperature = options_.temperature;
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), before);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  // In one order, whatever came in: sums of weights are the same to the bit.
  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  const auto sort_by_id = [&] {
    if (!std::ranges::is_sorted(candidates_, by_id)) std::ranges::sort(candidates_, by_id);
  };
  sort_by_id();
  for (Candidate& c : candidates_) c.weight = std::exp((static_cast<double>(c.logit) - largest) / temperature);
  if (options_.top_p < 1) keep_nucleus();
  if (options_.min_p > 0) {
    // The most probable token weighs 1 and stays.
    std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < static_cast<double>(options_.min_p); });
  }
  sort_by_id();

  double total = 0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double target = philox_uniform(options_.seed, position) * total;
  double sum = 0;
  int32_t last = candidates_.front().id;
  for (const Candidate& c : candidates_) {
    sum += c.weight;
    if (c.weight > 0) last = c.id;
    if (sum > target) return c.id;
  }
  return last;
}

/// The tokens that are penalized, oldest first, some of them more than once.
std::span<const int32_t> Sampler::recent(std::span<const int32_t> history) const {
  if (options_.repeat_last_n < 0) return history;
  return history.last(std::min(history.size(), static_cast<size_t>(options_.repeat_last_n)));
}

/// Fills candidates_ with every token above -infinity, penalties applied. Without `tokens` a logit's place is its
/// token.
void Sampler::gather(std::span<const float> logits, std::span<const int32_t> tokens, std::span<const int32_t> history) {
  logits_.assign(logits.begin(), logits.end());
  for (float& logit : logits_) logit = std::isnan(logit) ? kNone : std::min(logit, kLargest);
  if (options_.repeat_penalty != 1) {
    const auto penalized = recent(history);
    recent_.assign(penalized.begin(), penalized.end());
    std::ranges::sort(recent_);
    recent_.erase(std::unique(recent_.begin(), recent_.end()), recent_.end());
    const float r = options_.repeat_penalty;
    const auto penalize = [r](float& logit) { logit = std::min(logit > 0 ? logit / r : logit * r, kLargest); };
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (std::ranges::binary_search(recent_, tokens[i])) penalize(logits_[i]);
    }
    for (const int32_t id : recent_) {
      if (tokens.empty() && id >= 0 && static_cast<size_t>(id) < logits_.size()) {
        penalize(logits_[static_cast<size_t>(id)]);
      }
    }
  }
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    const int32_t id = tokens.empty() ? static_cast<int32_t>(i) : tokens[i];
    if (id >= 0 && logits_[i] > kNone) candidates_.push_back({logits_[i], id, 1.0});
  }
}

/// Sorts only as far as the nucleus reaches.
void Sampler::keep_nucleus() {
  double total = 0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double wanted = static_cast<double>(options_.top_p) * total;
  double sum = 0;
  size_t sorted = 0;
  for (size_t n = 0; n < candidates_.size(); ++n) {
    if (n == sorted) {
      sorted = std::min(candidates_.size(), std::max<size_t>(256, 8 * sorted));
      const auto at = [&](size_t i) { return candidates_.begin() + static_cast<ptrdiff_t>(i); };
      std::partial_sort(at(n), at(sorted), candidates_.end(), before);
    }
    sum += candidates_[n].weight;
    if (sum >= wanted) return candidates_.resize(n + 1);
  }
}

}  // namespace weft
