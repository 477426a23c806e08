// Writes an architecture's list of tensors, a line each.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/architecture.h"

namespace weft {

enum class Bias : uint8_t { none, optional, required };

class TensorList {
 public:
  struct Options {
    Bias bias = Bias::none;
    Transform transform = Transform::none;
    int64_t heads = 0, kv_heads = 0;  // that the transform is about
    bool required = true;
    std::string_view hf_otherwise = {};  // as TensorSpec::hf_otherwise
    bool gguf_only = false;              // Hugging Face has it elsewhere or not at all
  };

  /// The tensors that follow belong to layer i: "blk.i." stands before their GGUF names and `hf_prefix` before the
  /// others.
  void layer(int64_t i, std::string hf_prefix) {
    gguf_prefix_ = fmt::format("blk.{}.", i);
    hf_prefix_ = std::move(hf_prefix);
  }
  /// The tensors that follow belong to no layer.
  void end_layers() {
    gguf_prefix_.clear();
    hf_prefix_.clear();
  }

  /// All names without ".weight" and ".bias". Returns the weight's spec; the reference holds until the next call.
  TensorSpec& add(std::string_view gguf, std::string_view hf, Shape weight, const Options& options) {
    const auto push = [&](std::string_view kind, Shape shape, bool required) {
      const auto named = [&](std::string_view name) { return fmt::format("{}{}.{}", hf_prefix_, name, kind); };
      all_.push_back({.gguf = fmt::format("{}{}.{}", gguf_prefix_, gguf, kind),
                      .hf = options.gguf_only ? std::vector<std::string>() : std::vector{named(hf)},
                      .shape = std::move(shape),
                      .transform = options.transform,
                      .heads = options.heads,
                      .kv_heads = options.kv_heads,
                      .required = required,
                      .hf_otherwise = options.hf_otherwise.empty() ? "" : named(options.hf_otherwise)});
    };
    const size_t first = all_.size();
    push("weight", weight, options.required);
    if (options.bias != Bias::none) {
      push("bias", {weight[0]}, options.required && options.bias == Bias::required);
      if (options.transform == Transform::transpose) all_.back().transform = Transform::none;
    }
    return all_[first];
  }
  TensorSpec& add(std::string_view gguf, std::string_view hf, Shape weight) { return add(gguf, hf, weight, {}); }

  /// One whose names have no ".weight" to add.
  TensorSpec& add_named(std::string_view gguf, std::string_view hf, Shape shape) {
    return all_.emplace_back(TensorSpec{
        .gguf = fmt::format("{}{}", gguf_prefix_, gguf), .hf = {fmt::format("{}{}", hf_prefix_, hf)}, .shape = shape});
  }

  /// q, k and v [rows, columns] by their hf names; some GGUF files have attn_qkv in their place.
  void add_qkv(const std::array<std::string_view, 3>& hf, int64_t q_rows, int64_t kv_rows, int64_t columns, Bias bias) {
    const size_t first = all_.size();
    add("attn_q", hf[0], {q_rows, columns}, {.bias = bias});
    add("attn_k", hf[1], {kv_rows, columns}, {.bias = bias});
    add("attn_v", hf[2], {kv_rows, columns}, {.bias = bias});
    for (size_t i = first; i < all_.size(); ++i) all_[i].unless = gguf_prefix_ + "attn_qkv.weight";
    add("attn_qkv", "", {q_rows + 2 * kv_rows, columns}, {.bias = bias, .required = false, .gguf_only = true});
  }

  /// A vector for each head, stacked: hf names hold "{}" where the head's number stands. Not required: only some GGUF
  /// files have it.
  void add_per_head(std::string_view gguf, std::string_view hf, int64_t heads, int64_t d_head, bool required) {
    const Shape shape = heads == 1 ? Shape{d_head} : Shape{heads, d_head};
    TensorSpec& spec = add(gguf, hf, shape, {.required = required, .gguf_only = true});
    for (int64_t h = 0; required && h < heads; ++h) {
      spec.hf.push_back(hf_prefix_ + fmt::format(fmt::runtime(hf), h) + ".weight");
    }
  }

  /// The matrices of `count` experts, stacked: hf names hold "{}" where the expert's number stands.
  TensorSpec& add_experts(std::string_view gguf, std::string_view hf, int64_t count, Shape one) {
    TensorSpec spec{.gguf = fmt::format("{}{}.weight", gguf_prefix_, gguf), .hf = {}, .shape = {count, one[0], one[1]}};
    for (int64_t e = 0; e < count; ++e) {
      spec.hf.push_back(hf_prefix_ + fmt::format(fmt::runtime(hf), e) + ".weight");
    }
    return all_.emplace_back(std::move(spec));
  }

  /// Gate, up and down [d_ff, d] of gated experts, by their hf names; or gate over up in one tensor and down in
  /// another, as transformers 5 and newer GGUF files have them.
  void add_gated_experts(const std::array<std::string_view, 3>& hf, int64_t count, int64_t d_ff, int64_t d) {
    constexpr std::array<std::string_view, 3> kGguf = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};
    for (size_t i = 0; i < 3; ++i) {
      const bool down = i == 2;
      TensorSpec& spec = add_experts(kGguf[i], hf[i], count, down ? Shape{d, d_ff} : Shape{d_ff, d});
      spec.hf_stacked = fmt::format("{}mlp.experts.{}_proj", hf_prefix_, down ? "down" : "gate_up");
      if (down) continue;
      spec.gguf_stacked = fmt::format("{}ffn_gate_up_exps.weight", gguf_prefix_);
      spec.part = static_cast<int64_t>(i);
      spec.parts = 2;
    }
  }

  /// The output matrix; absent: tied to token_embd.
  TensorSpec& add_output(std::string_view hf, Shape weight, Bias bias = Bias::none) {
    TensorSpec& spec = add("output", hf, weight, {.bias = bias});
    spec.required = false;
    if (bias != Bias::none) all_.back().required = false;
    return spec;
  }

  /// One that Hugging Face does not store.
  TensorSpec& add_derived(std::string_view gguf, Shape shape) {
    return all_.emplace_back(TensorSpec{.gguf = std::string(gguf), .hf = {}, .shape = shape, .required = false});
  }

  std::vector<TensorSpec> take() { return std::move(all_); }

 private:
  std::string gguf_prefix_, hf_prefix_;
  std::vector<TensorSpec> all_;
};

}  // namespace weft
