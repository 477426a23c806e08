// How launchers are told what to work on: plain data, so that device code needs none of graph/.
#pragma once

#include <cstdint>

namespace weft::cuda {

/// A leading dimension of which a part may be live.
struct Extent {
  const int32_t* live = nullptr;  // on the device; null: all of it, always
  int64_t capacity = 1;
};

constexpr int kMaxRank = 5;

/// Strides in elements of one operand, by dimension of the result; 0 where it repeats.
struct Strides {
  int64_t of[kMaxRank] = {};
};

struct Dims {
  int rank = 0;
  int64_t of[kMaxRank] = {};

  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= of[i];
    return n;
  }
};

}  // namespace weft::cuda
