#include "convert/base64.h"

#include <openssl/evp.h>

#include "graph/error.h"

namespace weft {

std::string from_base64(std::string_view text, std::string_view what) {
  require(text.size() % 4 == 0 && text.size() < (1u << 30), "{}: {} characters are not base64", what, text.size());
  const bool blank = text.find_first_of(" \t\r\n") != std::string_view::npos;  // which OpenSSL would skip
  std::string bytes(text.size() / 4 * 3, '\0');
  const int n =
      blank ? -1
            : EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                              reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  require(n == static_cast<int>(bytes.size()), "{}: the text is not base64", what);
  for (size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0; padding > 0; --padding)
    bytes.pop_back();
  return bytes;
}

}  // namespace weft
