// What `--type` names: a type for every matrix, or a mix that gives some of them another.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "models/checkpoint.h"

namespace weft {

/// Which layers a rule is about.
enum class Layers : uint8_t {
  all,
  first_2,
  first_4,
  first_sixteenth,
  first_eighth,
  more_bits,  // the first and last eighth, and every third between
  shared_kv,  // all, if 4 or more heads share a key and value: these are small then
};

/// "attn_v", layers, type: the tensors blk.N.attn_v.weight of these layers get the type. Experts' tensors
/// ("ffn_down_exps") go by the name without the suffix.
struct MixRule {
  std::string_view tensor;
  Layers layers = Layers::all;
  const TypeTraits* type = nullptr;
};

struct TypeMix {
  std::string_view name;               // "q4_K_M"
  uint32_t file_type = 0;              // general.file_type
  const TypeTraits* base = nullptr;    // of every matrix that nothing below names
  const TypeTraits* output = nullptr;  // of the output matrix: output.weight, or token_embd.weight where they are one
  std::array<MixRule, 6> rules = {};   // the first that fits; empty ones at the end
};

/// Whatever the case of the letters. Throws Error naming what there is, or that weft cannot write the type.
const TypeMix& find_mix(std::string_view name);

/// What the mixes ask of a model.
struct MixModel {
  explicit MixModel(const Checkpoint& source);

  int64_t n_layer = 0, n_expert = 0;
  int64_t heads_per_kv = 1;
  bool tied_output = false;
};

/// The type of a matrix.
DType type_in(const TypeMix& mix, std::string_view tensor, const MixModel& model);

/// The type for rows that no block of `type` divides, of about as many bits; f16 if the rows are odd to that, too.
DType fallback_for(DType type, int64_t columns);

/// Norms, biases, position embeddings, routers, sinks: f32 in every GGUF file, and small.
bool stays_f32(std::string_view tensor, const TensorType& type);

}  // namespace weft
