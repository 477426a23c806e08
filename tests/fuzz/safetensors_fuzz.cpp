// safetensors: the header, and every tensor it lists.
#include "convert/safetensors.h"
#include "graph/error.h"
#include "tests/fuzz/entries.h"

namespace weft::fuzz {

bool safetensors(std::string_view bytes) {
  const MemoryFile memory(bytes);
  try {
    const SafetensorsFile file(memory.path());
    unsigned sum = 0;
    bool accepted = true;
    for (const std::string& name : file.names()) {
      const SafetensorsEntry* entry = file.find(name);
      if (!entry->bytes.empty()) {
        sum += std::to_integer<unsigned>(entry->bytes.front()) + std::to_integer<unsigned>(entry->bytes.back());
      }
      try {
        const LoadedTensor tensor = file.load(name);
        if (tensor->type.bytes() != entry->bytes.size()) std::abort();
      } catch (const Error&) {
        accepted = false;  // of a type that weft does not have
      }
    }
    volatile unsigned seen = sum;
    static_cast<void>(seen);
    return accepted;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace weft::fuzz

WEFT_FUZZ_TARGET(weft::fuzz::safetensors)
