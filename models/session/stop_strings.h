// Holds text back while it may be the beginning of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft {

class StopStrings {
 public:
  /// Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stop);

  /// Adds text and returns what is now certain to stand before any stop string.
  std::string push(std::string_view text);
  /// Whether a stop string has been seen: nothing more comes out.
  bool stopped() const { return stopped_; }
  /// What is still held back, at the end of generation.
  std::string flush();

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace weft
