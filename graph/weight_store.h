// Weights and state as devices hold them. One copy of a weight per (bytes, layout, device), shared by every plan; on a
// host device a weight in its stored layout is the mapped file itself and costs nothing.
#pragma once

#include <map>
#include <string>
#include <tuple>

#include "graph/backend.h"

namespace weft {

class WeightStore {
 public:
  /// The weight on the device, uploaded or packed at first use.
  Tensor get(const Tensor& host, const Device& device, const Layout* layout);
  /// Whether get() would find a copy.
  bool has(const Tensor& host, const Device& device, const Layout* layout) const;
  /// Bytes this store owns (packed or uploaded copies, not mapped files), on all devices or on one.
  size_t owned_bytes() const;
  size_t owned_bytes(const Device& device) const;

 private:
  using Key = std::tuple<const std::byte*, size_t, std::string_view, const Backend*, int>;
  static Key key_of(const Tensor& host, const Device& device, const Layout* layout);
  std::map<Key, Buffer> copies_;
};

class StateStore {
 public:
  /// The state of that name, zeroed at first use. Throws Error if it exists with another type or on another device.
  Tensor get(const std::string& name, const TensorType& type, const Device& device);
  /// The device that holds the state: its plans must go on there. Null device if there is none yet.
  Device where(const std::string& name) const;
  /// The bytes of a state on a host device, or an empty tensor.
  Tensor find(const std::string& name) const;
  size_t bytes() const;

 private:
  struct Entry {
    TensorType type;
    Device device;
    Buffer buffer;
  };
  std::map<std::string, Entry> entries_;
};

/// One per session: weights, state, and one arena per device, as large as the largest plan needs.
struct Memory {
  WeightStore weights;
  StateStore states;

  /// Grows the device's arena to at least `bytes`; a grown arena has moved, and `generation` tells.
  std::byte* arena(const Device& device, size_t bytes);
  int generation = 0;
  /// The arena will be at least so large: plans leave room for it, and it is made so at once.
  void expect_arena(const Device& device, size_t bytes);
  /// What the arena takes, or will at least.
  size_t arena_bytes(const Device& device) const;

 private:
  struct Arena {
    Buffer buffer;
    size_t expected = 0;  // bytes
  };
  std::map<std::pair<const Backend*, int>, Arena> arenas_;
};

}  // namespace weft
