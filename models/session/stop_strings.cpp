#include "models/session/stop_strings.h"

#include <algorithm>

namespace weft {

StopStrings::StopStrings(std::vector<std::string> stop) : stop_(std::move(stop)) {
  std::erase_if(stop_, [](const std::string& s) { return s.empty(); });
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t found = std::string::npos;
  for (const std::string& s : stop_) found = std::min(found, held_.find(s));
  if (found != std::string::npos) {
    stopped_ = true;
    std::string out = held_.substr(0, found);
    held_.clear();
    return out;
  }
  size_t keep = 0;  // the longest end of held_ that begins a stop string
  for (const std::string& s : stop_) {
    for (size_t n = std::min(s.size() - 1, held_.size()); n > keep; --n) {
      if (std::string_view(held_).ends_with(std::string_view(s).substr(0, n))) keep = n;
    }
  }
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string StopStrings::flush() {
  std::string out = stopped_ ? std::string() : std::move(held_);
  held_.clear();
  return out;
}

}  // namespace weft
