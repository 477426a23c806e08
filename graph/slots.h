// The inputs of an op, by slot. A slot holds one item, none (an absent optional input) or a list (row blocks of a
// weight), so indices never shift.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace weft {

enum class SlotKind : uint8_t { one, optional, list, optional_list };

struct SlotSpec {
  std::string_view name;
  SlotKind kind = SlotKind::one;
};

constexpr SlotSpec one(std::string_view name) { return {name, SlotKind::one}; }
constexpr SlotSpec optional(std::string_view name) { return {name, SlotKind::optional}; }
constexpr SlotSpec list(std::string_view name) { return {name, SlotKind::list}; }
constexpr SlotSpec optional_list(std::string_view name) { return {name, SlotKind::optional_list}; }

/// Items of type T by slot. T{} is "absent".
template <typename T>
class Slots {
 public:
  /// What one slot is filled with: nothing, an item or a list.
  struct Slot {
    Slot() = default;
    Slot(T item) {  // NOLINT(google-explicit-constructor): an item is a slot
      if (item) items.push_back(std::move(item));
    }
    Slot(std::vector<T> list) : items(std::move(list)) {}  // NOLINT(google-explicit-constructor)
    std::vector<T> items;
  };

  Slots() = default;
  Slots(std::initializer_list<Slot> slots) {
    for (const Slot& slot : slots) add(slot.items);
  }

  void add(std::span<const T> items) {
    items_.insert(items_.end(), items.begin(), items.end());
    ends_.push_back(static_cast<uint32_t>(items_.size()));
  }

  size_t size() const { return ends_.size(); }
  std::span<const T> list(size_t slot) const {
    if (slot >= ends_.size()) return {};
    const uint32_t first = slot == 0 ? 0 : ends_[slot - 1];
    return {items_.data() + first, ends_[slot] - first};
  }
  /// The single item of a slot, or T{} if the slot is empty.
  T operator[](size_t slot) const {
    const auto items = list(slot);
    return items.empty() ? T{} : items.front();
  }
  bool has(size_t slot) const { return !list(slot).empty(); }
  std::span<const T> all() const { return items_; }

  template <typename F>
  auto map(F&& convert) const {
    Slots<decltype(convert(std::declval<const T&>()))> out;
    for (size_t slot = 0; slot < size(); ++slot) {
      std::vector<decltype(convert(std::declval<const T&>()))> items;
      for (const T& item : list(slot)) items.push_back(convert(item));
      out.add(items);
    }
    return out;
  }

 private:
  std::vector<T> items_;
  std::vector<uint32_t> ends_;
};

}  // namespace weft
