#include "convert/gguf_writer.h"

#include <array>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "convert/gguf_format.h"
#include "convert/printable.h"

namespace weft {
namespace {

using namespace gguf;

template <typename T>
void put(std::string& out, T value) {
  static_assert(std::is_arithmetic_v<T> && (!std::is_same_v<T, bool> || sizeof(bool) == 1));
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put(std::string& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

// The alternatives of MetaValue stand in the order of the format's value types; those of MetaArray lack the array.
static_assert(std::is_same_v<std::variant_alternative_t<kArrayType, MetaValue>, MetaArray>);
static_assert(std::variant_size_v<MetaValue> == kLastType + 1 && std::variant_size_v<MetaArray> == kLastType);

void put_value(std::string& out, const MetaValue& value) {
  put(out, static_cast<uint32_t>(value.index()));
  const auto put_array = [&]<typename T>(const std::vector<T>& items) {
    put(out, static_cast<uint64_t>(items.size()));
    for (const auto& item : items) {
      if constexpr (std::is_same_v<T, std::string>) put(out, std::string_view(item));
      else put<T>(out, item);
    }
  };
  std::visit(
      [&]<typename T>(const T& v) {
        if constexpr (std::is_same_v<T, MetaArray>) {
          put(out, static_cast<uint32_t>(v.index() < kArrayType ? v.index() : v.index() + 1));
          std::visit(put_array, v);
        } else if constexpr (std::is_same_v<T, std::string>) {
          put(out, std::string_view(v));
        } else {
          put<T>(out, v);
        }
      },
      value);
}

void check(const NamedType& tensor) {
  const std::string name = printable(tensor.name);
  require(!tensor.name.empty() && tensor.name.size() <= kMaxTensorName,
          "the tensor name '{}' has {} bytes, expected 1 to {}", name, tensor.name.size(), kMaxTensorName);
  const int rank = tensor.type.shape.rank();
  require(rank >= 1 && rank <= kMaxDims, "tensor {} has {} dimensions, expected 1 to {}", name, rank, kMaxDims);
  try {
    check_storable(tensor.type);
  } catch (const Error& error) {
    throw error.at(fmt::format("tensor {}", name));
  }
}

/// `data_bytes` gets the bytes of all tensors, padding included.
std::string header(const Metadata& metadata, const std::vector<NamedType>& tensors, uint64_t alignment,
                   uint64_t& data_bytes) {
  std::string out(kMagic);
  put(out, kVersion);
  put(out, static_cast<uint64_t>(tensors.size()));
  put(out, static_cast<uint64_t>(metadata.entries().size()));
  for (const auto& [key, value] : metadata.entries()) {
    require(!key.empty() && key.size() <= kMaxKey, "the key '{}' has {} bytes, expected 1 to {}", printable(key),
            key.size(), kMaxKey);
    put(out, std::string_view(key));
    put_value(out, value);
  }
  std::unordered_set<std::string_view> names;
  uint64_t& offset = data_bytes;
  offset = 0;
  for (const NamedType& tensor : tensors) {
    check(tensor);
    require(names.insert(tensor.name).second, "tensor {} is given twice", tensor.name);
    put(out, std::string_view(tensor.name));
    const auto dims = tensor.type.shape.dims();
    put(out, static_cast<uint32_t>(dims.size()));
    for (size_t i = dims.size(); i-- > 0;) put(out, static_cast<uint64_t>(dims[i]));
    put(out, tensor.type.dtype->id);
    put(out, offset);
    require(!__builtin_add_overflow(offset, padded(tensor.type.bytes(), alignment), &offset),
            "the tensors are too large");
  }
  out.resize(padded(out.size(), alignment), '\0');
  return out;
}

}  // namespace

GgufWriter::GgufWriter(const std::string& path, const Metadata& metadata, std::vector<NamedType> tensors)
    : tensors_(std::move(tensors)), file_(path), alignment_(kDefaultAlignment) {
  std::string bytes;
  uint64_t data_bytes = 0;
  try {
    alignment_ = checked_alignment(metadata.integer(kAlignmentKey, kDefaultAlignment));
    bytes = header(metadata, tensors_, alignment_, data_bytes);
  } catch (const Error& error) {
    throw error.at(path);
  }
  file_.reserve(bytes.size() + data_bytes);
  file_.write(bytes.data(), bytes.size());
  skip_empty();
}

void GgufWriter::skip_empty() {
  while (current_ < tensors_.size() && tensors_[current_].type.bytes() == 0) ++current_;
}

void GgufWriter::write(const void* data, size_t bytes) {
  if (bytes == 0) return;
  require(current_ < tensors_.size(), "{}: {} bytes given after the last tensor", file_.path(), bytes);
  const NamedType& tensor = tensors_[current_];
  const size_t size = tensor.type.bytes();
  require(bytes <= size - written_, "{}: tensor {} holds {} bytes, given {}", file_.path(), tensor.name, size,
          written_ + bytes);
  file_.write(data, bytes);
  written_ += bytes;
  if (written_ < size) return;
  static constexpr std::array<char, kMaxAlignment> kZeros{};
  file_.write(kZeros.data(), padded(size, alignment_) - size);
  written_ = 0;
  ++current_;
  skip_empty();
}

void GgufWriter::finish() {
  if (current_ < tensors_.size()) {
    fail("{}: tensor {} was given {} of its {} bytes", file_.path(), tensors_[current_].name, written_,
         tensors_[current_].type.bytes());
  }
  file_.finish();
}

}  // namespace weft
