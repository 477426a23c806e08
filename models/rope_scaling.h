// Stretched rotary embeddings: how a model's frequencies are divided, and its attention scaled, for longer contexts.
// Sources: linear: Chen et al., arXiv:2306.15595; yarn: Peng et al., arXiv:2309.00071; llama3: the Llama 3.1 release;
// parameter names as in Hugging Face transformers' rope_parameters and in GGUF's rope.scaling keys.
#pragma once

#include <string_view>
#include <vector>

#include "models/decoder_keys.h"

namespace weft {

struct RopeScaling {
  std::vector<float> factors;  // [rotary_dim / 2] frequencies are divided by these; empty: none
  float attn_scale = 1;        // cos and sin are multiplied by it
};

/// theta and ARCH.rope.scaling.* from config.json, in the spellings of transformers 4 and 5. llama3's factors are a
/// tensor in GGUF: see llama3_factors. Throws Error, naming it, on a type weft does not know.
void rope_from_hf(const HfConfig& config, KeyWriter& out);

/// ARCH.rope.dimension_count: the part of a head that rotates, by whichever of `fields` is there.
void rotary_dim_from_hf(const HfConfig& config, const FieldNames& fields, double otherwise, KeyWriter& out);

/// From ARCH.rope.scaling.*.
RopeScaling rope_scaling(const Metadata& metadata, std::string_view arch, int64_t rotary_dim, double theta);

/// The tensor rope_freqs of a Llama 3 config, or nothing if it asks for no such scaling.
std::vector<float> llama3_factors(const HfConfig& config, int64_t rotary_dim);
/// The same as an architecture's derived tensor.
std::vector<DerivedTensor> rope_freqs_from_hf(const HfConfig& config, int64_t rotary_dim);

}  // namespace weft
