// What several architectures read and list alike: keys of config.json, tensors of a layer. Their layers are in
// layers.h.
#pragma once

#include <string_view>

#include "models/decoder_keys.h"
#include "models/metadata.h"
#include "models/tensor_list.h"
#include "ops/activation.h"

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

// Tensors of a layer, under the names that most families give them in Hugging Face.

/// attn_q, attn_k, attn_v, attn_output from self_attn.q_proj and so on; with biases where the file has them.
void list_attention(TensorList& list, const DecoderKeys& keys, Transform q_and_k = Transform::none);
/// ffn_gate, ffn_up, ffn_down from mlp.gate_proj and so on; with biases where the file has them.
void list_gated_mlp(TensorList& list, const DecoderKeys& keys);
/// ffn_gate_inp, ffn_gate_exps, ffn_up_exps, ffn_down_exps from mlp.gate and mlp.experts.N.gate_proj and so on.
void list_experts(TensorList& list, const DecoderKeys& keys, const ExpertKeys& experts);

}  // namespace weft
