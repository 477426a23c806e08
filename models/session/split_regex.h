// A pre-tokenizer's regex: cuts text into pieces. Hides PCRE2.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

class SplitRegex {
 public:
  /// Throws Error if the pattern does not compile.
  explicit SplitRegex(std::string pattern);

  /// Appends the non-empty pieces of `text` in order: matches, and what lies between them. Bytes that are not UTF-8
  /// match nothing. Throws Error if matching takes more steps or memory than any sane pattern needs. Thread-safe.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  std::string pattern_;
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace weft
