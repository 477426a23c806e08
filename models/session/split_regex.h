// A tokenizer's regex: cuts text into pieces. Hides PCRE2.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// A part of a text that a pattern matches, or does not.
struct RegexSpan {
  size_t begin = 0, end = 0;
  bool match = false;
};

class SplitRegex {
 public:
  /// Throws Error if the pattern does not compile.
  explicit SplitRegex(std::string pattern);

  /// Appends the non-empty pieces of `text` in order: matches, and what lies between them. Bytes that are not UTF-8
  /// match nothing. Throws Error if matching takes more steps or memory than any sane pattern needs. Thread-safe.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

  /// Likewise, but gives the spans of the text: matches (also empty ones) and, not empty, what lies between two.
  std::vector<RegexSpan> spans(std::string_view text) const;

 private:
  template <typename Use>
  void walk(std::string_view text, const Use& use) const;

  std::string pattern_;
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace weft
