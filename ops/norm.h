// The two normalizations of the GPT layer.
#pragma once

#include "ops/enums.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"

namespace weft {

enum class NormKind : uint8_t { layer, rms };

inline constexpr EnumNames<NormKind, 2> kNormKinds = {{{NormKind::layer, "layer"}, {NormKind::rms, "rms"}}};
inline std::string_view to_string(NormKind kind) { return enum_name(kNormKinds, kind); }
inline NormKind parse_norm_kind(std::string_view text) { return parse_enum(kNormKinds, "norm", text); }

/// LayerNorm, or RMSNorm (which has no beta), over the last dimension.
inline Value norm(NormKind kind, Value x, Value gamma, Value beta, float eps) {
  return kind == NormKind::layer ? layer_norm(x, gamma, beta, eps) : rms_norm(x, gamma, eps);
}

}  // namespace weft
