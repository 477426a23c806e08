#include "convert/hf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "convert/json.h"
#include "convert/mapped_file.h"
#include "convert/tokenizer_json.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

std::string read_text(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_text_if_there(const std::string& path) {
  return std::filesystem::exists(path) ? read_text(path) : std::string();
}

/// [in, out] to [out, in], for element types of whole bytes.
void transpose(const Tensor& from, std::byte* to) {
  const int64_t rows = from.dim(0), columns = from.dim(1);
  const size_t size = from.type.dtype->block_bytes;
  constexpr int64_t kTile = 32;  // both sides of a tile stay in cache
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      for (int64_t c = c0; c < std::min(columns, c0 + kTile); ++c) {
        for (int64_t r = r0; r < std::min(rows, r0 + kTile); ++r) {
          std::memcpy(to + static_cast<size_t>(c * rows + r) * size,
                      from.data + static_cast<size_t>(r * columns + c) * size, size);
        }
      }
    }
  }
}

/// Rows of a head from (i, i + d / 2) pairs to neighbours (2i, 2i + 1).
void pair_rows(const Tensor& from, int64_t heads, size_t row_bytes, std::byte* to) {
  const int64_t half = from.dim(0) / heads / 2;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < half; ++i) {
      for (int64_t side = 0; side < 2; ++side) {
        std::memcpy(to + static_cast<size_t>((h * half + i) * 2 + side) * row_bytes,
                    from.data + static_cast<size_t>((h * 2 + side) * half + i) * row_bytes, row_bytes);
      }
    }
  }
}

/// Heads from [kv head][its q heads, k, v] to [q heads | k heads | v heads].
void split_qkv(const Tensor& from, int64_t heads, int64_t kv_heads, size_t row_bytes, std::byte* to) {
  const int64_t group = heads / kv_heads;
  const size_t head_bytes = static_cast<size_t>(from.dim(0) / (heads + 2 * kv_heads)) * row_bytes;
  for (int64_t kv = 0; kv < kv_heads; ++kv) {
    for (int64_t part = 0; part < group + 2; ++part) {
      const int64_t head = part < group ? kv * group + part : heads + (part - group) * kv_heads + kv;
      std::memcpy(to + static_cast<size_t>(head) * head_bytes,
                  from.data + static_cast<size_t>(kv * (group + 2) + part) * head_bytes, head_bytes);
    }
  }
}

}  // namespace

HfCheckpoint::HfCheckpoint(std::string folder) : folder_(std::move(folder)), files_(folder_) {
  const std::string config_path = folder_ + "/config.json";
  const HfConfig config(flatten_json(read_text(config_path), config_path));
  std::vector<DerivedTensor> derived_tensors;
  try {
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    metadata_.set("general.architecture", std::string(architecture.name));
    const std::string name = std::filesystem::weakly_canonical(folder_).filename().string();
    if (!name.empty()) metadata_.set("general.name", name);
    const Metadata keys = architecture.from_hf(config);
    for (const auto& [key, value] : keys.entries()) metadata_.set(key, value);
    if (architecture.derived_from_hf != nullptr) derived_tensors = architecture.derived_from_hf(config);
    config.refuse_unread();
  } catch (const Error& error) {
    throw error.at(config_path);
  }
  const std::string tokenizer_path = folder_ + "/tokenizer.json";
  const std::string tokenizer = read_text_if_there(tokenizer_path);
  if (!tokenizer.empty()) {
    const std::string tokenizer_config = read_text_if_there(folder_ + "/tokenizer_config.json");
    read_tokenizer_json(tokenizer, tokenizer_path, tokenizer_config).write_metadata(metadata_);
  } else {
    metadata_.set("tokenizer.ggml.model", std::string("no_vocab"));
  }
  const Architecture& architecture = find_architecture(metadata_.text("general.architecture"));
  const auto specs = [&] {
    try {
      const auto n_layer = static_cast<size_t>(architecture.shape(metadata_).n_layer);
      require(n_layer <= files_.names().size(), "says {} layers, the folder has {} tensors", n_layer,
              files_.names().size());
      return architecture.tensors(metadata_);
    } catch (const Error& error) {
      throw error.at(config_path);
    }
  }();
  // The prefix of the model class ("transformer.") is there or not, for all tensors alike but the output matrix.
  const bool prefixed = std::ranges::any_of(specs, [&](const TensorSpec& s) {
    return !s.hf.empty() && files_.find(std::string(architecture.hf_prefix) + s.hf.front()) != nullptr;
  });
  for (const TensorSpec& spec : specs) bind(spec, prefixed ? architecture.hf_prefix : "");
  for (const DerivedTensor& derived : derived_tensors) {
    const TensorType type{quant::f32, {static_cast<int64_t>(derived.values.size())}};
    std::byte* data = own(type.bytes());
    std::memcpy(data, derived.values.data(), type.bytes());
    names_.push_back(derived.gguf);
    tensors_.emplace(derived.gguf, Tensor{type, data});
  }
}

std::byte* HfCheckpoint::own(size_t bytes) {
  owned_.push_back(std::make_unique<std::byte[]>(bytes));
  return owned_.back().get();
}

void HfCheckpoint::bind(const TensorSpec& spec, std::string_view prefix) {
  std::vector<Tensor> parts;
  Shape part_shape = spec.shape;
  if (spec.hf.size() > 1) part_shape = Shape(spec.shape.dims().subspan(1));
  if (spec.transform == Transform::transpose) part_shape = {spec.shape[1], spec.shape[0]};
  for (const std::string& hf : spec.hf) {
    const std::string with_prefix = std::string(prefix) + hf;
    std::string name = files_.find(with_prefix) != nullptr ? with_prefix : hf;
    if (files_.find(name) == nullptr && !spec.hf_otherwise.empty()) name = std::string(prefix) + spec.hf_otherwise;
    if (files_.find(name) == nullptr) {
      require(!spec.required, "{}: tensor {} is missing", folder_, with_prefix);
      return;
    }
    parts.push_back(files_.tensor(name));
    const TensorType& type = parts.back().type;
    require(type.shape == part_shape, "{}: tensor {} is {}, config.json says {}", folder_, name, to_string(type),
            to_string(part_shape));
    require(type.dtype == parts.front().type.dtype, "{}: tensor {} is {}, its siblings are {}", folder_, name,
            type.dtype.name(), parts.front().type.dtype.name());
  }
  if (parts.empty()) return;
  const Tensor& from = parts.front();
  Tensor tensor{{from.type.dtype, spec.shape}, from.data};
  const int64_t rows = spec.shape[0];
  const size_t row_bytes = from.type.bytes() / static_cast<size_t>(std::max<int64_t>(1, rows));
  if (parts.size() > 1) {
    tensor.data = own(tensor.type.bytes());
    for (size_t i = 0; i < parts.size(); ++i) {
      std::memcpy(tensor.data + i * parts[i].type.bytes(), parts[i].data, parts[i].type.bytes());
    }
  } else if (spec.transform == Transform::transpose) {
    tensor.data = own(tensor.type.bytes());
    transpose(from, tensor.data);
  } else if (spec.transform == Transform::rotary_pairs) {
    require(rows % (2 * spec.heads) == 0, "{}: {} rows are no pairs of {} heads", folder_, rows, spec.heads);
    tensor.data = own(tensor.type.bytes());
    pair_rows(from, spec.heads, row_bytes, tensor.data);
  } else if (spec.transform == Transform::split_qkv) {
    require(rows % (spec.heads + 2 * spec.kv_heads) == 0, "{}: {} rows are no q, k, v of {} and {} heads", folder_,
            rows, spec.heads, spec.kv_heads);
    tensor.data = own(tensor.type.bytes());
    split_qkv(from, spec.heads, spec.kv_heads, row_bytes, tensor.data);
  }
  names_.push_back(spec.gguf);
  tensors_.emplace(spec.gguf, tensor);
}

const Tensor* HfCheckpoint::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

}  // namespace weft
