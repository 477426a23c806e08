#include "models/session/byte_level.h"

#include <array>
#include <cstdint>

#include "models/session/utf8.h"

namespace weft {
namespace {

constexpr size_t kCodes = 0x100 + 68;  // 68 bytes are not printable

struct Table {
  std::array<char32_t, 256> code_of{};
  std::array<int16_t, kCodes> byte_of{};
};

constexpr Table make_table() {
  Table table;
  for (auto& byte : table.byte_of) byte = -1;
  char32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t code = printable ? byte : next++;
    table.code_of[byte] = code;
    table.byte_of[code] = static_cast<int16_t>(byte);
  }
  return table;
}

constexpr Table kTable = make_table();

}  // namespace

std::string to_printable_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(out, kTable.code_of[static_cast<uint8_t>(byte)]);
  return out;
}

std::optional<std::string> from_printable_bytes(std::string_view printable) {
  std::string out;
  out.reserve(printable.size());
  for (size_t at = 0; at < printable.size();) {
    const Utf8Char c = decode_utf8(printable, at);
    if (c.state != Utf8State::valid || c.code >= kCodes || kTable.byte_of[c.code] < 0) return std::nullopt;
    out += static_cast<char>(kTable.byte_of[c.code]);
    at += c.size;
  }
  return out;
}

}  // namespace weft
