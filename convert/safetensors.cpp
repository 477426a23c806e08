#include "convert/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "convert/atomic_file.h"
#include "convert/json_parse.h"
#include "convert/printable.h"
#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference reader
constexpr std::string_view kMetadataKey = "__metadata__";

struct FileType {
  std::string_view name;
  uint32_t bits;
  const TypeTraits* type;  // null if weft has none
};

constexpr std::array kFileTypes = {
    FileType{"F32", 32, &quant::f32}, FileType{"F16", 16, &quant::f16}, FileType{"BF16", 16, &quant::bf16},
    FileType{"I32", 32, &quant::i32}, FileType{"BOOL", 8, nullptr},     FileType{"U8", 8, nullptr},
    FileType{"I8", 8, nullptr},       FileType{"F8_E4M3", 8, nullptr},  FileType{"F8_E5M2", 8, nullptr},
    FileType{"F8_E8M0", 8, nullptr},  FileType{"I16", 16, nullptr},     FileType{"U16", 16, nullptr},
    FileType{"U32", 32, nullptr},     FileType{"F64", 64, nullptr},     FileType{"I64", 64, nullptr},
    FileType{"U64", 64, nullptr},     FileType{"C64", 64, nullptr},     FileType{"F4", 4, nullptr},
    FileType{"F6_E2M3", 6, nullptr},  FileType{"F6_E3M2", 6, nullptr},
};

const FileType* file_type(std::string_view name) {
  const auto it = std::ranges::find(kFileTypes, name, &FileType::name);
  return it == kFileTypes.end() ? nullptr : &*it;
}

const json& member(const json& object, const char* key) {
  const auto it = object.find(key);
  require(it != object.end(), "{} is missing", key);
  return *it;
}

uint64_t unsigned_number(const json& value, std::string_view what) {
  require(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT64_MAX},
          "{} has an element that is no whole number from 0", what);
  return value.get<uint64_t>();
}

/// `value` as an entry over `data`. Checks its offsets and its size, not its neighbours.
SafetensorsEntry parse_entry(const json& value, std::span<const std::byte> data) {
  require(value.is_object(), "is a JSON {}, expected an object", value.type_name());
  SafetensorsEntry entry;
  const json& dtype = member(value, "dtype");
  require(dtype.is_string(), "dtype is a JSON {}, expected a string", dtype.type_name());
  entry.dtype = dtype.get<std::string>();
  const FileType* type = file_type(entry.dtype);
  require(type != nullptr, "unknown dtype {}", printable(entry.dtype));

  const json& shape = member(value, "shape");
  require(shape.is_array(), "shape is a JSON {}, expected an array", shape.type_name());
  uint64_t bits = type->bits;
  for (const json& item : shape) {
    const uint64_t dim = unsigned_number(item, "shape");
    require(!__builtin_mul_overflow(bits, dim, &bits), "the shape has too many elements");
    entry.shape.push_back(static_cast<int64_t>(dim));
  }
  require(bits % 8 == 0, "{} bits of {} are no whole bytes", bits, entry.dtype);

  const json& offsets = member(value, "data_offsets");
  require(offsets.is_array() && offsets.size() == 2, "data_offsets is not an array of two");
  const uint64_t begin = unsigned_number(offsets[0], "data_offsets");
  const uint64_t end = unsigned_number(offsets[1], "data_offsets");
  require(begin <= end, "data_offsets [{}, {}] run backwards", begin, end);
  require(end <= data.size(), "data_offsets [{}, {}] run past the {} bytes of data", begin, end, data.size());
  require(end - begin == bits / 8, "data_offsets span {} bytes, {} of this shape has {}", end - begin, entry.dtype,
          bits / 8);
  entry.bytes = data.subspan(begin, end - begin);
  return entry;
}

std::string named(std::string_view name) { return fmt::format("tensor {}", printable(name)); }

}  // namespace

SafetensorsFile::SafetensorsFile(std::string path) : file_(std::make_shared<MappedFile>(std::move(path))) {
  try {
    parse();
  } catch (const Error& error) {
    throw error.at(file_->path());
  }
}

void SafetensorsFile::parse() {
  const auto bytes = file_->bytes();
  uint64_t header_bytes = 0;
  require(bytes.size() >= sizeof header_bytes, "truncated: a safetensors file begins with 8 bytes, this one has {}",
          bytes.size());
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  require(header_bytes <= kMaxHeaderBytes, "is not a safetensors file: a header of {} bytes, at most {} are allowed",
          header_bytes, kMaxHeaderBytes);
  require(header_bytes <= bytes.size() - sizeof header_bytes, "truncated: a header of {} bytes, {} are left",
          header_bytes, bytes.size() - sizeof header_bytes);
  const std::string_view header = file_->text().substr(sizeof header_bytes, header_bytes);
  require(header.starts_with('{'), "is not a safetensors file: its header does not begin with {{");
  const auto data = bytes.subspan(sizeof header_bytes + header_bytes);

  const json root = parse_json(header, "header", DuplicateKeys::refuse);
  for (const auto& [name, value] : root.items()) {
    if (name == kMetadataKey) {
      require(value.is_object(), "{} is a JSON {}, expected an object", kMetadataKey, value.type_name());
      for (const auto& [key, text] : value.items()) {
        require(text.is_string(), "{}: {} is a JSON {}, expected a string", kMetadataKey, printable(key),
                text.type_name());
        metadata_[key] = text.get<std::string>();
      }
      continue;
    }
    try {
      entries_[name] = parse_entry(value, data);
    } catch (const Error& error) {
      throw error.at(named(name));
    }
    names_.push_back(name);
  }

  const auto begin_of = [&](const std::string& name) { return entries_[name].bytes.data() - data.data(); };
  const auto place_of = [&](const std::string& name) { return std::pair(begin_of(name), entries_[name].bytes.size()); };
  std::ranges::stable_sort(names_, {}, place_of);
  ptrdiff_t end = 0;  // of the tensor before
  for (const std::string& name : names_) {
    const ptrdiff_t begin = begin_of(name);
    require(begin == end, "{} begins at byte {} of the data, {} byte {}", named(name), begin,
            begin < end ? "inside the one before, which ends at" : "after a hole from", end);
    end += static_cast<ptrdiff_t>(entries_[name].bytes.size());
  }
  require(static_cast<size_t>(end) == data.size(), "has {} bytes of data, its tensors {}", data.size(), end);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

MappedTensor SafetensorsFile::tensor(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  require(entry != nullptr, "{}: {} is missing", path(), named(name));
  const TypeTraits* type = file_type(entry->dtype)->type;
  require(type != nullptr,
          "{}: {} has dtype {}, weft reads F32, F16, BF16 and I32: save the model again in one of these", path(),
          named(name), entry->dtype);
  try {
    return {.type = {.dtype = *type, .shape = Shape(std::span<const int64_t>(entry->shape))},
            .data = entry->bytes.data(),
            .file = file_};
  } catch (const Error& error) {
    throw error.at(named(name)).at(path());
  }
}

std::optional<PackedTensor> SafetensorsFile::packed(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) return {};
  return PackedTensor{entry->dtype, entry->shape, entry->bytes, file_};
}

}  // namespace weft
