// tokenizer.json: what is accepted must also run, and survive the way through GGUF's keys.
#include "convert/tokenizer_json.h"
#include "graph/error.h"
#include "models/session/tokenizer.h"
#include "tests/fuzz/entries.h"

namespace weft::fuzz {

bool tokenizer_json(std::string_view bytes) {
  try {
    const TokenizerSpec spec = read_tokenizer_json(bytes, "tokenizer.json");
    Metadata metadata;
    spec.write_metadata(metadata);
    const Tokenizer tokenizer(spec), again(TokenizerSpec::from_metadata(metadata).value());
    constexpr std::string_view kText = "Hello, w\xC3\xB6rld\n\n  12345 <s> <|endoftext|>\xF0\x9F\x98\x80";
    const auto ids = tokenizer.encode(kText);
    if (again.encode(kText) != ids) std::abort();
    tokenizer.decode(ids);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace weft::fuzz

WEFT_FUZZ_TARGET(weft::fuzz::tokenizer_json)
