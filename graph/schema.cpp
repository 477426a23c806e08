#include "graph/schema.h"

#include <fmt/ranges.h>

namespace weft {

std::string field_text(bool value) { return value ? "true" : "false"; }
std::string field_text(int64_t value) { return fmt::format("{}", value); }
std::string field_text(double value) { return fmt::format("{:.6g}", value); }
std::string field_text(const std::string& value) { return value; }
std::string field_text(const std::vector<int64_t>& value) { return fmt::format("[{}]", fmt::join(value, ", ")); }
std::string field_text(DType value) { return std::string(value.name()); }

void append_field(std::string& text, std::string_view name, std::string_view value) {
  text += fmt::format("{}{}={}", text.empty() ? "" : ", ", name, value);
}

Cost streaming_cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) {
  Cost cost;
  for (const TensorType& type : in.all()) cost.activation_bytes += live_bytes(type, workload);
  for (const TensorType& type : out) {
    const double bytes = live_bytes(type, workload);
    cost.activation_bytes += bytes;
    if (type) cost.flops += bytes / type.dtype->block_bytes * type.dtype->block_elems;
  }
  return cost;
}

}  // namespace weft
