#include "convert/imatrix_file.h"

#include <cmath>
#include <cstring>

#include "convert/gguf_reader.h"
#include "convert/gguf_writer.h"
#include "convert/mapped_file.h"
#include "convert/printable.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

std::vector<float> floats_of(const Tensor& tensor, std::string_view name) {
  require(tensor.type.dtype == DType(quant::f32), "tensor {} is {}, expected f32", name, tensor.type.dtype.name());
  std::vector<float> values(static_cast<size_t>(tensor.type.elements()));
  std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
  return values;
}

void check_values(std::span<const float> values, std::string_view name) {
  for (const float v : values) {
    require(std::isfinite(v) && v >= 0, "{} has the value {}", printable(name), v);
  }
}

ImportanceMatrix read_gguf(const std::string& path) {
  const GgufFile file(path);
  require(file.metadata().text("general.type", "") == "imatrix", "is a GGUF but no importance matrix");
  ImportanceMatrix matrix;
  for (const std::string& name : file.tensor_names()) {
    if (!name.ends_with(kSums)) continue;
    const std::string weight = name.substr(0, name.size() - kSums.size());
    ImportanceMatrix::Entry entry{floats_of(file.at(name), name),
                                  floats_of(file.at(weight + std::string(kCounts)), name)};
    require(!entry.counts.empty() && entry.sums.size() % entry.counts.size() == 0, "{} has {} sums for {} counts",
            printable(weight), entry.sums.size(), entry.counts.size());
    check_values(entry.sums, weight);
    check_values(entry.counts, weight);
    matrix.set(weight, std::move(entry));
  }
  return matrix;
}

/// Bounded reads from the front of a buffer.
class DatCursor {
 public:
  explicit DatCursor(std::span<const std::byte> bytes) : left_(bytes) {}
  std::span<const std::byte> take(size_t n, std::string_view what) {
    require(n <= left_.size(), "ends within {}", what);
    const auto out = left_.first(n);
    left_ = left_.subspan(n);
    return out;
  }
  /// A count, not above what could follow.
  size_t count(size_t item_bytes, std::string_view what) {
    int32_t n = 0;
    std::memcpy(&n, take(sizeof n, what).data(), sizeof n);
    require(n >= 0 && static_cast<size_t>(n) <= left_.size() / item_bytes, "{} is {}", what, n);
    return static_cast<size_t>(n);
  }

 private:
  std::span<const std::byte> left_;
};

ImportanceMatrix read_dat(std::span<const std::byte> bytes) {
  DatCursor cursor(bytes);
  ImportanceMatrix matrix;
  const size_t n = cursor.count(3 * sizeof(int32_t), "the number of entries");
  require(n > 0, "has no entries");
  for (size_t e = 0; e < n; ++e) {
    const auto name_bytes = cursor.take(cursor.count(1, "the length of a name"), "a name");
    const std::string name(reinterpret_cast<const char*>(name_bytes.data()), name_bytes.size());
    int32_t calls = 0;
    std::memcpy(&calls, cursor.take(sizeof calls, "an entry").data(), sizeof calls);
    const auto values = cursor.take(cursor.count(sizeof(float), "the number of values") * sizeof(float), "values");
    ImportanceMatrix::Entry entry{std::vector<float>(values.size() / sizeof(float)),
                                  {static_cast<float>(std::max(calls, 1))}};
    std::memcpy(entry.sums.data(), values.data(), values.size());
    check_values(entry.sums, name);
    matrix.set(name, std::move(entry));
  }
  return matrix;
}

}  // namespace

ImportanceMatrix read_imatrix(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const bool gguf = bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
  try {
    return gguf ? read_gguf(path) : read_dat(bytes);
  } catch (const Error& error) {
    throw std::string_view(error.what()).starts_with(path) ? error : error.at(path);
  }
}

void write_imatrix(const std::string& path, const ImportanceMatrix& matrix, const ImatrixInfo& info) {
  Metadata metadata;
  metadata.set("general.type", std::string("imatrix"));
  metadata.set("imatrix.datasets", MetaArray(std::vector<std::string>{info.dataset}));
  metadata.set("imatrix.chunk_count", info.chunks);
  metadata.set("imatrix.chunk_size", info.chunk_tokens);
  std::vector<NamedType> types;
  for (const auto& [name, entry] : matrix.entries()) {
    const auto matrices = static_cast<int64_t>(entry.counts.size());
    const auto columns = static_cast<int64_t>(entry.sums.size()) / matrices;
    types.push_back({name + std::string(kSums), {quant::f32, {matrices, columns}}});
    types.push_back({name + std::string(kCounts), {quant::f32, {matrices, 1}}});
  }
  GgufWriter writer(path, metadata, std::move(types));
  for (const auto& [name, entry] : matrix.entries()) {
    writer.write(entry.sums.data(), entry.sums.size() * sizeof(float));
    writer.write(entry.counts.data(), entry.counts.size() * sizeof(float));
  }
  writer.finish();
}

}  // namespace weft
