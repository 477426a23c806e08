#include "convert/convert.h"

#include <algorithm>
#include <map>
#include <thread>

#include "convert/gguf_writer.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

/// Informational key general.file_type: the type most matrices have, by the numbering GGUF programs share.
uint32_t file_type(const ConvertPlan& plan) {
  static constexpr std::pair<std::string_view, uint32_t> kNumbers[] = {
      {"f32", 0},     {"f16", 1},     {"q4_0", 2},  {"q4_1", 3},  {"q8_0", 7},  {"q5_0", 8},
      {"q5_1", 9},    {"q2_K", 10},   {"q3_K", 12}, {"q4_K", 14}, {"q5_K", 16}, {"q6_K", 18},
      {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32}, {"mxfp4", 38}};
  std::map<std::string_view, size_t> bytes;
  for (const PlannedTensor& t : plan.tensors) bytes[t.to.dtype.name()] += t.to.bytes();
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  for (const auto& [name, number] : kNumbers) {
    if (most != bytes.end() && most->first == name) return number;
  }
  return 0;
}

/// Rows [first, last) of a tensor from one type to another.
void convert_rows(const Tensor& from, DType to, int64_t first, int64_t last, std::byte* out) {
  const auto columns = static_cast<size_t>(from.type.shape.columns());
  const size_t out_row = columns / to->block_elems * to->block_bytes;
  std::vector<float> row(columns);
  for (int64_t r = first; r < last; ++r) {
    from.type.dtype->decode(from.data + static_cast<size_t>(r) * from.type.row_bytes(), row.data(), columns);
    to->encode(row.data(), out + static_cast<size_t>(r - first) * out_row, columns, nullptr);
  }
}

/// Rows [first, last) with every core.
void convert_rows_parallel(const Tensor& from, DType to, int64_t first, int64_t last, std::byte* out) {
  const int64_t n = last - first;
  const int64_t workers = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::max<int64_t>(1, n));
  const size_t row_bytes = TensorType{to, {from.type.shape.columns()}}.row_bytes();
  std::vector<std::jthread> team;
  for (int64_t w = 0; w < workers; ++w) {
    const int64_t a = n * w / workers, b = n * (w + 1) / workers;
    if (a == b) continue;
    team.emplace_back(
        [&, a, b] { convert_rows(from, to, first + a, first + b, out + static_cast<size_t>(a) * row_bytes); });
  }
}

/// A slab of rows at a time, so that memory stays small whatever the tensor.
void write_converted(GgufWriter& writer, const Tensor& from, DType to, const std::function<void(size_t)>& written) {
  constexpr size_t kSlabBytes = size_t{32} << 20;
  const int64_t rows = from.type.shape.rows();
  const size_t row_bytes = TensorType{to, {from.type.shape.columns()}}.row_bytes();
  const auto slab = static_cast<int64_t>(std::max<size_t>(1, kSlabBytes / std::max<size_t>(1, row_bytes)));
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(slab, rows)) * row_bytes);
  for (int64_t first = 0; first < rows; first += slab) {
    const int64_t n = std::min(slab, rows - first);
    convert_rows_parallel(from, to, first, first + n, buffer.data());
    writer.write(buffer.data(), static_cast<size_t>(n) * row_bytes);
    written(static_cast<size_t>(n) * row_bytes);
  }
}

}  // namespace

ConvertPlan plan_conversion(const Checkpoint& source, const ConvertOptions& options) {
  require(!options.type || options.type->encode != nullptr, "--type {}: weft reads this type but cannot write it",
          options.type.name());
  ConvertPlan plan;
  for (const std::string& name : source.tensor_names()) {
    const TensorType from = source.at(name).type;
    require(from.dtype->decode != nullptr && from.dtype != DType(quant::i32), "{}: tensor {} is {}, not a weight type",
            source.path(), name, from.dtype.name());
    PlannedTensor tensor{.name = name, .from = from, .to = from, .fell_back = false};
    const bool matrix =
        from.shape.rank() >= 2 && !name.starts_with("position_embd") && name.find("_norm.") == name.npos;
    if (!matrix) {
      tensor.to.dtype = quant::f32;
    } else if (options.type) {
      tensor.to.dtype = options.type;
      if (from.shape.columns() % options.type->block_elems != 0) {
        require(options.fallback, "{}: tensor {} has rows of {} elements, {} needs whole blocks of {}", source.path(),
                name, from.shape.columns(), options.type.name(), options.type->block_elems);
        tensor.to.dtype = quant::f16;
        tensor.fell_back = true;
      }
    }
    plan.bytes += tensor.to.bytes();
    plan.elements += static_cast<size_t>(tensor.to.elements());
    plan.tensors.push_back(tensor);
  }
  return plan;
}

void convert_tensor(const Tensor& from, DType to, std::byte* out) {
  convert_rows_parallel(from, to, 0, from.type.shape.rows(), out);
}

void write_gguf(const Checkpoint& source, const ConvertPlan& plan, const std::string& path,
                const std::function<void(size_t)>& progress) {
  Metadata metadata = source.metadata();
  const bool quantized = std::ranges::any_of(plan.tensors, [](const auto& t) { return t.to.dtype->is_quantized; });
  if (quantized) metadata.set("general.quantization_version", uint32_t{2});
  metadata.set("general.file_type", file_type(plan));
  std::vector<NamedType> list;
  for (const PlannedTensor& t : plan.tensors) list.push_back({t.name, t.to});
  GgufWriter writer(path, metadata, std::move(list));
  size_t done = 0;
  const auto written = [&](size_t bytes) {
    done += bytes;
    if (progress) progress(done);
  };
  for (const PlannedTensor& t : plan.tensors) {
    const Tensor& from = source.at(t.name);
    if (from.type.dtype == t.to.dtype) {
      writer.write(from.data, from.type.bytes());
      written(from.type.bytes());
    } else {
      write_converted(writer, from, t.to.dtype, written);
    }
  }
  writer.finish();
}

}  // namespace weft
