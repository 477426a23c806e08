#include "graph/weight_store.h"

#include <memory>
#include <thread>

namespace weft {
namespace {

/// Packs with every core the rows [begin, end): ranges start at tile boundaries.
void pack_parallel(const Layout& layout, const Tensor& host, std::byte* packed, int64_t begin, int64_t end) {
  const int64_t tiles = (end - begin + layout.tile_rows - 1) / layout.tile_rows;
  const int64_t n_workers = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::max<int64_t>(1, tiles));
  std::vector<std::jthread> workers;
  for (int64_t w = 0; w < n_workers; ++w) {
    const int64_t first = begin + tiles * w / n_workers * layout.tile_rows;
    const int64_t last = std::min(end, begin + tiles * (w + 1) / n_workers * layout.tile_rows);
    workers.emplace_back([&layout, &host, packed, first, last] { layout.pack(host, packed, first, last); });
  }
}

/// The same of all rows; done(first byte, bytes) of the source is called piece by piece, so that memory never has to
/// hold much of a weight twice.
template <typename Done>
void pack_in_pieces(const Layout& layout, const Tensor& host, std::byte* packed, Done done) {
  constexpr size_t kPiece = size_t{64} << 20;
  const size_t row_bytes = std::max<size_t>(host.type.row_bytes(), 1);
  const int64_t rows = host.type.shape.rows();
  const int64_t step = (static_cast<int64_t>(kPiece / row_bytes) / layout.tile_rows + 1) * layout.tile_rows;
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t last = std::min(rows, first + step);
    pack_parallel(layout, host, packed, first, last);
    done(host.data + static_cast<size_t>(first) * row_bytes, static_cast<size_t>(last - first) * row_bytes);
  }
}

}  // namespace

WeightStore::Key WeightStore::key_of(const Tensor& host, const Device& device, const Layout* layout) {
  return {host.data, host.type.bytes(), layout != nullptr ? layout->name : "", device.backend, device.index};
}

bool WeightStore::has(const Tensor& host, const Device& device, const Layout* layout) const {
  return copies_.contains(key_of(host, device, layout));
}

size_t WeightStore::owned_bytes() const {
  size_t total = 0;
  for (const auto& [key, buffer] : copies_) total += buffer.bytes();
  return total;
}

size_t WeightStore::owned_bytes(const Device& device) const {
  size_t total = 0;
  for (const auto& [key, buffer] : copies_) {
    if (std::get<3>(key) == device.backend && std::get<4>(key) == device.index) total += buffer.bytes();
  }
  return total;
}

Tensor WeightStore::get(const Tensor& host, const Device& device, const Layout* layout) {
  if (layout == nullptr && device.info().host_memory) {
    in_place_.insert(host.data);
    return host;
  }
  const size_t bytes = layout != nullptr ? layout->bytes(host.type) : host.type.bytes();
  const auto [it, added] = copies_.try_emplace(key_of(host, device, layout));
  if (added) {
    Buffer& buffer = it->second;
    const auto release = [&](const std::byte* source, size_t n) {
      if (!in_place_.contains(host.data)) device.backend->release_source(source, n);
    };
    try {
      buffer = device.backend->allocate(device.index, bytes);
      if (layout == nullptr) {
        device.backend->write(device.index, buffer.data(), host.data, bytes);
      } else if (device.info().host_memory) {
        pack_in_pieces(*layout, host, buffer.data(), release);
      } else {
        const auto packed = std::make_unique_for_overwrite<std::byte[]>(bytes);  // touched first by those who pack
        pack_parallel(*layout, host, packed.get(), 0, host.type.shape.rows());
        device.backend->write(device.index, buffer.data(), packed.get(), bytes);
      }
    } catch (...) {
      copies_.erase(it);
      throw;
    }
    release(host.data, host.type.bytes());
  }
  return {host.type, it->second.data(), layout};
}

Tensor StateStore::get(const std::string& name, const TensorType& type, const Device& device) {
  const auto [it, added] = entries_.try_emplace(name);
  Entry& entry = it->second;
  if (added) {
    try {
      entry = {type, device, device.backend->allocate(device.index, type.bytes())};
      device.backend->clear(device.index, entry.buffer.data(), type.bytes());
    } catch (...) {
      entries_.erase(it);
      throw;
    }
  }
  require(entry.type == type, "state {} is {}, a plan wants {}", name, to_string(entry.type), to_string(type));
  require(entry.device.backend == device.backend && entry.device.index == device.index,
          "state {} lives on {}, a plan wants it on {}", name, entry.device.info().name, device.info().name);
  return {type, entry.buffer.data(), nullptr};
}

Device StateStore::where(const std::string& name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? Device{} : it->second.device;
}

Tensor StateStore::find(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end() || !it->second.device.info().host_memory) return {};
  return {it->second.type, it->second.buffer.data(), nullptr};
}

size_t StateStore::bytes() const {
  size_t total = 0;
  for (const auto& [name, entry] : entries_) total += entry.type.bytes();
  return total;
}

size_t StateStore::bytes(const Device& device) const {
  size_t total = 0;
  for (const auto& [name, entry] : entries_) {
    if (entry.device.backend == device.backend && entry.device.index == device.index) total += entry.type.bytes();
  }
  return total;
}

std::byte* Memory::arena(const Device& device, size_t bytes) {
  auto& [arena, expected] = arenas_[{device.backend, device.index}];
  if (arena.bytes() < bytes || arena.data() == nullptr) {
    ++generation;      // even if the allocation fails: the old bytes are gone
    arena = Buffer();  // give back first: the old bytes are of no use
    const size_t all = std::max({bytes, expected, size_t{1}});
    arena = device.backend->allocate(device.index, all);
    device.backend->clear(device.index, arena.data(), all);
  }
  return arena.data();
}

void Memory::expect_arena(const Device& device, size_t bytes) {
  arenas_[{device.backend, device.index}].expected = bytes;
}

size_t Memory::arena_bytes(const Device& device) const {
  const auto it = arenas_.find({device.backend, device.index});
  return it == arenas_.end() ? 0 : std::max(it->second.buffer.bytes(), it->second.expected);
}

}  // namespace weft
