#include "models/session/importance.h"

#include <cstring>

#include "ops/matmul.h"

namespace weft {
namespace {

template <typename T>
std::vector<T> values_of(const StepView& step, Value value) {
  const std::vector<std::byte> bytes = step.bytes(value);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

const WeightOp* weight_of(const Graph& graph, Value value) { return graph.node(value.node).as<WeightOp>(); }

}  // namespace

void ImportanceMatrix::add(const std::string& weight, std::span<const float> rows, size_t columns, size_t index,
                           size_t count) {
  Entry& entry = entries_[weight];
  if (entry.counts.empty()) entry = {std::vector<float>(count * columns), std::vector<float>(count)};
  require(entry.counts.size() == count && entry.sums.size() == count * columns && index < count,
          "importance of {}: {} columns of {} matrices came after another size", weight, columns, count);
  float* sums = entry.sums.data() + index * columns;
  for (size_t at = 0; at + columns <= rows.size(); at += columns) {
    for (size_t i = 0; i < columns; ++i) sums[i] += rows[at + i] * rows[at + i];
    entry.counts[index] += 1;
  }
}

std::vector<float> ImportanceMatrix::means(std::string_view weight, size_t columns, size_t matrices) const {
  const auto it = entries_.find(weight);
  if (it == entries_.end()) return {};
  const Entry& entry = it->second;
  const bool alike = entry.counts.size() == 1;
  require(entry.sums.size() == matrices * columns && (alike || entry.counts.size() == matrices),
          "the importance matrix has {} values for {}, the weight has {} columns in {} matrices", entry.sums.size(),
          weight, columns, matrices);
  std::vector<float> means(entry.sums.size(), 1.0f);
  for (size_t m = 0; m < matrices; ++m) {
    const float count = entry.counts[alike ? 0 : m];
    if (!(count > 0)) continue;
    for (size_t i = 0; i < columns; ++i) means[m * columns + i] = entry.sums[m * columns + i] / count;
  }
  return means;
}

void ImportanceObserver::before(const StepView& step) {
  const Node& node = step.match.node();
  const Graph& graph = *step.match.graph;
  if (node.op->name == Matmul::name) {
    const Value x = node.in[Matmul::kX];
    if (x.type().rows == Rows::logits) return;
    const auto columns = static_cast<size_t>(x.type().shape.columns());
    std::vector<float> rows;
    for (const Value& block : node.in.list(Matmul::kWeight)) {
      const WeightOp* weight = weight_of(graph, block);
      if (weight == nullptr) continue;
      if (rows.empty()) {
        rows = values_of<float>(step, x);
        rows.resize(static_cast<size_t>(live_rows(x.type(), step.live)) * columns);
      }
      matrix_.add(weight->label, rows, columns, 0, 1);
    }
  }
  if (node.op->name == IndexedMatmul::name) {
    const WeightOp* weight = weight_of(graph, node.in[IndexedMatmul::kWeight]);
    if (weight == nullptr) return;
    const Value x = node.in[IndexedMatmul::kX], ids = node.in[IndexedMatmul::kIds];
    const auto experts = static_cast<size_t>(node.in[IndexedMatmul::kWeight].type().shape[0]);
    const auto columns = static_cast<size_t>(x.type().shape.columns()), k = static_cast<size_t>(ids.type().shape[1]);
    const size_t rows_per_token = x.type().shape.rank() == 3 ? k : 1;
    const auto picks = values_of<int32_t>(step, ids);
    const auto rows = values_of<float>(step, x);
    const auto tokens = static_cast<size_t>(live_rows(ids.type(), step.live));
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t j = 0; j < k; ++j) {
        const int32_t expert = picks[t * k + j];
        if (expert < 0 || static_cast<size_t>(expert) >= experts) continue;
        const size_t row = rows_per_token == 1 ? t : t * k + j;
        matrix_.add(weight->label, std::span(rows).subspan(row * columns, columns), columns,
                    static_cast<size_t>(expert), experts);
      }
    }
  }
}

}  // namespace weft
