// Names of an enum's values: one table per enum, read both ways.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "graph/error.h"

namespace weft {

template <typename E, size_t N>
using EnumNames = std::array<std::pair<E, std::string_view>, N>;

template <typename E, size_t N>
constexpr std::string_view enum_name(const EnumNames<E, N>& names, E value) {
  for (const auto& [key, name] : names) {
    if (key == value) return name;
  }
  return "?";
}

/// Throws Error listing what is known.
template <typename E, size_t N>
E parse_enum(const EnumNames<E, N>& names, std::string_view what, std::string_view text) {
  std::string known;
  for (const auto& [key, name] : names) {
    if (name == text) return key;
    known += known.empty() ? "" : ", ";
    known += name;
  }
  fail("no {} is called {}: there are {}", what, text, known);
}

}  // namespace weft
