// Stretched rotary embeddings: how a model's frequencies are divided, and its attention scaled, for longer contexts.
// Sources: linear: Chen et al., arXiv:2306.15595; yarn: Peng et al., arXiv:2309.00071; longrope: Ding et al.,
// arXiv:2402.13753; llama3: the Llama 3.1 release; parameter names as in Hugging Face transformers' rope_parameters and
// in GGUF's rope.scaling keys.
#pragma once

#include <string_view>
#include <vector>

#include "models/decoder_keys.h"
#include "models/tensor_list.h"

namespace weft {

struct RopeScaling {
  std::vector<float> factors;  // [rotary_dim / 2] frequencies are divided by these; empty: none
  float attn_scale = 1;        // cos and sin are multiplied by it
};

/// What a family's config.json means where it says nothing.
struct RopeDefaults {
  double theta = 10000;
  bool yarn_truncate = true;     // whether yarn's ramp begins and ends at whole pairs; GGUF says so only by weft's own
                                 // key rope.scaling.yarn_truncate, where it departs from this
  int64_t original_context = 0;  // 0: max_position_embeddings
};

/// theta and ARCH.rope.scaling.* from config.json, in the spellings of transformers 4 and 5; of settings by layer type,
/// those of full_attention. Factors that llama3 and longrope ask for are tensors: see rope_factor_tensors. Throws
/// Error, naming it, on a type weft does not know.
void rope_from_hf(const HfConfig& config, KeyWriter& out, const RopeDefaults& defaults = {});

/// ARCH.rope.dimension_count: the part of a head that rotates, by whichever of `fields` is there.
void rotary_dim_from_hf(const HfConfig& config, const FieldNames& fields, double otherwise, KeyWriter& out);

/// For families whose heads rotate whole: Throws Error if config.json says otherwise.
void require_whole_heads_rotate(const HfConfig& config);

/// From ARCH.rope.scaling.*. The factors of longrope are tensors.
RopeScaling rope_scaling(const Metadata& metadata, std::string_view arch, int64_t rotary_dim, double theta,
                         bool yarn_truncate = true);

/// The tokens up to which longrope's short factors hold for a sequence; 0 if the model has no two sets of them.
int64_t longrope_context(const Metadata& metadata, bool has_factors);

/// The tensors that config.json implies: rope_freqs of llama3, rope_factors_long and rope_factors_short of longrope.
std::vector<DerivedTensor> rope_factor_tensors(const HfConfig& config, int64_t rotary_dim);
/// Lists them, all optional.
void list_rope_factors(TensorList& list, int64_t rotary_dim);

/// The tensor rope_freqs of a Llama 3 config, or nothing if it asks for no such scaling.
std::vector<float> llama3_factors(const HfConfig& config, int64_t rotary_dim);

}  // namespace weft
