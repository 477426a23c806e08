// A model family: its metadata keys, its tensors' names and shapes in GGUF and Hugging Face, and its maths, in one file
// (gpt2.cpp) and one line in all.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "models/hf_config.h"
#include "models/metadata.h"

namespace weft {

class Forward;

/// How a Hugging Face tensor becomes the GGUF one.
enum class Transform : uint8_t {
  none,
  transpose,     // GPT-2's Conv1D stores [in, out]
  rotary_pairs,  // rows of a head from (i, i + d / 2) pairs to (2i, 2i + 1): Llama's q and k
  add_one,       // vectors, in f32: Gemma stores the gains of its norms less 1
  split_qkv,     // rows by kv head, [its q heads, k, v][d], to [q heads | k heads | v heads][d]: NeoX, BLOOM, Falcon
  // gpt-oss: [experts, out, in] from columns part, part + parts, ... of [experts, in, parts * out]; or from such rows
  // of NAME_blocks and NAME_scales: mxfp4 as Hugging Face packs it
  expert_columns,
  expert_rows,  // [experts, out, in] from rows [part out, (part + 1) out) of each matrix of [experts, parts * out, in]
  every_nth,    // elements part, part + parts, ... of each row: the biases that go with them
};

struct TensorSpec {
  std::string gguf;             // "blk.0.attn_qkv.weight"
  std::vector<std::string> hf;  // "h.0.attn.c_attn.weight"; a prefix of the model class may stand before it in the
                                // file. Several: experts, stacked along a new leading dimension. None: only GGUF has it
  Shape shape;                  // in GGUF form: weights [out, in]
  Transform transform = Transform::none;
  int64_t heads = 0;            // that rotary_pairs and split_qkv are about
  int64_t kv_heads = 0;         // of split_qkv
  int64_t part = 0, parts = 1;  // that expert_columns, expert_rows and every_nth are about
  bool required = true;
  std::string hf_otherwise =
      {};  // read where `hf` is not there: a tied matrix that other GGUF programs want written out
  // Experts that a file has stacked with others of theirs, as expert_rows says: read where the name of their own is not
  // there.
  std::string hf_stacked = {};    // "mlp.experts.gate_up_proj": transformers 5
  std::string gguf_stacked = {};  // "blk.0.ffn_gate_up_exps.weight"
  std::string unless = {};        // not required where a GGUF file has this one in its place: q, k and v stacked
};

/// A tensor that config.json implies: Llama 3's rope factors.
struct DerivedTensor {
  std::string gguf;
  std::vector<float> values;
};

/// What the runtime around a model needs to know of it.
struct ModelShape {
  int64_t context_length = 0;  // tokens
  int64_t n_layer = 0;
  int64_t n_vocab = 0;
  int64_t n_kv_head = 0;
  int64_t d_head = 0;
};

struct Architecture {
  std::string_view name;                         // general.architecture
  std::vector<std::string_view> hf_model_types;  // config.json's model_type
  std::string_view hf_prefix;                    // "transformer.": may or may not stand before the hf names

  /// config.json to GGUF keys. Every field that changes the maths is honoured or refused by name: see
  /// HfConfig::refuse_unread.
  Metadata (*from_hf)(const HfConfig& config);
  /// Tensors that config.json only implies. Null: none.
  std::vector<DerivedTensor> (*derived_from_hf)(const HfConfig& config);
  ModelShape (*shape)(const Metadata& metadata);
  /// Every tensor of a file with this metadata, in file order.
  std::vector<TensorSpec> (*tensors)(const Metadata& metadata);
  /// Writes the graph of one step and returns the logits [L, vocab].
  Value (*forward)(Forward& step);
};

/// The architectures of this build.
std::span<const Architecture* const> architectures();
/// Throws Error naming what is supported.
const Architecture& find_architecture(std::string_view name);
const Architecture& find_hf_architecture(std::string_view model_type);

}  // namespace weft
