#include "convert/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "convert/json_parse.h"
#include "convert/printable.h"
#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

constexpr std::array<std::pair<const TypeTraits*, std::string_view>, 4> kNames = {
    {{&quant::f32, "F32"}, {&quant::f16, "F16"}, {&quant::bf16, "BF16"}, {&quant::i32, "I32"}}};

std::string_view type_name(DType dtype) {
  for (const auto& [type, name] : kNames) {
    if (dtype == DType(*type)) return name;
  }
  fail("has type {}, safetensors takes f32, f16, bf16 and i32", dtype.name());
}

std::string tensor_called(std::string_view name) { return fmt::format("tensor {}", printable(name)); }

std::string header_of(const std::vector<NamedType>& tensors, const std::map<std::string, std::string>& metadata) {
  constexpr const char* kStrings = "__metadata__";
  nlohmann::json root = nlohmann::json::object();
  if (!metadata.empty()) root[kStrings] = metadata;
  uint64_t end = 0;
  for (const auto& [name, type] : tensors) {
    try {
      require(name != kStrings, "cannot have this name");
      require(!root.contains(name), "is given twice");
      const std::string_view dtype = type_name(type.dtype);
      const uint64_t begin = end;
      end += type.bytes();
      const auto dims = type.shape.dims();
      root[name] = {
          {"dtype", dtype}, {"shape", std::vector<int64_t>(dims.begin(), dims.end())}, {"data_offsets", {begin, end}}};
    } catch (const Error& error) {
      throw error.at(tensor_called(name));
    }
  }
  std::string header = root.dump();
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<NamedType>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  std::string header;
  try {
    header = header_of(tensors, metadata);
  } catch (const Error& error) {
    throw error.at(path);
  } catch (const nlohmann::json::exception&) {
    fail("{}: a tensor name or a metadata string is not UTF-8", path);
  }
  for (const NamedType& tensor : tensors) left_ += tensor.type.bytes();
  const uint64_t header_bytes = header.size();
  file_.write(&header_bytes, sizeof header_bytes);
  file_.write(header.data(), header.size());
}

void SafetensorsWriter::write(const void* data, size_t bytes) {
  require(bytes <= left_, "{}: {} bytes are written where {} are left", file_.path(), bytes, left_);
  file_.write(data, bytes);
  left_ -= bytes;
}

void SafetensorsWriter::finish() {
  require(left_ == 0, "{}: {} bytes of tensors are missing", file_.path(), left_);
  file_.finish();
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& item : tensors) {
    require(item.tensor.layout == nullptr, "{}: {}: is packed and cannot be written as it is", path,
            tensor_called(item.name));
    order.push_back(&item);
  }
  std::ranges::stable_sort(order, std::greater(), [](const NamedTensor* item) {
    return item->tensor.type.dtype ? item->tensor.type.dtype->block_bytes : 0;
  });
  std::vector<NamedType> types;
  for (const NamedTensor* item : order) types.push_back({item->name, item->tensor.type});
  SafetensorsWriter writer(path, types, metadata);
  for (const NamedTensor* item : order) writer.write(item->tensor.data, item->tensor.type.bytes());
  writer.finish();
}

}  // namespace weft
