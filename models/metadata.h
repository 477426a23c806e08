// Key-value metadata of a model file, in file order, with the value types of GGUF.
// Source: the GGUF format document, metadata value types 0 to 12.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "graph/error.h"

namespace weft {

/// One-dimensional arrays; nested ones are refused by the readers.
using MetaArray =
    std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                 std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<bool>,
                 std::vector<std::string>, std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;

using MetaValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string,
                               MetaArray, uint64_t, int64_t, double>;

class Metadata {
 public:
  using Entry = std::pair<std::string, MetaValue>;

  bool has(std::string_view key) const { return find(key) != nullptr; }
  const MetaValue* find(std::string_view key) const;
  /// Adds the key or replaces its value in place.
  void set(std::string_view key, MetaValue value);
  void erase(std::string_view key);
  std::span<const Entry> entries() const { return entries_; }

  // Typed access. Without a default a missing key is an Error; a value of another kind always is. Any integer type
  // serves as an integer, an integer or float as a real.
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }
  double real(std::string_view key) const;
  double real(std::string_view key, double otherwise) const { return has(key) ? real(key) : otherwise; }
  bool boolean(std::string_view key) const;
  bool boolean(std::string_view key, bool otherwise) const { return has(key) ? boolean(key) : otherwise; }
  const std::string& text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view otherwise) const {
    return has(key) ? text(key) : std::string(otherwise);
  }
  const std::vector<std::string>& texts(std::string_view key) const;
  std::vector<double> reals(std::string_view key) const;      // array of any numeric type
  std::vector<int64_t> integers(std::string_view key) const;  // array of any integer type

 private:
  const MetaValue& at(std::string_view key) const;
  std::vector<Entry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// The value as text, arrays shortened to `max_items`.
std::string to_string(const MetaValue& value, size_t max_items = 8);
/// The name of a value's type: "u32", "string", "array of f32".
std::string kind_of(const MetaValue& value);

}  // namespace weft
