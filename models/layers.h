// Layers written with the fused ops over tensors of GGUF's names: attn_norm, attn_qkv or attn_q, attn_k, attn_v,
// attn_output; ffn_norm, ffn_up, ffn_gate where it is gated, ffn_down. Norms are those of DecoderKeys::norm. Biases are
// there or not; norms without weight have a gain of ones. They take values and options, never an architecture's name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "models/decoder_keys.h"
#include "models/forward.h"
#include "ops/moe_route.h"

namespace weft {

/// norm(x) by the tensors NAME.weight and NAME.bias; a gain of ones where there is no NAME.weight.
Value normed(Forward& f, Value x, const DecoderKeys& keys, const std::string& name);
/// x plus a bias that may be absent.
Value biased(Value x, Value bias);
/// cap tanh(x / cap); x itself where cap is 0.
Value soft_capped(Value x, float cap);

// -- attention --------------------------------------------------------------------------------------------------------

/// softmax_context as a model's keys say it, for all its layers.
struct AttentionPlan {
  SoftmaxContext op;
  Value rope_factors{};
};
/// Of longrope's two sets of factors it takes the one that Forward::stretched asks for.
AttentionPlan rotary_attention(Forward& f, const DecoderKeys& keys, Rotary style);

/// qkv [T, ...] -> attention -> attn_output, [T, D], without its bias. Reads attn_sinks, attn_q_norm and attn_k_norm
/// where a layer has them: RMSNorm of each head or of the row of heads, or LayerNorm of each head with gamma [d_head]
/// or [heads, d_head] and beta [d_head] or none.
Value attend(Forward& f, int64_t layer, Value qkv, const DecoderKeys& keys, const AttentionPlan& plan);

struct Attended {
  Value out;   // [T, D] the output projection, its bias not added yet
  Value norm;  // [T, D] what queries, keys and values were projected from
};
/// The same of the residual stream x [T, D], through its norm and the projections to q, k and v.
Attended norm_attention(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& plan,
                        std::string_view norm_name = "attn_norm");

// -- the second half --------------------------------------------------------------------------------------------------

/// The first matrix of an MLP: ffn_up and ffn_gate where there is a gate, or ffn_up of twice d_ff rows, those of gate
/// before those of up; else ffn_up alone.
struct MlpBlocks {
  Activation activation;
  Forward::RowBlocks in;
};
MlpBlocks mlp_blocks(Forward& f, int64_t layer, const DecoderKeys& keys);

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

/// A layer whose halves are normalized before and after: x + post_attention_norm(attention(attn_norm(x))), then as much
/// of the MLP with ffn_norm and post_ffw_norm.
Value sandwich_layer(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& plan);

struct Experts {
  std::optional<Gating> gating = {};  // none: softmax first, by ExpertKeys::weights_norm
  Activation activation = Activation::gated_silu;
  std::string_view norm = "ffn_norm";
};
/// As sequential_mlp, of experts: ffn_gate_inp, ffn_gate_exps, ffn_up_exps, ffn_down_exps; and a shared one
/// (ffn_*_shexp) that the sigmoid of ffn_gate_inp_shexp scales where the layer has it.
Value sequential_experts(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys,
                         const ExpertKeys& experts, const Experts& options);

}  // namespace weft
