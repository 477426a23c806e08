// An op in the abstract. Each op is a struct in one header under ops/ (see ops/qkv_gemm.h); make_schema turns it into
// the table of functions that the rest of weft calls. An op struct has:
//
//   static constexpr std::string_view name, doc;
//   static constexpr std::array inputs = {one("x"), list("weight"), optional("beta")};   an enum names the indices
//   static constexpr std::array<OutputSpec, n> outputs;
//   attributes as members, and   static constexpr auto fields = field_list(field("eps", &Op::eps), ...);
//   std::vector<TensorType> infer(const Types& in) const;                      shapes and dtypes, or throws Error
//   std::vector<Value> lower(const Values& in) const;                          the definition; absent in a primitive
//   Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload&) const;
#pragma once

#include <array>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "graph/cost.h"
#include "graph/slots.h"

namespace weft {

struct Value;
using Types = Slots<TensorType>;
using Values = Slots<Value>;

struct OutputSpec {
  std::string_view name;
  int alias = -1;  // index of the input slot whose bytes this output shares, or -1
};

/// Attributes of a node: an op struct, type-erased, immutable, shared.
class Attrs {
 public:
  Attrs() = default;
  template <typename Op>
  explicit Attrs(Op op) : data_(std::make_shared<const Op>(std::move(op))) {}
  const void* get() const { return data_.get(); }

 private:
  std::shared_ptr<const void> data_;
};

struct Schema {
  std::string_view name, doc;
  std::span<const SlotSpec> inputs;
  std::span<const OutputSpec> outputs;
  std::vector<TensorType> (*infer)(const void* op, const Types& in);
  std::vector<Value> (*lower)(const void* op, const Values& in);  // null: a primitive
  Cost (*cost)(const void* op, const Types& in, const std::vector<TensorType>& out, const Workload& workload);
  std::string (*attributes)(const void* op);  // "eps=1e-05, norm=layer"
  bool foldable;                              // may be computed once when every input is constant

  bool primitive() const { return lower == nullptr; }
};

// -- fields ---------------------------------------------------------------------------------------------------------

template <typename Op, typename T>
struct Field {
  std::string_view name;
  T Op::*member;
};

template <typename Op, typename T>
constexpr Field<Op, T> field(std::string_view name, T Op::*member) {
  return {name, member};
}

template <typename... Fields>
constexpr std::tuple<Fields...> field_list(Fields... fields) {
  return {fields...};
}

std::string field_text(bool value);
std::string field_text(int64_t value);
std::string field_text(double value);
std::string field_text(const std::string& value);
std::string field_text(const std::vector<int64_t>& value);
std::string field_text(DType value);
inline std::string field_text(int value) { return field_text(static_cast<int64_t>(value)); }
inline std::string field_text(float value) { return field_text(static_cast<double>(value)); }
inline std::string field_text(const TensorType& value) { return to_string(value); }
/// Enums print through their own to_string.
template <typename E>
requires std::is_enum_v<E> std::string field_text(E value) { return std::string(to_string(value)); }

/// Adds "name=value" to a list of such.
void append_field(std::string& text, std::string_view name, std::string_view value);

// -- from struct to schema -------------------------------------------------------------------------------------------

/// The cost of an op that says nothing else: every live byte in and out once, one operation an output element.
Cost streaming_cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload);

template <typename Op>
Schema make_schema() {
  Schema schema{.name = Op::name,
                .doc = Op::doc,
                .inputs = Op::inputs,
                .outputs = Op::outputs,
                .infer = [](const void* op, const Types& in) { return static_cast<const Op*>(op)->infer(in); },
                .lower = nullptr,
                .cost = [](const void*, const Types& in, const std::vector<TensorType>& out,
                           const Workload& workload) { return streaming_cost(in, out, workload); },
                .attributes =
                    [](const void* op) {
                      std::string text;
                      std::apply(
                          [&](const auto&... f) {
                            (append_field(text, f.name, field_text(static_cast<const Op*>(op)->*(f.member))), ...);
                          },
                          Op::fields);
                      return text;
                    },
                .foldable = true};
  if constexpr (requires(const Op op, Values in) { op.lower(in); }) {
    schema.lower = [](const void* op, const Values& in) { return static_cast<const Op*>(op)->lower(in); };
  }
  if constexpr (requires(const Op op, Types in, std::vector<TensorType> out, Workload w) { op.cost(in, out, w); }) {
    schema.cost = [](const void* op, const Types& in, const std::vector<TensorType>& out, const Workload& workload) {
      return static_cast<const Op*>(op)->cost(in, out, workload);
    };
  }
  if constexpr (requires { Op::foldable; }) schema.foldable = Op::foldable;
  return schema;
}

/// The one schema of an op struct.
template <typename Op>
const Schema& schema_of() {
  static const Schema schema = make_schema<Op>();
  return schema;
}

}  // namespace weft
