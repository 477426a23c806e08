// A model with a session on it, and what tests do with one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/all.h"
#include "models/session/session.h"

namespace weft::testing {

class Rig {
 public:
  static SessionOptions exact(std::string backend, int64_t max_sequences = 1) {
    SessionOptions options;
    options.backend = std::move(backend);
    options.precision = Precision::exact;
    options.max_sequences = max_sequences;
    return options;
  }

  explicit Rig(std::shared_ptr<const Checkpoint> checkpoint, SessionOptions options = exact("ref"), int threads = 2)
      : runtime_(Env::from_process(), make_backends(Env::from_process(), {.threads = threads})),
        model_(std::move(checkpoint)),
        session_(model_, runtime_, std::move(options)) {}

  Session& operator*() { return session_; }
  Session* operator->() { return &session_; }

  void adapt(LoraAdapter adapter) { model_.adapt(std::move(adapter)); }

  /// Logits of every id, fed `chunk` a step.
  std::vector<float> logits(int sequence, std::span<const int32_t> ids, size_t chunk) {
    std::vector<float> all;
    for (size_t at = 0; at < ids.size(); at += chunk) {
      const Feed feed{sequence, ids.subspan(at, std::min(chunk, ids.size() - at)), true};
      const auto rows = session_.step({&feed, 1});
      all.insert(all.end(), rows.begin(), rows.end());
    }
    return all;
  }
  /// The same of a new sequence, which is closed again.
  std::vector<float> logits(std::span<const int32_t> ids, size_t chunk = SIZE_MAX) {
    const int sequence = session_.open_sequence();
    auto all = logits(sequence, ids, std::min(chunk, ids.size()));
    session_.close_sequence(sequence);
    return all;
  }
  /// Logits of the last token.
  std::vector<float> last(int sequence, std::span<const int32_t> ids) {
    const Feed feed{sequence, ids};
    const auto rows = session_.step({&feed, 1});
    return {rows.begin(), rows.end()};
  }

 private:
  Runtime runtime_;
  Model model_;
  Session session_;
};

/// Largest difference in standard deviations of `expected`; infinite if anything is not finite.
inline double difference(std::span<const float> got, std::span<const float> expected) {
  if (got.size() != expected.size() || got.empty()) return INFINITY;
  double mean = 0, variance = 0, worst = 0;
  const auto n = static_cast<double>(expected.size());
  for (const float v : expected) mean += static_cast<double>(v) / n;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    const double e = static_cast<double>(expected[i]);
    variance += (e - mean) * (e - mean) / n;
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - e));
  }
  return worst / std::sqrt(variance);
}

inline int32_t greedy(std::span<const float> row) {
  return static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
}

}  // namespace weft::testing
