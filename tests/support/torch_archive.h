// pytorch_model.bin for tests, byte by byte and independent of the reader: pickles as text, and a writer of zip
// archives that can also write wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "convert/safetensors_writer.h"
#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"

namespace weft::testing {

template <typename T>
std::string little(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// Pickled values, each the bytes that push it.
namespace pickled {

inline std::string text(std::string_view s) { return "X" + little(static_cast<uint32_t>(s.size())) + std::string(s); }
inline std::string integer(int64_t value) {
  if (value >= INT32_MIN && value <= INT32_MAX) return "J" + little(static_cast<int32_t>(value));
  return "\x8a\x08" + little(value);
}
inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}
inline std::string sizes(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string call(const std::string& callable, const std::vector<std::string>& args) {
  return callable + tuple(args) + "R";
}
inline std::string ordered_dict() { return call(global("collections", "OrderedDict"), {}); }
inline std::string storage(std::string_view type, std::string_view key, int64_t elements) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) + "Q";
}
inline std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, integer(offset), sizes(shape), sizes(strides), "\x89", ordered_dict()});
}
using Items = std::vector<std::pair<std::string, std::string>>;
inline std::string state_dict(const Items& items) {
  std::string out = "\x80\x02}(";
  for (const auto& [name, value] : items) out += text(name) + value;
  return out + "u.";
}

}  // namespace pickled

struct ZipEntry {
  std::string name, bytes;
  uint16_t method = 0, flags = 0;
  std::string local_name = name;
  bool zip64 = false;              // sizes and offset in the extra field
  uint64_t packed = bytes.size();  // as the directory says
  int64_t offset_by = 0;           // added to the offset that the directory says
};

struct ZipOptions {
  bool zip64 = false;  // end record too
  std::string comment = {};
  int64_t entries_by = 0;  // added to the number of entries
};

inline std::string zip_bytes(const std::vector<ZipEntry>& entries, const ZipOptions& options = {}) {
  const auto u16 = [](uint64_t v) { return little(static_cast<uint16_t>(v)); };
  const auto u32 = [](uint64_t v) { return little(static_cast<uint32_t>(v)); };
  constexpr uint64_t kIn64 = 0xFFFFFFFF;
  std::string out, directory;
  for (const ZipEntry& e : entries) {
    const uint64_t offset = out.size() + static_cast<uint64_t>(e.offset_by);
    const std::string pad = "FB" + u16(5) + "ZZZZZ";  // torch pads like this, to align the data
    out += u32(0x04034b50) + u16(20) + u16(e.flags) + u16(e.method) + u32(0) + u32(0) + u32(e.bytes.size()) +
           u32(e.bytes.size()) + u16(e.local_name.size()) + u16(pad.size()) + e.local_name + pad + e.bytes;
    const std::string extra = e.zip64 ? u16(1) + u16(24) + little(e.packed) + little(e.packed) + little(offset) : "";
    directory += u32(0x02014b50) + u16(20) + u16(20) + u16(e.flags) + u16(e.method) + u32(0) + u32(0) +
                 u32(e.zip64 ? kIn64 : e.packed) + u32(e.zip64 ? kIn64 : e.packed) + u16(e.name.size()) +
                 u16(extra.size()) + u16(0) + u16(0) + u16(0) + u32(0) + u32(e.zip64 ? kIn64 : offset) + e.name + extra;
  }
  const uint64_t at = out.size(), n = entries.size() + static_cast<uint64_t>(options.entries_by);
  out += directory;
  if (options.zip64) {
    const uint64_t end64 = out.size();
    out += u32(0x06064b50) + little(uint64_t{44}) + u16(45) + u16(45) + u32(0) + u32(0) + little(n) + little(n) +
           little(static_cast<uint64_t>(directory.size())) + little(at);
    out += u32(0x07064b50) + u32(0) + little(end64) + u32(1);
  }
  out += u32(0x06054b50) + u16(0) + u16(0) + u16(options.zip64 ? 0xFFFF : n) + u16(options.zip64 ? 0xFFFF : n) +
         u32(options.zip64 ? kIn64 : directory.size()) + u32(options.zip64 ? kIn64 : at) + u16(options.comment.size()) +
         options.comment;
  return out;
}

/// What torch.save writes of these tensors, a storage each.
inline std::string torch_bytes(const std::vector<NamedTensor>& tensors) {
  pickled::Items items;
  std::vector<ZipEntry> entries = {{"model/data.pkl", ""}, {"model/byteorder", "little"}};
  for (const auto& [name, tensor] : tensors) {
    const auto dims = tensor.type.shape.dims();
    std::vector<int64_t> shape(dims.begin(), dims.end()), strides(dims.size(), 1);
    for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    const char* type = tensor.type.dtype == DType(quant::f16)    ? "HalfStorage"
                       : tensor.type.dtype == DType(quant::bf16) ? "BFloat16Storage"
                                                                 : "FloatStorage";
    const std::string key = std::to_string(items.size());
    items.emplace_back(name, pickled::tensor(pickled::storage(type, key, tensor.type.elements()), 0, shape, strides));
    entries.push_back({"model/data/" + key, std::string(tensor.as<char>(), tensor.type.bytes())});
  }
  entries[0].bytes = pickled::state_dict(items);
  entries[0].packed = entries[0].bytes.size();
  return zip_bytes(entries);
}

}  // namespace weft::testing
