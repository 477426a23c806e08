// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft {

struct SamplerOptions {
  float temperature = 0.8f;     // >= 0; 0 is greedy
  int top_k = 40;               // >= 0; 0 keeps all
  float top_p = 0.95f;          // in (0, 1]; 1 keeps all
  float min_p = 0.05f;          // in [0, 1]; 0 keeps all
  float repeat_penalty = 1.0f;  // > 0; 1 does nothing
  int repeat_last_n = 64;       // how many of the last tokens are penalized; 0 none, -1 all
  uint64_t seed = 0;

  /// Throws Error naming the option that is out of range.
  void check() const;
};

/// Applies, in this order:
///  1. repeat penalty r, once to each token among the last repeat_last_n of the history: its logit l becomes l / r
///     where l > 0, else l * r. Source: Keskar et al. 2019, CTRL, in the signed form of Hugging Face transformers.
///  2. temperature T: p = softmax(l / T). With T = 0 the largest logit is taken, of equal ones the lowest id.
///  3. top-k: the k most probable tokens; of equal ones the lower ids. Source: Fan et al. 2018.
///  4. top-p: of those, renormalized, the fewest most probable ones whose probabilities sum to at least top_p.
///     Source: Holtzman et al. 2019, nucleus sampling.
///  5. min-p: of those, the ones with p >= min_p * max(p). Source: Nguyen et al. 2024.
///  6. one draw: the tokens left stand in order of their ids, and the first whose running sum exceeds u times the
///     total is taken; u = philox_uniform(seed, position), so a draw does not depend on the calls before it.
/// NaN counts as -infinity, +infinity as the largest finite number. One object serves one thread: it keeps buffers.
class Sampler {
 public:
  /// Throws Error if an option is out of range.
  explicit Sampler(const SamplerOptions& options);

  /// The token for `position`. `logits` are [vocab]; ids in `history` (oldest first) outside the vocabulary are passed
  /// over. Allocates only while its buffers grow. Throws Error if no logit is above -infinity.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t position);

  /// How many of the largest logits decide after that history; 0: all do.
  size_t decisive(std::span<const int32_t> history) const;
  /// The same token as of all logits, from those that decide (or more): `logits[i]` is that of `tokens[i]`, in any
  /// order; a negative token is none.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> tokens, std::span<const int32_t> history,
                 uint64_t position);

  const SamplerOptions& options() const { return options_; }

 private:
  struct Candidate {
    float logit;
    int32_t id;
    double weight;  // proportional to the probability, 1 for the most probable
  };
  static bool before(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
  std::span<const int32_t> recent(std::span<const int32_t> history) const;
  void gather(std::span<const float> logits, std::span<const int32_t> tokens, std::span<const int32_t> history);
  int32_t choose(size_t n_logits, uint64_t position);
  void keep_nucleus();

  SamplerOptions options_;
  std::vector<Candidate> candidates_;
  std::vector<float> logits_;
  std::vector<int32_t> recent_;  // sorted, each once
};

}  // namespace weft
