// A text cut into windows of tokens, for the commands that read one through a model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/session/tokenizer.h"

namespace weft::cli {

struct Windows {
  std::vector<int32_t> ids = {};  // n * size
  int64_t n = 0, size = 0;

  std::span<const int32_t> window(int64_t i) const {
    return std::span(ids).subspan(static_cast<size_t>(i * size), static_cast<size_t>(size));
  }
};

/// The first `most` windows (below 0: all), each beginning with bos where the tokenizer adds one. Control tokens
/// written out in the text stay text, as in llama.cpp's measurement, so that figures compare. Throws Error if the text
/// does not fill one.
Windows read_windows(const std::string& file, const Tokenizer& tokenizer, int64_t size, int64_t most);

}  // namespace weft::cli
