// Building blocks that several architectures share. They take values and options, never an architecture's name for
// anything but the prefix of its metadata keys.
#pragma once

#include <optional>
#include <string_view>

#include "models/decoder_keys.h"
#include "models/forward.h"
#include "models/metadata.h"
#include "models/tensor_list.h"
#include "ops/activation.h"
#include "ops/moe_route.h"

namespace weft {

/// config.json's hidden_act / activation_function. Throws Error on a name it does not know.
Activation activation_from_hf(std::string_view name);
/// The gated form of a plain activation.
Activation gated(Activation activation);

/// ARCH.vocab_size, or the number of tokens of the vocabulary.
int64_t vocabulary_size(const Metadata& metadata, std::string_view arch);

/// decoder_keys_from_hf, and what the families have that rotate whole heads of queries that may share keys: kv heads,
/// head dimension, rotary embedding. `d_head`: where config.json says nothing; 0: the width over the heads.
KeyWriter rotary_decoder_keys_from_hf(const HfConfig& config, std::string_view arch, const DecoderDefaults& defaults,
                                      int64_t d_head = 0);

// -- tensors of a layer, under the names that most families give them in Hugging Face ---------------------------------

/// attn_q, attn_k, attn_v, attn_output from self_attn.q_proj and so on; with biases where the file has them.
void list_attention(TensorList& list, const DecoderKeys& keys, Transform q_and_k = Transform::none);
/// ffn_gate, ffn_up, ffn_down from mlp.gate_proj and so on; with biases where the file has them.
void list_gated_mlp(TensorList& list, const DecoderKeys& keys);
/// ffn_gate_inp, ffn_gate_exps, ffn_up_exps, ffn_down_exps from mlp.gate and mlp.experts.N.gate_proj and so on.
void list_experts(TensorList& list, const DecoderKeys& keys, const ExpertKeys& experts);

// -- layers -----------------------------------------------------------------------------------------------------------

/// x plus a bias that may be absent.
Value biased(Value x, Value bias);

/// softmax_context as a model's keys say it, for all its layers.
struct AttentionPlan {
  SoftmaxContext op;
  Value rope_factors{};
};
/// Of longrope's two sets of factors a session whose sequences may be longer than the original context takes the long
/// one: keys are cached after rotation, so one choice holds for all of a sequence.
AttentionPlan rotary_attention(Forward& f, const DecoderKeys& keys, Rotary style);

/// qkv [T, ...] -> attention -> attn_output, [T, D], without its bias. Reads attn_q_norm, attn_k_norm and attn_sinks
/// where a layer has them.
Value attend(Forward& f, int64_t layer, Value qkv, const AttentionPlan& attention);
/// The same of the residual stream x [T, D], through RMSNorm (attn_norm) and attn_q, attn_k, attn_v or attn_qkv.
Value rms_attention(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& attention);

/// ffn_up and ffn_gate of a layer as row blocks: two tensors, or ffn_up alone with the rows of gate before those of up.
Forward::RowBlocks up_and_gate(Forward& f, int64_t layer, const DecoderKeys& keys);
/// The residual stream after the gated MLP of a pre-norm layer: x, the layer's input, and what attention gave. Reads
/// ffn_norm, ffn_up, ffn_gate, ffn_down.
Value rms_gated_mlp(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys);

/// The residual stream after a layer whose halves are normalized before and after: x + post_attention_norm(attention(
/// attn_norm(x))), then as much of the gated MLP with ffn_norm and post_ffw_norm.
Value rms_sandwich_layer(Forward& f, int64_t layer, Value x, const DecoderKeys& keys, const AttentionPlan& attention);

struct Experts {
  std::optional<Gating> gating = {};  // none: softmax first, by ExpertKeys::weights_norm
  Activation activation = Activation::gated_silu;
  std::string_view norm = "ffn_norm";
};
/// The residual stream after the experts of a pre-norm layer, and a shared one (ffn_*_shexp) that the sigmoid of
/// ffn_gate_inp_shexp scales where the layer has it. Reads ffn_gate_inp, ffn_gate_exps, ffn_up_exps, ffn_down_exps.
Value rms_experts(Forward& f, int64_t layer, Value x, Value attention, const DecoderKeys& keys,
                  const ExpertKeys& experts, const Experts& options);

/// cap tanh(x / cap); x itself where cap is 0.
Value soft_capped(Value x, float cap);

}  // namespace weft
