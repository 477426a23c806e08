// Configurations that no golden folder has. The expected logits are those of Hugging Face transformers 4.45.2 in
// float64 for the same weights, made from the tensors' names. (Falcon's ALiBi as its default, scaled-dot-product form
// has it; Phi's head norms as from version 5 on, before which they failed.)
#include <gtest/gtest.h>

#include "convert/convert.h"
#include "convert/gguf_reader.h"
#include "convert/hf_checkpoint.h"
#include "tests/models/rig.h"
#include "tests/support/hf_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

struct Variant {
  const char* name;
  const char* config;
  std::vector<std::string_view> absent;  // parts of the names of tensors that the class does not have then
  std::vector<float> logits;             // the first of the last token
};

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"gpt_bigcode_by_head",
       R"({"model_type": "gpt_bigcode", "vocab_size": 17, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions":
         20, "multi_query": false, "n_inner": 20})",
       {},
       {-1.373276f, -0.6505191f, -1.694163f, 0.8559164f, 1.523468f, -0.2590873f}},
      {"gpt_neo_local",
       R"({"model_type": "gpt_neo", "vocab_size": 17, "hidden_size": 24, "num_layers": 2, "num_heads": 3,
         "max_position_embeddings": 20, "attention_types": [[["local", "global"], 1]], "window_size": 3})",
       {},
       {0.5517967f, -0.3468395f, -0.7066501f, -0.5789215f, 2.327655f, -0.2570517f}},
      {"opt_post_norm_projected",
       R"({"model_type": "opt", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "ffn_dim": 20, "do_layer_norm_before": false,
         "word_embed_proj_dim": 10})",
       {},
       {0.255615f, -0.2868579f, 0.925581f, -0.7410592f, -0.2256011f, -1.407776f}},
      {"opt_plain_norms_no_biases",
       R"({"model_type": "opt", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "ffn_dim": 20, "enable_bias": false,
         "layer_norm_elementwise_affine": false, "activation_function": "gelu"})",
       {".bias"},
       {-0.6536128f, -0.9510202f, -0.4370549f, -2.225441f, 2.859006f, -1.481724f}},
      {"opt_no_final_norm",
       R"({"model_type": "opt", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "ffn_dim": 20, "_remove_final_layer_norm":
         true, "word_embed_proj_dim": 30})",
       {},
       {-7.456211f, 4.532965f, -3.931476f, -10.5092f, -1.146313f, -1.076942f}},
      {"bloom_post_norm_residual",
       R"({"model_type": "bloom", "vocab_size": 17, "hidden_size": 24, "n_layer": 2, "n_head": 6,
         "apply_residual_connection_post_layernorm": true})",
       {},
       {-1.249303f, -0.5181772f, -0.203529f, 0.7792837f, 0.008991146f, 0.7210717f}},
      {"falcon_two_norms",
       R"({"model_type": "falcon", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "new_decoder_architecture": true,
         "num_kv_heads": 2})",
       {"input_layernorm", "value.bias", "dense.bias", "4h.bias", "to_h.bias"},
       {-1.874558f, 0.5615657f, -0.2568871f, -0.3591582f, -0.211943f, -0.4561888f}},
      {"falcon_one_norm",
       R"({"model_type": "falcon", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "new_decoder_architecture": true,
         "num_kv_heads": 2, "num_ln_in_parallel_attn": 1, "bias": true, "rope_theta": 500.0})",
       {"ln_attn"},
       {-0.648353f, 0.1885327f, 0.3108131f, 0.8572571f, 1.12509f, 0.09552957f}},
      {"falcon_rw",
       R"({"model_type": "falcon", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "multi_query": false, "parallel_attn": false,
         "bias": true, "alibi": true, "ffn_hidden_size": 20})",
       {"ln_attn"},
       {-0.6259484f, 0.124139f, -0.6425486f, 0.4466953f, -0.4604507f, -1.221721f}},
      {"phi_head_norms",
       R"({"model_type": "phi", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "num_key_value_heads": 2,
         "intermediate_size": 20, "qk_layernorm": true, "partial_rotary_factor": 0.67})",
       {},
       {1.036277f, -1.629958f, -0.7099028f, 2.094972f, 1.163712f, 0.7801527f}},
      {"starcoder2_window",
       R"({"model_type": "starcoder2", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "num_key_value_heads": 2,
         "intermediate_size": 20, "use_bias": false, "sliding_window": 3, "norm_epsilon": 0.01})",
       {"proj.bias", "c_fc.bias"},
       {-1.975701f, 1.496548f, 0.97659f, -0.5740121f, 0.6009891f, -1.437685f}},
      {"stablelm_parallel_head_norms",
       R"({"model_type": "stablelm", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "num_key_value_heads": 2,
         "intermediate_size": 20, "use_parallel_residual": true, "qk_layernorm": true, "partial_rotary_factor":
         0.34})",
       {"_proj.bias"},
       {0.3043301f, 0.05896307f, -0.1957944f, 0.1776167f, -1.428713f, 1.249728f}},
      {"stablelm_qkv_bias",
       R"({"model_type": "stablelm", "vocab_size": 17, "hidden_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 20, "num_key_value_heads": 1,
         "intermediate_size": 20, "use_qkv_bias": true, "partial_rotary_factor": 0.67})",
       {},
       {0.02921351f, -0.9587136f, 0.08516454f, -2.093543f, -0.07289873f, -2.146169f}},
  };
  return all;
}

/// Sets the values that the tensor of this name has here.
void fill(const NamedTensor& named) {
  uint64_t state = 1469598103934665603u;
  for (const char c : named.name) state = (state ^ static_cast<uint8_t>(c)) * 1099511628211u;
  const Shape& shape = named.tensor.type.shape;
  for (int64_t i = 0; i < shape.elements(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    double value = static_cast<double>(state >> 40) / 16777216 - 0.5;
    if (shape.rank() > 1) value *= 4 / std::sqrt(static_cast<double>(shape.columns()));
    else value = (named.name.ends_with("weight") ? 1 : 0) + value / 2;
    named.tensor.as<float>()[i] = static_cast<float>(value);
  }
}

/// Gives the folder the tensors that its class has in this configuration.
void write_variant(const Variant& variant, HfFolder& folder) {
  const HfConfig config(flatten_json(variant.config, "config.json"));
  const Architecture& architecture = find_hf_architecture(config.text("model_type"));
  const bool tied = architecture.name != "phi2" && architecture.name != "stablelm";
  const auto is_absent = [&](std::string_view name) {
    return (tied && name.starts_with("lm_head")) ||
           std::ranges::any_of(variant.absent, [&](auto part) { return name.find(part) != name.npos; });
  };
  folder.tensors().clear();
  for (const TensorSpec& spec : architecture.tensors(architecture.from_hf(config))) {
    for (std::string name : spec.hf) {
      if (is_absent(name)) name = spec.hf_otherwise;
      if (name.empty()) continue;
      if (!name.starts_with("lm_head")) name.insert(0, architecture.hf_prefix);
      folder.add(name, spec.hf.size() > 1 ? Shape(spec.shape.dims().subspan(1)) : spec.shape);
    }
  }
  for (const NamedTensor& tensor : folder.tensors()) fill(tensor);
  folder.write();
}

class Variants : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(All, Variants, ::testing::ValuesIn(variants()),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(Variants, LogitsAreThoseOfHuggingFace) {
  const Variant& variant = GetParam();
  HfFolder folder{variant.config};
  write_variant(variant, folder);
  const auto checkpoint = std::make_shared<HfCheckpoint>(folder.path());
  write_gguf(*checkpoint, plan_conversion(*checkpoint, {}), folder.file("out.gguf"));
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 16, 0, 7};
  for (const std::string backend : {"ref", "cpu"}) {
    Rig rig(checkpoint, Rig::exact(backend));
    Rig of_gguf(std::make_shared<GgufFile>(folder.file("out.gguf")), Rig::exact(backend));
    EXPECT_EQ(of_gguf.logits(ids), rig.logits(ids)) << backend;
    for (const size_t chunk : {ids.size(), size_t{4}}) {
      const std::vector<float> logits = rig.logits(ids, chunk);
      ASSERT_EQ(logits.size(), ids.size() * 17);
      for (size_t i = 0; i < variant.logits.size(); ++i) {
        EXPECT_NEAR(logits[(ids.size() - 1) * 17 + i], variant.logits[i], 2e-5) << backend << ", by " << chunk;
      }
    }
  }
}

}  // namespace
}  // namespace weft
