#include "models/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/blocks.h"

namespace weft {
namespace {

/// rope_parameters (transformers 5) or rope_scaling (4).
std::string prefix_of(const HfConfig& config) {
  return config.has_any("rope_parameters.") ? "rope_parameters." : "rope_scaling.";
}

std::string type_of(const HfConfig& config) {
  const std::string prefix = prefix_of(config);
  return config.text(prefix + "rope_type", config.text(prefix + "type", "default"));
}

double theta_of(const HfConfig& config) {
  return config.real(prefix_of(config) + "rope_theta", config.real("rope_theta", 10000.0));
}

/// Before so many factors are made.
void check_rotary_dim(int64_t rotary_dim) {
  require(rotary_dim >= 0 && rotary_dim <= 1 << 16, "the rotary dimension is {}", rotary_dim);
}

}  // namespace

void rope_from_hf(const HfConfig& config, KeyWriter& out) {
  const std::string prefix = prefix_of(config), type = type_of(config);
  out.real("rope.freq_base", theta_of(config));
  if (type == "default" || type == "llama3") return;
  require(type == "linear" || type == "yarn", "rope_type {} is not supported", type);
  out.text("rope.scaling.type", type);
  out.real("rope.scaling.factor", config.real(prefix + "factor"));
  if (type == "linear") return;
  const std::string original = prefix + "original_max_position_embeddings";
  out.size("rope.scaling.original_context_length", config.integer({original, "max_position_embeddings"}));
  for (const std::string name : {"beta_fast", "beta_slow", "attention_factor"}) {
    if (!config.has(prefix + name)) continue;
    out.real(name == "attention_factor" ? "rope.scaling.attn_factor" : "rope.scaling.yarn_" + name,
             config.real(prefix + name));
  }
  require(config.boolean(prefix + "truncate", true), "{}truncate = false is not supported", prefix);
}

void rotary_dim_from_hf(const HfConfig& config, const FieldNames& fields, double otherwise, KeyWriter& out) {
  const double part = config.real(fields, otherwise);
  require(part > 0 && part <= 1, "{} is {}, expected up to 1", *fields.begin(), part);
  out.size("rope.dimension_count", static_cast<int64_t>(static_cast<double>(head_dim_of(config)) * part));
}

RopeScaling rope_scaling(const Metadata& metadata, std::string_view arch, int64_t rotary_dim, double theta) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.rope.scaling.{}", arch, name); };
  const std::string type = metadata.text(key("type"), "none");
  check_rotary_dim(rotary_dim);
  const auto pairs = static_cast<size_t>(rotary_dim / 2);
  RopeScaling scaling;
  if (type == "none") {
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
  const double low = std::max(0.0, std::floor(pair_of(metadata.real(key("yarn_beta_fast"), 32.0))));
  double high =
      std::min(static_cast<double>(rotary_dim - 1), std::ceil(pair_of(metadata.real(key("yarn_beta_slow"), 1.0))));
  if (high == low) high += 0.001;
  for (size_t i = 0; i < pairs; ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    scaling.factors.push_back(static_cast<float>(1.0 / (stretched / factor + (1 - stretched))));
  }
  const double natural = factor <= 1 ? 1.0 : 0.1 * std::log(factor) + 1;
  scaling.attn_scale = static_cast<float>(metadata.real(key("attn_factor"), natural));
  return scaling;
}

std::vector<float> llama3_factors(const HfConfig& config, int64_t rotary_dim) {
  if (type_of(config) != "llama3") return {};
  check_rotary_dim(rotary_dim);
  const std::string prefix = prefix_of(config);
  const double theta = theta_of(config), factor = config.real(prefix + "factor");
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

std::vector<DerivedTensor> rope_freqs_from_hf(const HfConfig& config, int64_t rotary_dim) {
  std::vector<float> factors = llama3_factors(config, rotary_dim);
  if (factors.empty()) return {};
  return {{"rope_freqs.weight", std::move(factors)}};
}

}  // namespace weft
