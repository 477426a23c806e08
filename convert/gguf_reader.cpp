#include "convert/gguf_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "convert/gguf_format.h"
#include "convert/gguf_types.h"
#include "convert/printable.h"

namespace weft {

namespace {

using namespace gguf;

/// Reads numbers and strings one after the other; every read is checked against the bytes left. `what` and `whose` name
/// the thing being read in the message of a truncated file.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }

  std::span<const std::byte> take(uint64_t n, std::string_view what, std::string_view whose = {}) {
    if (n > left()) {  // messages are made only when needed: vocabularies are read one item at a time
      fail("truncated at byte {}: {}{}{} needs {} bytes, {} are left", offset_, what, whose.empty() ? "" : " ",
           printable(whose), n, left());
    }
    const auto taken = bytes_.subspan(offset_, n);
    offset_ += n;
    return taken;
  }

  template <typename T>
  T number(std::string_view what, std::string_view whose = {}) {
    const auto raw = take(sizeof(T), what, whose);
    if constexpr (std::is_same_v<T, bool>) {
      return raw[0] != std::byte{0};  // any non-zero byte is true
    } else {
      T value;
      std::memcpy(&value, raw.data(), sizeof value);
      return value;
    }
  }

  std::string string(uint64_t max_bytes, std::string_view what, std::string_view whose = {}) {
    const auto n = number<uint64_t>(what, whose);
    if (n > max_bytes) {
      fail("{}{}{} at byte {} has {} bytes, at most {} are allowed", what, whose.empty() ? "" : " ", printable(whose),
           offset_, n, max_bytes);
    }
    const auto raw = take(n, what, whose);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  size_t offset_ = 0;
};

/// Calls f.operator()<T>() with the C++ type of a scalar value type; the order is that of MetaValue.
template <typename F>
MetaValue with_value_type(uint32_t type, std::string_view key, F&& f) {
  switch (type) {
    case 0:
      return f.template operator()<uint8_t>();
    case 1:
      return f.template operator()<int8_t>();
    case 2:
      return f.template operator()<uint16_t>();
    case 3:
      return f.template operator()<int16_t>();
    case 4:
      return f.template operator()<uint32_t>();
    case 5:
      return f.template operator()<int32_t>();
    case 6:
      return f.template operator()<float>();
    case 7:
      return f.template operator()<bool>();
    case 8:
      return f.template operator()<std::string>();
    case 10:
      return f.template operator()<uint64_t>();
    case 11:
      return f.template operator()<int64_t>();
    case 12:
      return f.template operator()<double>();
    default:
      fail("key {} has unknown value type {}", printable(key), type);
  }
}

template <typename T>
T read_scalar(Cursor& in, std::string_view key) {
  if constexpr (std::is_same_v<T, std::string>) return in.string(kMaxString, "the value of key", key);
  else return in.number<T>("the value of key", key);
}

template <typename T>
std::vector<T> read_items(Cursor& in, std::string_view key, uint64_t n) {
  // Bounded by the bytes left before anything is allocated.
  constexpr uint64_t kItemBytes = std::is_same_v<T, std::string> ? 8 : sizeof(T);
  require(n <= kMaxArray, "the array of key {} has {} elements, at most {} are allowed", printable(key), n, kMaxArray);
  require(n <= in.left() / kItemBytes, "truncated at byte {}: the array of key {} has {} elements, {} bytes are left",
          in.offset(), printable(key), n, in.left());
  std::vector<T> items;
  items.reserve(n);
  for (uint64_t i = 0; i < n; ++i) items.push_back(read_scalar<T>(in, key));
  return items;
}

MetaValue read_value(Cursor& in, std::string_view key) {
  const auto type = in.number<uint32_t>("the type of key", key);
  if (type != kArrayType)
    return with_value_type(type, key, [&]<typename T>() { return MetaValue(read_scalar<T>(in, key)); });
  const auto item_type = in.number<uint32_t>("the element type of key", key);
  require(item_type != kArrayType, "key {} is an array of arrays, which weft does not read", printable(key));
  const auto n = in.number<uint64_t>("the array length of key", key);
  return with_value_type(item_type, key, [&]<typename T>() { return MetaValue(MetaArray(read_items<T>(in, key, n))); });
}

uint32_t read_version(Cursor& in) {
  const auto magic = in.take(kMagic.size(), "the magic number");
  require(std::memcmp(magic.data(), kMagic.data(), kMagic.size()) == 0, "is not a GGUF file: it does not begin with {}",
          kMagic);
  const auto version = in.number<uint32_t>("the version");
  require(version == 0 || (version & 0xFFFF) != 0, "is a big-endian GGUF file, weft reads little-endian ones");
  require(version != 1, "is GGUF version 1, weft reads 2 and 3: convert the model again");
  require(version == 2 || version == 3, "is GGUF version {}, weft reads 2 and 3", version);
  return version;
}

/// Bytes of the tensor. Throws Error if rows are not whole blocks or the size overflows.
uint64_t checked_bytes(const TensorType& type) {
  const auto columns = static_cast<uint64_t>(type.shape.columns());
  require(columns % type.dtype->block_elems == 0, "rows of {} elements are not whole blocks of {} ({} each)", columns,
          type.dtype.name(), type.dtype->block_elems);
  uint64_t bytes = 0;
  require(!__builtin_mul_overflow(columns / type.dtype->block_elems, uint64_t{type.dtype->block_bytes}, &bytes) &&
              !__builtin_mul_overflow(bytes, static_cast<uint64_t>(type.shape.rows()), &bytes) &&
              bytes <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
          "{} {} is too large", type.dtype.name(), to_string(type.shape));
  return bytes;
}

struct TensorInfo {
  std::string name;
  TensorType type;
  uint64_t bytes;
  uint64_t offset;  // from the start of the data
};

TensorInfo read_tensor_info(Cursor& in) {
  TensorInfo info;
  info.name = in.string(kMaxTensorName, "the name of a tensor");
  const auto n_dims = in.number<uint32_t>("the number of dimensions of tensor", info.name);
  require(n_dims >= 1 && n_dims <= kMaxDims, "tensor {} has {} dimensions, expected 1 to {}", printable(info.name),
          n_dims, kMaxDims);
  std::array<int64_t, kMaxDims> dims{};  // slowest first, the file has them fastest first
  for (size_t i = n_dims; i-- > 0;) {
    const auto dim = in.number<uint64_t>("the dimensions of tensor", info.name);
    require(dim <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
            "tensor {} has a dimension of {}, too large", printable(info.name), dim);
    dims[i] = static_cast<int64_t>(dim);
  }
  const auto id = in.number<uint32_t>("the type of tensor", info.name);
  info.type.dtype = tensor_type(id, info.name);
  info.offset = in.number<uint64_t>("the offset of tensor", info.name);
  try {
    info.type.shape = Shape(std::span<const int64_t>(dims.data(), n_dims));
    info.bytes = checked_bytes(info.type);
  } catch (const Error& error) {
    throw error.at(fmt::format("tensor {}", printable(info.name)));
  }
  return info;
}

/// Where the tensor's data lies in the file; `expected` is the running padded sum of sizes, moved past this tensor.
uint64_t place(const TensorInfo& info, uint64_t data_start, uint64_t file_bytes, uint64_t alignment,
               uint64_t& expected) {
  const std::string name = printable(info.name);
  require(info.offset == expected, "tensor {} is at offset {} of the data, expected {}", name, info.offset, expected);
  uint64_t begin = 0;
  uint64_t end = 0;
  const bool overflows =
      __builtin_add_overflow(data_start, info.offset, &begin) || __builtin_add_overflow(begin, info.bytes, &end);
  require(
      !overflows && (end <= file_bytes || info.bytes == 0),
      "truncated: tensor {} has {} bytes at offset {} of the data (which begins at byte {}), the file ends at byte {}",
      name, info.bytes, info.offset, data_start, file_bytes);
  // Cannot overflow: both terms fit the file, or the tensor is empty.
  expected += padded(info.bytes, alignment);
  return std::min(begin, file_bytes);
}

/// NUMBER and COUNT of a name PREFIX-NUMBER-of-COUNT.gguf.
struct ShardName {
  std::string prefix;
  uint32_t number;
  uint32_t count;
};

std::optional<ShardName> shard_name(std::string_view path) {
  constexpr std::string_view kPattern = "-#####-of-#####.gguf";
  if (path.size() < kPattern.size()) return {};
  const std::string_view tail = path.substr(path.size() - kPattern.size());
  for (size_t i = 0; i < tail.size(); ++i) {
    const bool is_digit = tail[i] >= '0' && tail[i] <= '9';
    if (kPattern[i] == '#' ? !is_digit : tail[i] != kPattern[i]) return {};
  }
  const auto digits = [&](size_t at) {
    uint32_t value = 0;
    for (char c : tail.substr(at, 5)) value = value * 10 + static_cast<uint32_t>(c - '0');
    return value;
  };
  return ShardName{std::string(path.substr(0, path.size() - tail.size())), digits(1), digits(10)};
}

std::string shard_path(std::string_view prefix, int64_t number, int64_t count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number, count);
}

/// The number of shards that the first one, of metadata `first`, belongs to; checked against its name.
int64_t shard_count(const Metadata& first, const std::optional<ShardName>& name) {
  const int64_t count = first.integer("split.count", 1);
  require(count >= 1, "split.count is {}", count);
  require(name || count == 1, "is a shard of {}, but its name is not PREFIX-00001-of-{:05}.gguf", count, count);
  require(!name || name->count == count, "split.count is {}, but its name says {}", count, name ? name->count : 0);
  return count;
}

/// What one file holds.
struct Shard {
  uint32_t version = 0;
  Metadata metadata;
  std::vector<std::pair<std::string, MappedTensor>> tensors;  // in file order
};

Shard parse(const std::shared_ptr<const MappedFile>& file) {
  const auto bytes = file->bytes();
  Cursor in(bytes);
  Shard shard;
  shard.version = read_version(in);
  const auto n_tensors = in.number<uint64_t>("the tensor count");
  const auto n_keys = in.number<uint64_t>("the key count");
  require(n_keys <= in.left() / kMinKeyBytes, "truncated: says it has {} keys, {} bytes are left", n_keys, in.left());
  require(n_tensors <= in.left() / kMinTensorBytes, "truncated: says it has {} tensors, {} bytes are left", n_tensors,
          in.left());
  for (uint64_t i = 0; i < n_keys; ++i) {
    const std::string key = in.string(kMaxKey, "the name of a key");
    require(!shard.metadata.has(key), "key {} occurs twice", printable(key));
    shard.metadata.set(key, read_value(in, key));
  }
  const uint64_t alignment = checked_alignment(shard.metadata.integer(kAlignmentKey, kDefaultAlignment));

  std::vector<TensorInfo> infos;
  infos.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; ++i) infos.push_back(read_tensor_info(in));

  const uint64_t data_start = padded(in.offset(), alignment);
  uint64_t expected = 0;
  for (TensorInfo& info : infos) {
    const uint64_t begin = place(info, data_start, bytes.size(), alignment, expected);
    shard.tensors.emplace_back(std::move(info.name), MappedTensor{info.type, bytes.data() + begin, file});
  }
  return shard;
}

/// What `f` returns; its errors get the path in front.
template <typename F>
auto located(const std::string& path, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    throw error.at(path);
  }
}

}  // namespace

GgufFile::GgufFile(std::string path) : path_(std::move(path)) {
  const std::optional<ShardName> name = shard_name(path_);
  require(!name || name->number == 1, "{}: is shard {} of {}, open the first one: {}", path_, name ? name->number : 0,
          name ? name->count : 0, name ? shard_path(name->prefix, 1, name->count) : "");

  const auto add = [this](const Shard& shard) {
    for (const auto& [tensor_name, tensor] : shard.tensors) {
      const bool added = tensors_.try_emplace(tensor_name, tensor).second;
      require(added, "tensor {} occurs twice", printable(tensor_name));
      names_.push_back(tensor_name);
    }
  };

  files_.push_back(std::make_shared<MappedFile>(path_));
  const int64_t n_shards = located(path_, [&] {
    const Shard first = parse(files_[0]);
    version_ = first.version;
    metadata_ = first.metadata;
    const int64_t count = shard_count(metadata_, name);
    require(metadata_.integer("split.no", 0) == 0, "split.no is {}, expected 0", metadata_.integer("split.no", 0));
    add(first);
    return count;
  });

  for (int64_t i = 1; i < n_shards; ++i) {
    const std::string other = shard_path(name->prefix, i + 1, n_shards);
    located(path_, [&] {
      try {
        files_.push_back(std::make_shared<MappedFile>(other));
      } catch (const Error& error) {
        throw error.at(fmt::format("shard {} of {} is missing", i + 1, n_shards));
      }
    });
    located(other, [&] {
      const Shard shard = parse(files_.back());
      const int64_t no = shard.metadata.integer("split.no");
      const int64_t count = shard.metadata.integer("split.count");
      require(no == i, "split.no is {}, expected {}", no, i);
      require(count == n_shards, "split.count is {}, the first shard says {}", count, n_shards);
      add(shard);
    });
  }

  const auto n_tensors = static_cast<int64_t>(names_.size());
  const int64_t said = located(path_, [&] { return metadata_.integer("split.tensors.count", n_tensors); });
  require(said == n_tensors, "{}: split.tensors.count is {}, the shards hold {}", path_, said, n_tensors);
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) metadata_.erase(key);
}

const TensorType* GgufFile::type(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second.type;
}

LoadedTensor GgufFile::rows(std::string_view name, int64_t first, int64_t last) const {
  return tensors_.find(name)->second.rows(first, last);
}

uint64_t GgufFile::file_bytes() const {
  uint64_t bytes = 0;
  for (const auto& file : files_) bytes += file->bytes().size();
  return bytes;
}

}  // namespace weft
