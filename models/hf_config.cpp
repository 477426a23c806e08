#include "models/hf_config.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace weft {
namespace {

/// Fields of any architecture's config.json that say nothing of the forward pass: training, generation, bookkeeping.
constexpr std::string_view kHarmless =
    " architectures model_type transformers_version torch_dtype dtype auto_map use_cache name_or_path "
    "bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id "
    "decoder_start_token_id eod_token_id tokenizer_class tie_encoder_decoder initializer_range init_std "
    "initializer_cutoff_factor layerdrop router_aux_loss_coef router_jitter_noise output_router_logits "
    "gradient_checkpointing pretraining_tp slow_but_exact skip_bias_add skip_bias_add_qkv "
    "masked_softmax_fusion pad_key_length offset_alibi seq_length attention_softmax_in_fp32 "
    "scale_attention_softmax_in_fp32 inference_runner validate_runner_input pre_allocate_kv_cache "
    "max_sequence_length max_batch_size unk_index training_precision n_ctx task_specific_params prefix "
    "id2label label2id num_labels problem_type finetuning_task return_dict return_dict_in_generate "
    "output_attentions output_hidden_states output_scores torchscript is_encoder_decoder is_decoder "
    "chunk_size_feed_forward use_bfloat16 max_length min_length do_sample early_stopping num_beams "
    "num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty "
    "length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences "
    "forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty "
    "suppress_tokens begin_suppress_tokens cross_attention_hidden_size tf_legacy_loss "
    "attn_implementation cache_implementation hybrid_kv_cache summary_type summary_use_proj "
    "summary_activation summary_proj_to_labels summary_first_dropout classifier_dropout "
    "reorder_and_upcast_attn use_flash_attention unsloth_fixed unsloth_version eos_token bos_token "
    "model_max_length trust_remote_code ";

bool is_harmless(std::string_view name) {
  if (name.starts_with('_')) return true;
  if (name.find("dropout") != name.npos || name.find("_pdrop") != name.npos) return true;
  const std::string_view object = name.substr(0, name.find('.'));  // "id2label.0"
  return kHarmless.find(fmt::format(" {} ", object)) != kHarmless.npos;
}

bool is_off(const MetaValue& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return !*flag;
  if (const auto* array = std::get_if<MetaArray>(&value)) {
    return std::visit([](const auto& items) { return items.empty(); }, *array);
  }
  return false;
}

}  // namespace

bool HfConfig::has(std::string_view name) const { return fields_.has(note(name)); }

bool HfConfig::has_any(std::string_view prefix) const {
  return std::ranges::any_of(fields_.entries(), [&](const auto& entry) { return entry.first.starts_with(prefix); });
}

/// The first that is there, else the first. All count as asked for.
std::string_view HfConfig::spelling(const FieldNames& names) const {
  std::string_view found;
  for (const std::string_view name : names) {
    if (has(name) && found.empty()) found = name;
  }
  return found.empty() ? *names.begin() : found;
}

std::string_view HfConfig::required(const FieldNames& names) const {
  const std::string_view name = spelling(names);
  require(fields_.has(name), "field {} is missing", fmt::join(names, " or "));
  return name;
}

int64_t HfConfig::integer(const FieldNames& names) const { return fields_.integer(required(names)); }
int64_t HfConfig::integer(const FieldNames& names, int64_t otherwise) const {
  return fields_.integer(spelling(names), otherwise);
}
double HfConfig::real(const FieldNames& names) const { return fields_.real(required(names)); }
double HfConfig::real(const FieldNames& names, double otherwise) const {
  return fields_.real(spelling(names), otherwise);
}
bool HfConfig::boolean(const FieldNames& names, bool otherwise) const {
  return fields_.boolean(spelling(names), otherwise);
}
const std::string& HfConfig::text(const FieldNames& names) const { return fields_.text(required(names)); }
std::string HfConfig::text(const FieldNames& names, std::string_view otherwise) const {
  return fields_.text(spelling(names), otherwise);
}
std::vector<std::string> HfConfig::texts(std::string_view name) const {
  if (!has(name)) return {};
  const bool empty = is_off(*fields_.find(name));  // an empty list has no type
  return empty ? std::vector<std::string>() : fields_.texts(name);
}
std::vector<int64_t> HfConfig::integers(std::string_view name) const {
  return has(name) ? fields_.integers(name) : std::vector<int64_t>();
}
std::vector<double> HfConfig::reals(std::string_view name) const {
  return has(name) ? fields_.reals(name) : std::vector<double>();
}

void HfConfig::require_off(const FieldNames& names) const {
  for (const std::string_view name : names) {
    if (!has(name)) continue;
    const MetaValue& value = *fields_.find(name);
    const bool zero = !std::holds_alternative<bool>(value) && !std::holds_alternative<std::string>(value) &&
                      !std::holds_alternative<MetaArray>(value) && fields_.real(name) == 0;
    require(is_off(value) || zero, "{} = {} is not supported", name, to_string(value));
  }
}

void HfConfig::require_value(std::string_view name, double expected) const {
  if (!has(name)) return;
  require(fields_.real(name) == expected, "{} = {} is not supported", name, to_string(*fields_.find(name)));
}

void HfConfig::require_value(std::string_view name, std::string_view expected) const {
  require(text(name, expected) == expected, "{} = {} is not supported", name, text(name, expected));
}

void HfConfig::refuse_unread() const {
  for (const auto& [name, value] : fields_.entries()) {
    if (read_.contains(name) || is_off(value) || is_harmless(name)) continue;
    fail("{} = {} is not understood for model_type {}; if it does not change the model, take it out of config.json",
         name, to_string(value), fields_.text("model_type", "?"));
  }
}

}  // namespace weft
