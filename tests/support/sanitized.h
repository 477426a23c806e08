// Whether a sanitizer is at work: code runs some thirty times slower then, and long tests do less.
#pragma once

namespace weft::testing {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WEFT_TESTS_SANITIZED 1
#endif
#endif
#if defined(WEFT_TESTS_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace weft::testing
