#include "convert/json.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "convert/json_parse.h"
#include "convert/printable.h"

namespace weft {
namespace {

using nlohmann::json;

constexpr size_t kMaxKeyBytes = 1024;  // dotted; bounds what a hostile file can unfold to

/// Of brackets outside strings: known before anything is built.
int depth_of(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size() && deepest <= kMaxJsonDepth; ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

/// Throws when an object has a key twice.
class DuplicateCheck {
 public:
  bool operator()(int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys_.emplace_back();
    if (event == json::parse_event_t::object_end) keys_.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      require(keys_.back().insert(key).second, "{} occurs twice", printable(key));
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

/// nlohmann's message without its "[json.exception...]" tag.
std::string reason(const json::exception& error) {
  std::string_view text = error.what();
  if (const size_t tag = text.find("] "); tag != std::string_view::npos) text.remove_prefix(tag + 2);
  return printable(text, 200);
}

bool is_i64(const json& value) {
  return value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX});
}
bool is_u64(const json& value) { return value.is_number_unsigned(); }

template <typename T>
MetaValue array_of(const json& items) {
  std::vector<T> out;
  out.reserve(items.size());
  for (const json& item : items) out.push_back(item.get<T>());
  return MetaArray(std::move(out));
}

class Flattener {
 public:
  Metadata take() { return std::move(metadata_); }

  void add(const std::string& key, const json& value) {
    if (value.is_object()) {
      for (const auto& [name, member] : value.items()) add(joined(key, name), member);
    } else if (value.is_array()) {
      add_array(key, value);
    } else if (is_i64(value)) {
      set(key, value.get<int64_t>());
    } else if (is_u64(value)) {
      set(key, value.get<uint64_t>());
    } else if (value.is_number()) {
      set(key, value.get<double>());
    } else if (value.is_boolean()) {
      set(key, value.get<bool>());
    } else if (value.is_string()) {
      set(key, value.get<std::string>());
    }
  }

 private:
  void add_array(const std::string& key, const json& items) {
    const auto all = [&](auto&& test) { return std::ranges::all_of(items, test); };
    if (all(is_i64)) return set(key, array_of<int64_t>(items));
    if (all(is_u64)) return set(key, array_of<uint64_t>(items));
    if (all([](const json& item) { return item.is_number(); })) return set(key, array_of<double>(items));
    if (all([](const json& item) { return item.is_string(); })) return set(key, array_of<std::string>(items));
    if (all([](const json& item) { return item.is_boolean(); })) return set(key, array_of<bool>(items));
    for (size_t i = 0; i < items.size(); ++i) add(joined(key, std::to_string(i)), items[i]);
  }

  static std::string joined(const std::string& key, const std::string& name) {
    require(key.size() + 1 + name.size() <= kMaxKeyBytes, "the key {}.{} is longer than {} bytes", printable(key, 40),
            printable(name, 40), kMaxKeyBytes);
    return key.empty() ? name : key + "." + name;
  }

  void set(const std::string& key, MetaValue value) {
    require(!metadata_.has(key), "key {} occurs twice", printable(key));
    metadata_.set(key, std::move(value));
  }

  Metadata metadata_;
};

}  // namespace

json parse_json(std::string_view text, std::string_view where, DuplicateKeys duplicates) {
  require(depth_of(text) <= kMaxJsonDepth, "{}: nests deeper than {} levels", where, kMaxJsonDepth);
  try {
    if (duplicates == DuplicateKeys::last_wins) return json::parse(text);
    return json::parse(text, DuplicateCheck());
  } catch (const json::exception& error) {
    fail("{}: {}", where, reason(error));
  } catch (const Error& error) {
    throw error.at(where);
  }
}

Metadata flatten_json(std::string_view text, std::string_view where) {
  const json value = parse_json(text, where);
  require(value.is_object(), "{}: is a JSON {}, expected an object", where, value.type_name());
  Flattener flattener;
  try {
    flattener.add("", value);
  } catch (const Error& error) {
    throw error.at(where);
  }
  return flattener.take();
}

}  // namespace weft
