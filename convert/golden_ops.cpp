#include "convert/golden_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "ops/all.h"
#include "ops/catalogue.h"

namespace weft {
namespace {

using Json = nlohmann::json;

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

std::vector<float> values_of(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.type.shape.elements()));
  tensor.type.dtype->decode(tensor.data, values.data(), values.size());
  return values;
}

// -- the golden files' names in the order of our slots
// ------------------------------------------------------------------

/// An op that runs in one step: its slots and outputs under the names that the files use.
struct Spelling {
  std::string_view op;
  std::vector<std::string_view> inputs, outputs;
  Attrs (*attrs)(const Json& attrs);
};

const std::vector<Spelling>& spellings() {
  static const std::vector<Spelling> all = {
      {QkvGemm::name,
       {"input", "weight", "bias", "gamma", "beta"},
       {"qkv", "norm"},
       [](const Json& a) {
         return Attrs(QkvGemm{parse_norm_kind(std::string(a.at("norm"))), a.at("eps")});
       }},
      {Linear::name, {"input", "weight", "bias"}, {"output"}, [](const Json&) { return Attrs(Linear{}); }},
      {VectorMatmul::name, {"input", "weight"}, {"output"}, [](const Json&) { return Attrs(VectorMatmul{}); }},
      {MlpGemm::name,
       {"input", "residual", "input_bias", "gamma", "beta", "weight_interm", "bias", "weight_out"},
       {"output", "residual_add"},
       [](const Json& a) {
         return Attrs(MlpGemm{parse_norm_kind(std::string(a.at("norm"))), a.at("eps"),
                              parse_activation(std::string(a.at("activation")))});
       }},
      {GeluGemm::name,
       {"input", "weight", "bias", "weight_out"},
       {"output"},
       [](const Json& a) { return Attrs(GeluGemm{parse_activation(std::string(a.at("activation")))}); }},
      {ResidualAdd::name,
       {"hidden_state", "residual", "attention_output", "attention_bias", "final_bias"},
       {"output"},
       [](const Json& a) {
         return Attrs(ResidualAdd{a.at("mlp_after_attn"), a.at("pre_layer_norm"), a.at("mp_size")});
       }},
      {MoeRoute::name,
       {"input", "weight", "bias"},
       {"expert_ids", "expert_weights"},
       [](const Json& a) {
         return Attrs(MoeRoute{parse_gating(std::string(a.at("gating"))), a.at("experts_per_token")});
       }},
      {MoeExperts::name,
       {"input", "expert_ids", "expert_weights", "weight_up", "weight_gate", "weight_down", "bias_up", "bias_gate",
        "bias_down"},
       {"output"},
       [](const Json& a) {
         return Attrs(MoeExperts{parse_activation(std::string(a.at("activation"))), a.at("alpha"), a.at("limit")});
       }},
  };
  return all;
}

/// Null if there is no such op.
const Spelling* find_spelling(std::string_view op) {
  const auto it = std::ranges::find(spellings(), op, &Spelling::op);
  return it == spellings().end() ? nullptr : &*it;
}

/// Inputs that change from token to token; the others are weights.
bool is_activation(std::string_view name) {
  constexpr std::string_view kActivationNames[] = {"input",      "residual",      "hidden_state", "attention_output",
                                                   "expert_ids", "expert_weights"};
  return std::ranges::find(kActivationNames, name) != std::end(kActivationNames);
}

bool is_ids(std::string_view name) { return name == "expert_ids"; }

// -- attention
// ------------------------------------------------------------------------------------------------------------

constexpr int kPage = 4;           // small, so that a short cache has several pages
constexpr int kMostTokens = 4096;  // of a step, and steps of a case

SoftmaxContext attention_attrs(const Json& a) {
  const int rotary_dim = a.at("rotary_dim");
  return {.n_head = a.at("heads"),
          .n_kv_head = a.at("kv_heads"),
          .d_head = a.at("head_dim"),
          .rotary = rotary_dim == 0 ? Rotary::none : parse_rotary(std::string(a.at("rotary_style"))),
          .rotary_dim = rotary_dim,
          .rope_theta = a.at("rope_theta"),
          .rope_attn_scale = a.value("rope_attn_scale", 1.0f),
          .scale = a.at("scale"),
          .window = a.at("window"),
          .alibi = a.at("alibi"),
          .softcap = a.at("softcap"),
          .qk_norm_eps = a.at("qk_norm_eps")};
}

/// Pages in falling order and one that nothing uses, so that a page's id is never its index.
std::vector<int32_t> page_table(int n_pages) {
  std::vector<int32_t> table;
  for (int i = 0; i < n_pages; ++i) table.push_back(n_pages - i);
  return table;
}

int pages_for(const std::vector<int>& steps) {
  int total = 0;
  for (const int n : steps) total += n;
  return (total + kPage - 1) / kPage;
}

}  // namespace

GoldenCase::GoldenCase(const std::string& path) : file_(std::make_shared<SafetensorsFile>(path)) {
  try {
    name_ = std::filesystem::path(path).stem().string();
    const auto attrs = file_->metadata().find("attrs");
    require(attrs != file_->metadata().end(), "is no golden file: its metadata has no attrs");
    attrs_ = attrs->second;
    for (const std::string& tensor : file_->names()) tensors_.emplace(tensor, file_->load(tensor));
    op_ = Json::parse(attrs_).at("op");
    op_ == SoftmaxContext::name ? load_softmax_context() : load();
  } catch (const Error& error) {
    throw std::string_view(error.what()).starts_with(path) ? error : error.at(path);
  } catch (const Json::exception& error) {
    throw Error(error.what()).at(path);
  }
}

/// The tensors of a slot: `name`, or `name.0`, `name.1`, ..., or none.
std::vector<std::string> GoldenCase::parts_of(std::string_view name) const {
  const std::string whole = fmt::format("in.{}", name);
  if (file_->find(whole) != nullptr) return {whole};
  std::vector<std::string> parts;
  while (file_->find(fmt::format("{}.{}", whole, parts.size())) != nullptr) {
    parts.push_back(fmt::format("{}.{}", whole, parts.size()));
  }
  return parts;
}

const Tensor& GoldenCase::tensor(const std::string& name) const {
  const auto it = tensors_.find(name);
  require(it != tensors_.end(), "tensor {} is missing", name);
  return *it->second;
}

void GoldenCase::load() {
  const Spelling* spelling = find_spelling(op_);
  require(spelling != nullptr, "there is no op {}", op_);
  Step step;
  for (const std::string_view name : spelling->inputs) {
    if (!is_activation(name)) continue;
    for (const std::string& part : parts_of(name)) {
      const Tensor& tensor = this->tensor(part);
      const std::vector<float> values = values_of(tensor);
      step.tokens = static_cast<int>(tensor.dim(0));
      step.feeds.push_back(
          {part, is_ids(name) ? bytes_of(std::vector<int32_t>(values.begin(), values.end())) : bytes_of(values)});
    }
  }
  for (const std::string_view name : spelling->outputs) {
    step.expected.push_back({std::string(name), values_of(tensor(fmt::format("out.{}", name)))});
  }
  steps_.push_back(std::move(step));
}

void GoldenCase::load_softmax_context() {
  const Json attrs = Json::parse(attrs_);
  const std::vector<int> counts = attrs.at("steps");
  require(counts.size() <= kMostTokens && std::ranges::all_of(counts, [](int n) { return n > 0 && n <= kMostTokens; }),
          "steps are not 1 to {} tokens each", kMostTokens);
  const std::vector<int32_t> table = page_table(pages_for(counts));
  int cached = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const int n = counts[i];
    std::vector<int32_t> positions, slots;
    for (int p = cached; p < cached + n; ++p) {
      positions.push_back(p);
      slots.push_back(table[static_cast<size_t>(p / kPage)] * kPage + p % kPage);
    }
    cached += n;
    Step step{.tokens = n, .feeds = {}, .expected = {}};
    step.feeds.push_back({"qkv", bytes_of(values_of(tensor(fmt::format("in.qkv.{}", i))))});
    step.feeds.push_back({"positions", bytes_of(positions)});
    step.feeds.push_back({"slots", bytes_of(slots)});
    step.feeds.push_back({"sequence_ids", bytes_of(std::vector<int32_t>(static_cast<size_t>(n), 0))});
    step.feeds.push_back({"sequence_starts", bytes_of(std::vector<int32_t>{0, n})});
    step.feeds.push_back({"kv_lengths", bytes_of(std::vector<int32_t>{cached})});
    step.feeds.push_back({"page_table", bytes_of(table)});
    step.expected.push_back({"context", values_of(tensor(fmt::format("out.context.{}", i)))});
    steps_.push_back(std::move(step));
  }
  require(!steps_.empty(), "has no steps");
  for (const char* name : {"key_cache", "value_cache"}) {
    steps_.back().expected.push_back({name, values_of(tensor(fmt::format("out.{}", name)))});
  }
}

void GoldenCase::build(Graph& graph) const {
  if (op_ == SoftmaxContext::name) return build_softmax_context(graph);
  const Spelling& spelling = *find_spelling(op_);
  Values in;
  for (const std::string_view name : spelling.inputs) {
    std::vector<Value> slot;
    for (const std::string& part : parts_of(name)) {
      const Tensor& tensor = this->tensor(part);
      const DType dtype = is_ids(name) ? DType(quant::i32) : tensor.type.dtype;
      slot.push_back(is_activation(name) ? graph.input(part, {dtype, tensor.type.shape, Rows::tokens})
                                         : graph.weight(part, tensor));
    }
    in.add(slot);
  }
  const auto out = graph.append(*find_schema(op_), spelling.attrs(Json::parse(attrs_)), in);
  for (size_t i = 0; i < out.size(); ++i) graph.output(std::string(spelling.outputs[i]), out[i]);
}

void GoldenCase::build_softmax_context(Graph& graph) const {
  const Json attrs = Json::parse(attrs_);
  const SoftmaxContext op = attention_attrs(attrs);
  const std::vector<int> counts = attrs.at("steps");
  const int64_t tokens = *std::ranges::max_element(counts), pages = pages_for(counts);
  const int64_t width = (op.n_head + 2 * int64_t{op.n_kv_head}) * op.d_head;
  const auto per_token = [&](const char* name) { return graph.input(name, i32_type({tokens}, Rows::tokens)); };
  const auto optional_weight = [&](const std::string& name) {
    return file_->find("in." + name) != nullptr ? graph.weight(name, tensor("in." + name)) : Value{};
  };
  const TensorType cache = f32_type({pages + 1, op.n_kv_head, kPage, op.d_head});
  const Value table = graph.input("page_table", i32_type({1, pages}));
  const Value lengths = graph.input("kv_lengths", i32_type({1}));
  const auto out = graph.add(
      op, {graph.input("qkv", f32_type({tokens, width}, Rows::tokens)), graph.state("k_cache", cache),
           graph.state("v_cache", cache), per_token("positions"), per_token("slots"), per_token("sequence_ids"),
           graph.input("sequence_starts", i32_type({2})), lengths, table, optional_weight("q_gamma"),
           optional_weight("k_gamma"), optional_weight("rope_factors"), optional_weight("sinks")});
  graph.output("context", out[0]);
  graph.output("key_cache", permute(gather_pages(out[1], table, lengths), {1, 0, 2}));
  graph.output("value_cache", permute(gather_pages(out[2], table, lengths), {1, 0, 2}));
}

std::vector<std::string> golden_files(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path().string());
  }
  std::ranges::sort(paths);
  return paths;
}

double golden_error(const TensorType& type, const std::byte* got, const GoldenCase::Expected& expected) {
  std::vector<float> values(expected.values.size());
  type.dtype->decode(got, values.data(), values.size());
  double worst = 0, scale = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(static_cast<double>(values[i]) - static_cast<double>(expected.values[i])));
    scale = std::max(scale, std::abs(static_cast<double>(expected.values[i])));
  }
  return worst == 0 ? 0 : worst / scale;
}

}  // namespace weft
