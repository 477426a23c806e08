// config.json of a Hugging Face folder as an architecture reads it. It notes which fields were asked for, so that one
// that changes the maths is honoured or refused, never ignored.
#pragma once

#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/metadata.h"

namespace weft {

/// One field under the names that different classes of transformers give it.
class FieldNames {
 public:
  FieldNames(const char* name) : one_(name), names_(&one_, 1) {}         // NOLINT: meant to be implicit, as are these
  FieldNames(std::string_view name) : one_(name), names_(&one_, 1) {}    // NOLINT
  FieldNames(const std::string& name) : one_(name), names_(&one_, 1) {}  // NOLINT
  FieldNames(std::initializer_list<std::string_view> names) : names_(names.begin(), names.size()) {}
  FieldNames(const FieldNames&) = delete;
  auto begin() const { return names_.begin(); }
  auto end() const { return names_.end(); }

 private:
  std::string_view one_;
  std::span<const std::string_view> names_;
};

class HfConfig {
 public:
  /// `fields` of nested objects have dotted names; null fields are not there.
  explicit HfConfig(Metadata fields) : fields_(std::move(fields)) {}

  // As in Metadata. A field with several spellings goes by the first that is there.
  bool has(std::string_view name) const;
  bool has_any(std::string_view prefix) const;  // "rope_scaling.": does not count as asking for them
  int64_t integer(const FieldNames& names) const;
  int64_t integer(const FieldNames& names, int64_t otherwise) const;
  double real(const FieldNames& names) const;
  double real(const FieldNames& names, double otherwise) const;
  bool boolean(const FieldNames& names, bool otherwise) const;
  const std::string& text(const FieldNames& names) const;
  std::string text(const FieldNames& names, std::string_view otherwise) const;
  std::vector<std::string> texts(std::string_view name) const;  // empty if it is not there
  std::vector<int64_t> integers(std::string_view name) const;   // empty if it is not there
  std::vector<double> reals(std::string_view name) const;       // empty if it is not there

  /// For fields that are honoured only where they change nothing. Throws Error naming the field.
  void require_off(const FieldNames& names) const;                   // false, 0, or not there
  void require_value(std::string_view name, double expected) const;  // that, or not there
  void require_value(std::string_view name, std::string_view expected) const;

  /// Throws Error naming a field that nobody asked for, that is not off (false, empty) and that is not known to leave
  /// the maths alone.
  void refuse_unread() const;

 private:
  const std::string& note(std::string_view name) const { return *read_.emplace(name).first; }
  std::string_view spelling(const FieldNames& names) const;
  std::string_view required(const FieldNames& names) const;

  Metadata fields_;
  mutable std::set<std::string, std::less<>> read_;
};

}  // namespace weft
