#include "models/metadata.h"

#include <fmt/format.h>

#include <limits>
#include <type_traits>

namespace weft {
namespace {

template <typename T>
constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <typename T>
constexpr std::string_view kind() {
  if constexpr (std::is_same_v<T, bool>) return "bool";
  else if constexpr (std::is_same_v<T, std::string>) return "string";
  else if constexpr (std::is_same_v<T, float>) return "f32";
  else if constexpr (std::is_same_v<T, double>) return "f64";
  else if constexpr (std::is_same_v<T, uint8_t>) return "u8";
  else if constexpr (std::is_same_v<T, int8_t>) return "i8";
  else if constexpr (std::is_same_v<T, uint16_t>) return "u16";
  else if constexpr (std::is_same_v<T, int16_t>) return "i16";
  else if constexpr (std::is_same_v<T, uint32_t>) return "u32";
  else if constexpr (std::is_same_v<T, int32_t>) return "i32";
  else if constexpr (std::is_same_v<T, uint64_t>) return "u64";
  else return "i64";
}

[[noreturn]] void wrong_kind(std::string_view key, const MetaValue& value, std::string_view wanted) {
  fail("metadata key {} is {} ({}), expected {}", key, kind_of(value), to_string(value, 3), wanted);
}

template <typename T>
int64_t to_integer(std::string_view key, T value) {
  if constexpr (std::is_same_v<T, uint64_t>) {
    require(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), "metadata key {}: {} is too large",
            key, value);
  }
  return static_cast<int64_t>(value);
}

template <typename T>
std::string item_text(const T& item) {
  if constexpr (std::is_same_v<T, std::string>)
    return item.size() > 60 ? fmt::format("\"{}...\"", std::string_view(item).substr(0, 57))
                            : fmt::format("\"{}\"", item);
  else return fmt::format("{}", item);
}

}  // namespace

const MetaValue* Metadata::find(std::string_view key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

const MetaValue& Metadata::at(std::string_view key) const {
  const MetaValue* value = find(key);
  require(value != nullptr, "metadata key {} is missing", key);
  return *value;
}

void Metadata::set(std::string_view key, MetaValue value) {
  const auto [it, added] = index_.try_emplace(std::string(key), entries_.size());
  if (added) entries_.emplace_back(std::string(key), std::move(value));
  else entries_[it->second].second = std::move(value);
}

void Metadata::erase(std::string_view key) {
  const auto it = index_.find(key);
  if (it == index_.end()) return;
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(it->second));
  index_.clear();
  for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].first, i);
}

int64_t Metadata::integer(std::string_view key) const {
  const MetaValue& value = at(key);
  return std::visit(
      [&]<typename T>(const T& v) -> int64_t {
        if constexpr (is_integer<T>) return to_integer(key, v);
        else wrong_kind(key, value, "an integer");
      },
      value);
}

double Metadata::real(std::string_view key) const {
  const MetaValue& value = at(key);
  return std::visit(
      [&]<typename T>(const T& v) -> double {
        if constexpr (is_integer<T> || std::is_floating_point_v<T>) return static_cast<double>(v);
        else wrong_kind(key, value, "a number");
      },
      value);
}

bool Metadata::boolean(std::string_view key) const {
  const MetaValue& value = at(key);
  if (const bool* b = std::get_if<bool>(&value)) return *b;
  wrong_kind(key, value, "a boolean");
}

const std::string& Metadata::text(std::string_view key) const {
  const MetaValue& value = at(key);
  if (const std::string* s = std::get_if<std::string>(&value)) return *s;
  wrong_kind(key, value, "a string");
}

const std::vector<std::string>& Metadata::texts(std::string_view key) const {
  const MetaValue& value = at(key);
  if (const MetaArray* array = std::get_if<MetaArray>(&value)) {
    if (const auto* strings = std::get_if<std::vector<std::string>>(array)) return *strings;
  }
  wrong_kind(key, value, "an array of strings");
}

std::vector<double> Metadata::reals(std::string_view key) const {
  const MetaValue& value = at(key);
  const MetaArray* array = std::get_if<MetaArray>(&value);
  if (array == nullptr) wrong_kind(key, value, "an array of numbers");
  return std::visit(
      [&]<typename T>(const std::vector<T>& items) -> std::vector<double> {
        if constexpr (is_integer<T> || std::is_floating_point_v<T>) return {items.begin(), items.end()};
        else wrong_kind(key, value, "an array of numbers");
      },
      *array);
}

std::vector<int64_t> Metadata::integers(std::string_view key) const {
  const MetaValue& value = at(key);
  const MetaArray* array = std::get_if<MetaArray>(&value);
  if (array == nullptr) wrong_kind(key, value, "an array of integers");
  return std::visit(
      [&]<typename T>(const std::vector<T>& items) -> std::vector<int64_t> {
        if constexpr (is_integer<T>) {
          std::vector<int64_t> out;
          out.reserve(items.size());
          for (T item : items) out.push_back(to_integer(key, item));
          return out;
        } else {
          wrong_kind(key, value, "an array of integers");
        }
      },
      *array);
}

std::string to_string(const MetaValue& value, size_t max_items) {
  return std::visit(
      [&]<typename T>(const T& v) -> std::string {
        if constexpr (std::is_same_v<T, MetaArray>) {
          return std::visit(
              [&]<typename I>(const std::vector<I>& items) {
                std::string out = "[";
                for (size_t i = 0; i < items.size() && i < max_items; ++i) {
                  const I item = items[i];
                  if (i > 0) out += ", ";
                  out += item_text(item);
                }
                return out + (items.size() > max_items ? fmt::format(", ... {} in all]", items.size()) : "]");
              },
              v);
        } else {
          return item_text(v);
        }
      },
      value);
}

std::string kind_of(const MetaValue& value) {
  return std::visit(
      []<typename T>(const T& v) -> std::string {
        if constexpr (std::is_same_v<T, MetaArray>) {
          return std::visit([]<typename I>(const std::vector<I>&) { return fmt::format("array of {}", kind<I>()); }, v);
        } else {
          return std::string(kind<T>());
        }
      },
      value);
}

}  // namespace weft
