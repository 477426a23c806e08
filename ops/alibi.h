// Slopes of attention with linear biases.
#pragma once

#include <bit>
#include <cmath>
#include <vector>

namespace weft {

/// With n the largest power of two <= n_head: 2^(-8k/n), k = 1..n, then 2^(-4k/n), k = 1, 3, 5, ...; times `scale`.
/// Source: Press, Smith, Lewis, arXiv:2108.12409, and their code for other head counts.
inline std::vector<float> alibi_slopes(int n_head, double scale = 1) {
  const int n = static_cast<int>(std::bit_floor(static_cast<unsigned>(n_head)));
  std::vector<float> slopes;
  for (int k = 1; k <= n; ++k) slopes.push_back(static_cast<float>(scale * std::exp2(-8.0 * k / n)));
  for (int k = 1; static_cast<int>(slopes.size()) < n_head; k += 2) {
    slopes.push_back(static_cast<float>(scale * std::exp2(-4.0 * k / n)));
  }
  return slopes;
}

}  // namespace weft
