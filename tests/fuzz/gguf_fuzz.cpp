// GGUF: the container, the model and the vocabulary in it, and the plan of a conversion.
#include "convert/convert.h"
#include "convert/gguf_reader.h"
#include "models/model.h"
#include "models/session/tokenizer.h"
#include "ops/quant/q8_0.h"
#include "tests/fuzz/entries.h"

namespace weft::fuzz {
namespace {

/// Reads both ends of every tensor, for the sanitizers to see.
unsigned touch(const Checkpoint& checkpoint) {
  unsigned sum = 0;
  for (const std::string& name : checkpoint.tensor_names()) {
    const LoadedTensor tensor = checkpoint.load(name);
    const size_t bytes = tensor->type.bytes();
    if (bytes > 0)
      sum += std::to_integer<unsigned>(tensor->data[0]) + std::to_integer<unsigned>(tensor->data[bytes - 1]);
  }
  return sum;
}

}  // namespace

bool gguf(std::string_view bytes) {
  const MemoryFile file(bytes);
  try {
    const auto checkpoint = std::make_shared<GgufFile>(file.path());
    volatile unsigned sum = touch(*checkpoint);
    static_cast<void>(sum);
    for (const auto& [key, value] : checkpoint->metadata().entries()) to_string(value);
    bool accepted = true;
    const auto attempt = [&](auto&& f) {  // an error in one part does not keep the others from being tried
      try {
        f();
      } catch (const Error&) {
        accepted = false;
      }
    };
    attempt([&] { Model{checkpoint}; });
    attempt([&] { plan_conversion(*checkpoint, {.type = "q8_0"}); });
    attempt([&] {
      auto spec = TokenizerSpec::from_metadata(checkpoint->metadata());
      if (!spec) return;
      const Tokenizer tokenizer(std::move(*spec));
      const auto ids = tokenizer.encode("Hello, w\xC3\xB6rld\n 12345 <s>\xFF");
      tokenizer.decode(ids);
    });
    return accepted;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace weft::fuzz

WEFT_FUZZ_TARGET(weft::fuzz::gguf)
