#include "convert/convert.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "convert/gguf_writer.h"
#include "convert/mapped_file.h"
#include "convert/sha256.h"
#include "ops/quant/for_cpu.h"

namespace weft {
namespace {

constexpr size_t kSlabBytes = size_t{4} << 20;  // of the source or the result, whichever is larger
constexpr int64_t kWaiting = 6;                 // workers more than cores: these wait for the disk, reading or writing

int64_t n_cores() { return std::max<int64_t>(1, std::thread::hardware_concurrency()); }

/// How much the columns of a tensor's rows matter.
struct Importance {
  std::span<const float> values = {};  // [matrices * columns]; empty: all alike
  int64_t rows_per_matrix = 1;         // of the whole tensor

  const float* of_row(int64_t row, size_t columns) const {
    return values.empty() ? nullptr : values.data() + static_cast<size_t>(row / rows_per_matrix) * columns;
  }
};

/// Rows [first, last) of a tensor from one type to another; row 0 is row `base` of what `importance` is about.
void convert_rows(const Tensor& from, DType to, int64_t first, int64_t last, std::byte* out,
                  const Importance& importance = {}, int64_t base = 0) {
  const auto columns = static_cast<size_t>(from.type.shape.columns());
  const size_t in_row = from.type.row_bytes(), out_row = columns / to->block_elems * to->block_bytes;
  std::vector<float> row(columns);
  const auto decode = quant::for_this_cpu(from.type.dtype).decode;
  const auto encode = quant::for_this_cpu(to).encode;
  for (int64_t r = first; r < last; ++r, out += out_row) {
    decode(from.data + static_cast<size_t>(r) * in_row, row.data(), columns);
    encode(row.data(), out, columns, importance.of_row(base + r, columns));
  }
}

/// Carries the tensors of a plan from their source to the file. Every worker takes the next slab of rows, converts it,
/// and waits for its turn to write: some read and convert while another writes.
class Conveyor {
 public:
  Conveyor(const Checkpoint& source, const ConvertPlan& plan, GgufWriter& writer, const ConvertEvents& events)
      : source_(source), plan_(plan), writer_(writer), events_(events) {}

  /// Throws what the first worker that failed threw.
  void run() {
    {
      std::vector<std::jthread> team;
      for (int64_t i = 0; i < n_cores() + kWaiting; ++i) team.emplace_back([this] { work(); });
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct Slab {
    size_t number;  // in file order, over all tensors
    const PlannedTensor* tensor;
    int64_t first, last;
    bool ends_tensor;
  };

  std::optional<Slab> next() {
    const std::scoped_lock lock(mutex_);
    if (failure_ || tensor_ == plan_.tensors.size()) return {};
    const PlannedTensor& tensor = plan_.tensors[tensor_];
    const int64_t rows = tensor.to.shape.rows();
    const size_t row_bytes = std::max({tensor.from.row_bytes(), tensor.to.row_bytes(), size_t{1}});
    const int64_t last = std::min(rows, row_ + std::max<int64_t>(1, static_cast<int64_t>(kSlabBytes / row_bytes)));
    const Slab slab{n_slabs_++, &tensor, row_, last, last == rows};
    row_ = slab.ends_tensor ? 0 : last;
    if (slab.ends_tensor) ++tensor_;
    return slab;
  }

  void work() {
    try {
      std::vector<std::byte> converted;
      while (const std::optional<Slab> slab = next()) {
        LoadedTensor rows = source_.rows(slab->tensor->name, slab->first, slab->last);
        read_ahead({rows->data, rows->type.bytes()});
        const DType to = slab->tensor->to.dtype;
        if (rows->type.dtype == to) {
          write(*slab, {rows->data, rows->type.bytes()});
        } else {
          converted.resize(TensorType{to, rows->type.shape}.bytes());
          const Shape& shape = slab->tensor->to.shape;
          const Importance importance{slab->tensor->importance, shape.rank() == 3 ? shape[1] : shape.rows()};
          convert_rows(*rows, to, 0, slab->last - slab->first, converted.data(), importance, slab->first);
          rows = {};
          write(*slab, converted);
        }
      }
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      turn_changed_.notify_all();
    }
  }

  void write(const Slab& slab, std::span<const std::byte> bytes) {
    std::unique_lock lock(mutex_);
    turn_changed_.wait(lock, [&] { return failure_ || turn_ == slab.number; });
    if (failure_) return;
    lock.unlock();  // the turn is what protects all that follows
    writer_.write(bytes.data(), bytes.size());
    if (events_.hashed) {
      hash_.add(bytes);
      if (slab.ends_tensor) events_.hashed(slab.tensor->name, hash_.finish());
    }
    written_ += bytes.size();
    if (events_.progress && !bytes.empty()) events_.progress(written_);
    lock.lock();
    ++turn_;
    turn_changed_.notify_all();
  }

  const Checkpoint& source_;
  const ConvertPlan& plan_;
  GgufWriter& writer_;
  const ConvertEvents& events_;

  std::mutex mutex_;  // of what follows, up to the turn
  std::condition_variable turn_changed_;
  std::exception_ptr failure_;
  size_t n_slabs_ = 0, tensor_ = 0;  // handed out; the tensor and its row that come next
  int64_t row_ = 0;
  size_t turn_ = 0;  // the slab to be written next

  Sha256 hash_;
  size_t written_ = 0;
};

}  // namespace

void convert_tensor(const Tensor& from, DType to, std::byte* out) {
  const int64_t n = from.type.shape.rows(), workers = std::clamp<int64_t>(n, 1, n_cores());
  const size_t row_bytes = TensorType{to, {from.type.shape.columns()}}.row_bytes();
  std::vector<std::jthread> team;
  for (int64_t w = 0; w < workers; ++w) {
    const int64_t a = n * w / workers, b = n * (w + 1) / workers;
    team.emplace_back([&, a, b] { convert_rows(from, to, a, b, out + static_cast<size_t>(a) * row_bytes); });
  }
}

void write_gguf(const Checkpoint& source, const ConvertPlan& plan, const std::string& path,
                const ConvertEvents& events) {
  Metadata metadata = source.metadata();
  const bool quantized = std::ranges::any_of(plan.tensors, [](const auto& t) { return t.to.dtype->is_quantized; });
  if (quantized) metadata.set("general.quantization_version", uint32_t{2});
  metadata.set("general.file_type", plan.file_type);
  std::vector<NamedType> list;
  for (const PlannedTensor& t : plan.tensors) list.push_back({t.name, t.to});
  GgufWriter writer(path, metadata, std::move(list));
  Conveyor(source, plan, writer, events).run();
  writer.finish();
}

}  // namespace weft
