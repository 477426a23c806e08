#include "models/session/scoring.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/error.h"

namespace weft {

void log_softmax(std::span<const float> logits, std::span<float> out) {
  const float largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
  const double log_sum = largest + std::log(sum);
  for (size_t i = 0; i < logits.size(); ++i) out[i] = static_cast<float>(logits[i] - log_sum);
}

void PerplexityScore::add(double log_prob) {
  ++n_;
  sum_ -= log_prob;
  sum_of_squares_ += log_prob * log_prob;
}

double PerplexityScore::perplexity() const { return n_ > 0 ? std::exp(sum_ / static_cast<double>(n_)) : 0; }

double PerplexityScore::standard_error() const {
  if (n_ < 2) return 0;
  const auto n = static_cast<double>(n_);
  const double mean = sum_ / n, variance = std::max(0.0, sum_of_squares_ / n - mean * mean);
  return perplexity() * std::sqrt(variance / (n - 1));
}

void KlScore::add(std::span<const float> base, std::span<const float> other) {
  require(base.size() == other.size() && !base.empty(), "rows of {} and {} log probabilities cannot be compared",
          base.size(), other.size());
  double divergence = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double p = std::exp(static_cast<double>(base[i]));
    if (p > 0) divergence += p * (static_cast<double>(base[i]) - other[i]);
  }
  divergences_.push_back(divergence);
  const auto top = [](std::span<const float> row) { return std::ranges::max_element(row) - row.begin(); };
  same_ += top(base) == top(other) ? 1 : 0;
}

double KlScore::mean() const {
  if (divergences_.empty()) return 0;
  return std::accumulate(divergences_.begin(), divergences_.end(), 0.0) / static_cast<double>(divergences_.size());
}

double KlScore::standard_error() const {
  if (divergences_.size() < 2) return 0;
  const double center = mean();
  double sum = 0;
  for (const double d : divergences_) sum += (d - center) * (d - center);
  const auto n = static_cast<double>(divergences_.size());
  return std::sqrt(sum / (n * (n - 1)));
}

double KlScore::maximum() const { return divergences_.empty() ? 0 : *std::ranges::max_element(divergences_); }

double KlScore::percentile(double part) const {
  if (divergences_.empty()) return 0;
  std::vector<double> sorted = divergences_;
  std::ranges::sort(sorted);
  const auto rank = static_cast<size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

double KlScore::same_top() const {
  return divergences_.empty() ? 1 : static_cast<double>(same_) / static_cast<double>(divergences_.size());
}

}  // namespace weft
