// The unigram language model's segmentation: the pieces whose scores have the largest sum.
// Source: Kudo 2018, "Subword Regularization"; ties and unknown parts as in Hugging Face tokenizers' unigram model.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/session/tokenizer_spec.h"

namespace weft {

class Unigram {
 public:
  Unigram() = default;
  /// Keeps views of the spec's tokens. Those that text can become are normal and byte ones.
  explicit Unigram(const TokenizerSpec& spec);

  struct Part {
    std::string_view text;
    int32_t id;  // -1: no token
  };
  /// Cuts a piece. Characters without a token are parts of their own, or with `fuse` one for neighbours. Thread-safe.
  std::vector<Part> cut(std::string_view piece, bool fuse) const;

 private:
  struct Entry {
    std::string_view text;
    int32_t id;
    double score;
  };
  std::vector<Entry> entries_;         // sorted by text
  std::array<uint32_t, 257> first_{};  // entries that start with byte b: first_[b] .. first_[b + 1]
  double unknown_score_ = 0;
};

}  // namespace weft
