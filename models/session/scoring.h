// How well logits predict, and how far two models' predictions lie apart. Logarithms are natural; sums are in double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft {

/// log softmax of a row of logits, [vocab]; `out` may be `logits`.
void log_softmax(std::span<const float> logits, std::span<float> out);

/// Perplexity, exp of the mean of -log p of the tokens that came.
class PerplexityScore {
 public:
  void add(double log_prob);
  int64_t tokens() const { return n_; }
  double perplexity() const;
  /// Standard error of perplexity(), from that of the mean.
  double standard_error() const;

 private:
  int64_t n_ = 0;
  double sum_ = 0, sum_of_squares_ = 0;
};

/// KL divergence of predictions from those of a base: sum over the vocabulary of p_base (log p_base - log p).
/// Source: Kullback and Leibler 1951.
class KlScore {
 public:
  /// Rows of log probabilities, [vocab].
  void add(std::span<const float> base, std::span<const float> other);
  int64_t tokens() const { return static_cast<int64_t>(divergences_.size()); }
  double mean() const;
  double standard_error() const;
  double maximum() const;
  /// The value that a part (0..1) of the tokens does not exceed.
  double percentile(double part) const;
  /// Part of the tokens for which both find the same token most probable.
  double same_top() const;

 private:
  std::vector<double> divergences_;
  int64_t same_ = 0;
};

}  // namespace weft
