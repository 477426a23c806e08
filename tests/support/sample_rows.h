// Rows of logits with options and histories, as inputs of ops/sample.h and with the tokens that Sampler draws of them.
#pragma once

#include <cmath>
#include <numeric>

#include "models/session/draws.h"
#include "ops/sample.h"
#include "tests/support/op_fixture.h"

namespace weft::testing {

/// The logits of a row are of one of these kinds, by its number.
enum class LogitKind : uint8_t { normal, ties, rough, equal, steep, none };
constexpr int kLogitKinds = 6;

inline std::vector<float> sample_logits(LogitKind kind, int64_t n, std::mt19937& random) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::normal_distribution<float> normal(0, kind == LogitKind::steep ? 1e5f : 2.0f);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& logit : logits) {
    logit = normal(random);
    if (kind == LogitKind::ties || kind == LogitKind::rough) logit = std::round(logit);
    if (kind == LogitKind::equal) logit = -1.5f;
    if (kind == LogitKind::none) logit = random() % 2 == 0 ? nan : -inf;
    if (kind != LogitKind::rough) continue;
    const auto dice = random() % 12;
    if (dice == 0) logit = nan;
    if (dice == 1) logit = -inf;
    if (dice == 2 && random() % 40 == 0) logit = inf;
    if (dice == 3) logit = std::copysign(0.0f, logit);
  }
  return logits;
}

/// Options that a device has a form for. `coarse`: borders between tokens lie far from rounding errors of f32.
inline SamplerOptions sample_options(std::mt19937& random, bool coarse) {
  const auto pick = [&](std::initializer_list<float> values) { return values.begin()[random() % values.size()]; };
  SamplerOptions options;
  options.temperature = coarse ? pick({0, 0.7f, 1, 2}) : pick({0, 1e-30f, 0.3f, 0.7f, 1, 1.5f, 1e30f});
  options.repeat_penalty = pick({1, 1, 1.1f, 1.5f, 1e30f});
  options.repeat_last_n = static_cast<int>(random() % 66) - 1;
  options.top_k = 1 + static_cast<int>(random() % (options.repeat_penalty == 1 ? 128 : 64));
  options.top_p = coarse ? pick({1, 0.9003f, 0.5003f}) : pick({1, 0.95f, 0.9f, 0.5f, 0.01f, 1e-30f});
  options.min_p = pick({0, 0.05f, 0.3f, 1});
  options.seed = random();
  return options;
}

struct SampleRows {
  int64_t rows, vocab, k;
  std::vector<float> values, logits;
  std::vector<int32_t> tokens, fed, expected;
  DrawInputs draws;

  SampleRows(int64_t n_rows, int64_t n_vocab, unsigned seed, bool coarse = false)
      : rows(n_rows), vocab(n_vocab), k(std::min<int64_t>(kMostDrawn, n_vocab)) {
    std::mt19937 random(seed);
    std::vector<std::vector<int32_t>> histories;
    std::vector<Draw> all;
    for (int64_t r = 0; r < rows; ++r) {
      const auto kind = static_cast<LogitKind>((static_cast<unsigned>(r) + seed) % kLogitKinds);
      const std::vector<float> row = sample_logits(kind, vocab, random);
      add_candidates(row);
      std::vector<int32_t>& history = histories.emplace_back(1 + random() % 62);
      // Some of the likely ones, and some that are none.
      for (int32_t& id : history) {
        id = random() % 3 == 0 ? tokens[tokens.size() - 1 - random() % static_cast<unsigned>(k)]
                               : static_cast<int32_t>(random() % static_cast<unsigned>(vocab + 3)) - 1;
      }
      fed.push_back(history.back());
      all.push_back({sample_options(random, coarse), {}, uint64_t{random()} << 7});
      Sampler sampler(all.back().options);
      try {
        expected.push_back(sampler.sample(row, history, all.back().position));
      } catch (const Error&) {
        expected.push_back(-1);
      }
      logits.insert(logits.end(), row.begin(), row.end());
    }
    for (size_t r = 0; r < all.size(); ++r) all[r].history = histories[r];
    draws = draw_inputs(all, false).value();
  }

  /// The op in a graph, of rows that `live` counts.
  Value add(OpGraph& g) const {
    const Value ids = g.i32({rows}, fed, Rows::tokens);
    return build(Sample{}, {g.f32({rows, k}, values, Rows::logits), g.i32({rows, k}, tokens, Rows::logits), ids,
                            g.i32({rows, kMostRecent}, draws.recent, Rows::logits),
                            g.f32({rows, Sample::kOptionColumns}, draws.options, Rows::logits),
                            g.i32({rows, Sample::kDrawColumns}, draws.draws, Rows::logits)})[0];
  }

 private:
  /// As ops/candidates.h says.
  void add_candidates(const std::vector<float>& row) {
    constexpr float none = -std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::max();
    std::vector<int32_t> ids(row.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto held = [&](int32_t id) {
      const float logit = row[static_cast<size_t>(id)];
      return std::isnan(logit) ? none : std::min(logit, most);
    };
    std::ranges::stable_sort(ids, std::greater{}, held);
    for (int64_t i = 0; i < k; ++i) {
      const int32_t id = ids[static_cast<size_t>(i)];
      values.push_back(held(id));
      tokens.push_back(held(id) == none ? -1 : id);
    }
  }
};

}  // namespace weft::testing
