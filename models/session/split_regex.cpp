#include "models/session/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "graph/error.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr uint32_t kMatchSteps = 10'000'000;  // and some per byte: \s*[\r\n] backs over a long run of blanks once
constexpr uint32_t kStepsPerByte = 16;
constexpr uint32_t kMatchDepth = 1'000'000;
constexpr uint32_t kMatchHeapKiB = 256 << 10;
constexpr size_t kStartsPerCall = 256;        // PCRE2 counts steps per starting place; time is looked at between calls
constexpr std::chrono::seconds kPatience{4};  // for a whole text; ordinary patterns take milliseconds for megabytes
constexpr size_t kPatientBytes = 4 << 20;     // longer texts get proportionally more

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

/// What one thread needs to match: results and limits.
struct Matcher {
  const pcre2_code* code;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context;

  std::chrono::steady_clock::time_point deadline;

  Matcher(const pcre2_code* compiled, size_t bytes)
      : code(compiled),
        data(pcre2_match_data_create(1, nullptr), pcre2_match_data_free),
        context(pcre2_match_context_create(nullptr), pcre2_match_context_free),
        deadline(std::chrono::steady_clock::now() + kPatience * (1 + bytes / kPatientBytes)) {
    require(data && context, "out of memory for a pre-tokenizer's regex");
    pcre2_set_depth_limit(context.get(), kMatchDepth);
    pcre2_set_heap_limit(context.get(), kMatchHeapKiB);
  }

  void limit_for(size_t bytes) {
    const uint64_t steps = kMatchSteps + kStepsPerByte * static_cast<uint64_t>(bytes);
    pcre2_set_match_limit(context.get(), static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
  }

  /// The next match at or after `at`, a character's start; false if there is none.
  bool next(std::string_view run, size_t at, size_t& begin, size_t& end, std::string_view pattern) {
    while (at <= run.size()) {
      const size_t last_start = std::min(at + kStartsPerCall, run.size());
      pcre2_set_offset_limit(context.get(), last_start);
      const int rc = match(run, at);
      if (rc != PCRE2_ERROR_NOMATCH) {
        if (rc < 0) fail("pre-tokenizer regex {}: {} in a text of {} bytes", pattern, message_of(rc), run.size());
        const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
        begin = std::max<size_t>(offsets[0], at);
        end = std::max<size_t>(offsets[1], begin);
      }
      // Looked at after every match too: a pattern may be slow at each place and still match.
      require(std::chrono::steady_clock::now() < deadline,
              "pre-tokenizer regex {}: takes too long on a text of {} bytes", pattern, run.size());
      if (rc != PCRE2_ERROR_NOMATCH) return true;
      at = last_start + 1;
      while (at < run.size() && (static_cast<uint8_t>(run[at]) & 0xC0) == 0x80) ++at;
    }
    return false;
  }

 private:
  int match(std::string_view run, size_t at) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(run.data());
    const int rc = pcre2_match(code, subject, run.size(), at, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (rc != PCRE2_ERROR_JIT_STACKLIMIT) return rc;
    // The interpreter keeps its stack on the heap.
    return pcre2_match(code, subject, run.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(), context.get());
  }
};

}  // namespace

SplitRegex::SplitRegex(std::string pattern) : pattern_(std::move(pattern)) {
  require(pattern_.size() <= kMaxPatternBytes, "pre-tokenizer regex has {} bytes, the limit is {}", pattern_.size(),
          kMaxPatternBytes);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Not PCRE2_MATCH_INVALID_UTF: without JIT it validates the rest of the text again at every match, which is
  // quadratic. `split` finds the runs of whole characters itself, once.
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_.data()), pattern_.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &error, &offset, nullptr);
  require(code != nullptr, "pre-tokenizer regex {}: {} at byte {}", pattern_, message_of(error), offset);
  code_ = std::shared_ptr<const void>(
      code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
}

/// Calls `use(begin, end, is_match)` for the parts of the text in order.
template <typename Use>
void SplitRegex::walk(std::string_view text, const Use& use) const {
  if (text.empty()) return;
  Matcher matcher(static_cast<const pcre2_code*>(code_.get()), text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t run_end = valid_utf8_end(text, at);
    const std::string_view run = text.substr(at, run_end - at);
    matcher.limit_for(run.size());
    size_t done = 0;            // end of the last piece
    size_t search = 0;          // where to look on
    size_t matched = SIZE_MAX;  // end of the last match
    size_t begin = 0, end = 0;
    while (search <= run.size() && !run.empty() && matcher.next(run, search, begin, end, pattern_)) {
      if (begin == end && begin == matched) {  // an empty match after a match does not count: look one character on
        if (search >= run.size()) break;
        search += decode_utf8(run, search).size;
        continue;
      }
      use(at + done, at + begin, false);
      use(at + begin, at + end, true);
      done = search = matched = end;
    }
    use(at + done, run_end, false);
    size_t bad_end = run_end;
    while (bad_end < text.size()) {
      const Utf8Char c = decode_utf8(text, bad_end);
      if (c.state == Utf8State::valid) break;
      bad_end += c.size;
    }
    use(run_end, bad_end, false);
    at = bad_end;
  }
}

void SplitRegex::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  walk(text, [&](size_t begin, size_t end, bool) {
    if (end > begin) pieces.push_back(text.substr(begin, end - begin));
  });
}

std::vector<RegexSpan> SplitRegex::spans(std::string_view text) const {
  std::vector<RegexSpan> out;
  walk(text, [&](size_t begin, size_t end, bool match) {
    if (end == begin && !match) return;
    if (!match && !out.empty() && !out.back().match) out.back().end = end;  // bytes that are not UTF-8
    else out.push_back({begin, end, match});
  });
  return out;
}

}  // namespace weft
