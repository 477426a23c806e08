// The halves of a layer with LayerNorm, as most of GPT's kin have them, written with the fused ops over tensors of
// GGUF's names: attn_norm, attn_qkv or attn_q, attn_k, attn_v, attn_output; ffn_norm, ffn_up, ffn_gate where it is
// gated, ffn_down. Biases are there or not; norms without weight have a gain of ones.
#pragma once

#include <string>
#include <string_view>

#include "models/blocks.h"

namespace weft {

/// norm(x) by the tensors NAME.weight and NAME.bias; a gain of ones where there is no NAME.weight.
Value normed(Forward& f, Value x, const DecoderKeys& keys, const std::string& name);

struct Attended {
  Value out;   // [T, D] the output projection, its bias not added yet
  Value norm;  // [T, D] what queries, keys and values were projected from
};

/// Attention over norm(x), x [T, D]. Where the layer has attn_q_norm and attn_k_norm, each query and key head goes
/// through LayerNorm before it turns: gamma [d_head] or [heads, d_head], beta [d_head] or none.
Attended norm_attention(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& plan,
                        std::string_view norm_name = "attn_norm");

/// What an MLP's output is added to.
enum class Residual : uint8_t {
  sum,   // what its norm reads
  norm,  // what its norm gives: post-norm layers
};

/// s = x + attention, its bias included; s or ffn_norm(s), plus MLP(ffn_norm(s)). -> [T, D]
Value sequential_mlp(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys,
                     Residual residual = Residual::sum);
/// x + attention + MLP(h) -> [T, D]
Value parallel_mlp(Forward& f, int64_t layer, Value x, Value attention, Value h, const DecoderKeys& keys);

}  // namespace weft
