#include "examples/cli/windows.h"

#include <algorithm>

#include "convert/mapped_file.h"

namespace weft::cli {

Windows read_windows(const std::string& file, const Tokenizer& tokenizer, int64_t size, int64_t most) {
  const MappedFile text(file);
  Windows windows{.ids = tokenizer.encode(text.text(), {.add_special = true, .parse_special = false}), .size = size};
  const int64_t available = static_cast<int64_t>(windows.ids.size()) / size;
  require(available > 0, "{}: {} tokens do not fill one window of {}", file, windows.ids.size(), size);
  windows.n = most > 0 ? std::min(most, available) : available;
  windows.ids.resize(static_cast<size_t>(windows.n * size));
  const TokenizerSpec& spec = tokenizer.spec();
  if (spec.add_bos && spec.bos) {
    for (int64_t i = 0; i < windows.n; ++i) windows.ids[static_cast<size_t>(i * size)] = *spec.bos;
  }
  return windows;
}

}  // namespace weft::cli
