#include "models/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace weft {
namespace {

/// rope_parameters (transformers 5), of full_attention where they are by layer type, or rope_scaling (4).
std::string prefix_of(const HfConfig& config) {
  for (const char* prefix : {"rope_parameters.full_attention.", "rope_parameters."}) {
    if (config.has_any(prefix)) return prefix;
  }
  return "rope_scaling.";
}

/// "su" is what longrope was called at first, as was "yarn" for a while: it has lists of factors.
std::string type_of(const HfConfig& config) {
  const std::string prefix = prefix_of(config);
  const std::string type = config.text(prefix + "rope_type", config.text(prefix + "type", "default"));
  const bool longrope = type == "su" || (type == "yarn" && config.has_any(prefix + "long_factor"));
  return longrope ? "longrope" : type;
}

double theta_of(const HfConfig& config, double otherwise) {
  return config.real(prefix_of(config) + "rope_theta", config.real("rope_theta", otherwise));
}

/// The context that the model was trained for before it was stretched, tokens.
int64_t original_context(const HfConfig& config, const RopeDefaults& defaults) {
  constexpr const char* kField = "original_max_position_embeddings";  // outside rope_parameters it goes first
  const int64_t otherwise = defaults.original_context;
  const int64_t stated = config.integer({kField, prefix_of(config) + kField}, otherwise);
  return stated > 0 ? stated : config.integer("max_position_embeddings");
}

/// `factor`, or by how much the context was stretched where the original one is stated.
double factor_of(const HfConfig& config, const RopeDefaults& defaults, int64_t original) {
  constexpr const char* kOriginal = "original_max_position_embeddings";
  const std::string field = prefix_of(config) + "factor";
  const bool stated =
      defaults.original_context > 0 || config.has(kOriginal) || config.has(prefix_of(config) + kOriginal);
  if (config.has(field) || !stated) return config.real(field);
  return static_cast<double>(config.integer("max_position_embeddings")) / static_cast<double>(original);
}

/// The attention factor that the YaRN paper suggests for a factor.
double yarn_attention_factor(double factor, double mscale = 1) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1;
}

/// In GGUF attn_factor multiplies what yarn suggests; in config.json attention_factor replaces it.
void yarn_from_hf(const HfConfig& config, KeyWriter& out, const RopeDefaults& defaults) {
  const std::string prefix = prefix_of(config);
  const int64_t original = original_context(config, defaults);
  const double factor = factor_of(config, defaults, original);
  out.real("rope.scaling.factor", factor);
  out.size("rope.scaling.original_context_length", original);
  for (const std::string name : {"beta_fast", "beta_slow"}) {
    const double rotations = config.real(prefix + name, 0);
    if (rotations != 0) out.real("rope.scaling.yarn_" + name, rotations);
  }
  const double mscale = config.real(prefix + "mscale", 0), mscale_all_dim = config.real(prefix + "mscale_all_dim", 0);
  const double suggested = yarn_attention_factor(factor);
  double wanted = suggested;
  if (mscale != 0 && mscale_all_dim != 0) {
    wanted = yarn_attention_factor(factor, mscale) / yarn_attention_factor(factor, mscale_all_dim);
  }
  wanted = config.real(prefix + "attention_factor", wanted);
  if (wanted != suggested) out.real("rope.scaling.attn_factor", wanted / suggested);
  const bool truncate = config.boolean(prefix + "truncate", true);
  if (truncate != defaults.yarn_truncate) out.flag("rope.scaling.yarn_truncate", truncate);
  config.has(prefix + "finetuned");  // says how the model came about
}

/// No rope.scaling.factor: other programs would divide all frequencies by it.
void longrope_from_hf(const HfConfig& config, KeyWriter& out, const RopeDefaults& defaults) {
  const int64_t original = original_context(config, defaults);
  out.size("rope.scaling.original_context_length", original);
  const double factor = factor_of(config, defaults, original);
  const double suggested =
      factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original)));
  out.real("rope.scaling.attn_factor", config.real(prefix_of(config) + "attention_factor", suggested));
}

/// Before so many factors are made.
void check_rotary_dim(int64_t rotary_dim) {
  require(rotary_dim >= 0 && rotary_dim <= 1 << 16, "the rotary dimension is {}", rotary_dim);
}

}  // namespace

void rope_from_hf(const HfConfig& config, KeyWriter& out, const RopeDefaults& defaults) {
  const std::string type = type_of(config);
  out.real("rope.freq_base", theta_of(config, defaults.theta));
  if (type == "default" || type == "llama3") return;
  require(type == "linear" || type == "yarn" || type == "longrope", "rope_type {} is not supported", type);
  out.text("rope.scaling.type", type);
  if (type == "linear") out.real("rope.scaling.factor", config.real(prefix_of(config) + "factor"));
  if (type == "yarn") yarn_from_hf(config, out, defaults);
  if (type == "longrope") longrope_from_hf(config, out, defaults);
}

void rotary_dim_from_hf(const HfConfig& config, const FieldNames& fields, double otherwise, KeyWriter& out) {
  const double part = config.real(fields, otherwise);
  require(part > 0 && part <= 1, "{} is {}, expected up to 1", *fields.begin(), part);
  out.size("rope.dimension_count", static_cast<int64_t>(static_cast<double>(head_dim_of(config)) * part));
}

void require_whole_heads_rotate(const HfConfig& config) {
  config.require_value("partial_rotary_factor", 1);
  config.require_value(prefix_of(config) + "partial_rotary_factor", 1);
}

RopeScaling rope_scaling(const Metadata& metadata, std::string_view arch, int64_t rotary_dim, double theta,
                         bool yarn_truncate) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.rope.scaling.{}", arch, name); };
  const std::string type = metadata.text(key("type"), "none");
  check_rotary_dim(rotary_dim);
  const auto pairs = static_cast<size_t>(rotary_dim / 2);
  RopeScaling scaling;
  const double attn_factor = metadata.real(key("attn_factor"), 1.0);
  require(std::isfinite(attn_factor) && attn_factor > 0, "{} is {}", key("attn_factor"), attn_factor);
  if (type != "yarn") scaling.attn_scale = static_cast<float>(attn_factor);
  if (type == "none" || type == "longrope") {
    const double linear = metadata.real(fmt::format("{}.rope.scale_linear", arch), 1.0);  // old files
    if (linear != 1.0) scaling.factors.assign(pairs, static_cast<float>(linear));
    return scaling;
  }
  const double factor = metadata.real(key("factor"));
  require(std::isfinite(factor) && factor > 0, "{} is {}", key("factor"), factor);
  if (type == "linear") {
    scaling.factors.assign(pairs, static_cast<float>(factor));
    return scaling;
  }
  require(type == "yarn", "{} {} is not supported", key("type"), type);
  const double original = metadata.real(key("original_context_length"));
  // The pair that turns `rotations` times over the original context.
  const auto pair_of = [&](double rotations) {
    return static_cast<double>(rotary_dim) * std::log(original / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  double low = pair_of(metadata.real(key("yarn_beta_fast"), 32.0));
  double high = pair_of(metadata.real(key("yarn_beta_slow"), 1.0));
  if (metadata.boolean(key("yarn_truncate"), yarn_truncate)) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary_dim - 1));
  if (high == low) high += 0.001;
  for (size_t i = 0; i < pairs; ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    scaling.factors.push_back(static_cast<float>(1.0 / (stretched / factor + (1 - stretched))));
  }
  scaling.attn_scale = static_cast<float>(yarn_attention_factor(factor) * attn_factor);
  return scaling;
}

int64_t longrope_context(const Metadata& metadata, bool has_factors) {
  if (!has_factors) return 0;
  const std::string key = metadata.text("general.architecture") + ".rope.scaling.original_context_length";
  const int64_t context = metadata.integer(key);
  require(context > 0, "{} is {}", key, context);
  return context;
}

std::vector<float> llama3_factors(const HfConfig& config, int64_t rotary_dim) {
  if (type_of(config) != "llama3") return {};
  check_rotary_dim(rotary_dim);
  const std::string prefix = prefix_of(config);
  const double theta = theta_of(config, 10000), factor = config.real(prefix + "factor");
  const double low = config.real(prefix + "low_freq_factor", 1), high = config.real(prefix + "high_freq_factor", 4);
  const double original = config.real(prefix + "original_max_position_embeddings", 8192);
  require(high > low && factor > 0, "{}: low_freq_factor {}, high_freq_factor {}, factor {}", prefix, low, high,
          factor);
  std::vector<float> factors;
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    double by = 1;
    if (wavelength > original / low) {
      by = factor;
    } else if (wavelength > original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      by = 1 / ((1 - smooth) / factor + smooth);
    }
    factors.push_back(static_cast<float>(by));
  }
  return factors;
}

std::vector<DerivedTensor> rope_factor_tensors(const HfConfig& config, int64_t rotary_dim) {
  check_rotary_dim(rotary_dim);
  if (std::vector<float> factors = llama3_factors(config, rotary_dim); !factors.empty()) {
    return {{"rope_freqs.weight", std::move(factors)}};
  }
  std::vector<DerivedTensor> tensors;
  if (type_of(config) != "longrope") return tensors;
  for (const std::string name : {"long", "short"}) {
    const std::string field = fmt::format("{}{}_factor", prefix_of(config), name);
    const std::vector<double> factors = config.reals(field);
    require(static_cast<int64_t>(factors.size()) == rotary_dim / 2, "{} has {} factors, {} pairs rotate", field,
            factors.size(), rotary_dim / 2);
    tensors.push_back({fmt::format("rope_factors_{}.weight", name), {factors.begin(), factors.end()}});
  }
  return tensors;
}

void list_rope_factors(TensorList& list, int64_t rotary_dim) {
  for (const char* name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}) {
    list.add_derived(name, {rotary_dim / 2});
  }
}

}  // namespace weft
