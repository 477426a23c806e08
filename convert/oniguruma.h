// Regexes of tokenizer.json, which Hugging Face tokenizers runs with Oniguruma, in the syntax of PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace weft {

/// The pattern for PCRE2 with UTF and UCP: the same string in almost every case. Nested character sets are flattened;
/// \w, \W and \b spelt out; where ^ or $ occur they match at every line, as in Oniguruma. Throws Error for what means
/// something else in PCRE2
/// (\h, \H, \B, set intersection, nested negated sets, (?m)). Source: Oniguruma's doc/RE, Ruby syntax.
std::string pcre_from_oniguruma(std::string_view pattern);

/// A pattern that matches just this text.
std::string quote_regex(std::string_view text);

}  // namespace weft
