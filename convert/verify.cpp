#include "convert/verify.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "models/session/hard_strings.h"
#include "models/session/philox.h"
#include "models/session/tokenizer.h"

namespace weft {
namespace {

constexpr size_t kTokens = 512;  // to compare the models on

std::optional<Tokenizer> tokenizer_of(const Model& model) {
  auto spec = TokenizerSpec::from_metadata(model.metadata());
  if (!spec) return {};
  return Tokenizer(std::move(*spec));
}

/// The ids of a text and the text they give, or why there are none.
struct RoundTrip {
  RoundTrip(const Tokenizer& tokenizer, std::string_view from) {
    try {
      ids = tokenizer.encode(from);
      text = tokenizer.decode(ids);
    } catch (const Error& error) {
      text = error.what();
    }
  }
  bool operator==(const RoundTrip&) const = default;
  std::vector<int32_t> ids;
  std::string text;
};

/// The hard strings one after another, or, without a vocabulary, ids drawn at random.
std::vector<int32_t> tokens_to_compare(const Tokenizer* tokenizer, int64_t n_vocab) {
  std::vector<int32_t> ids;
  if (tokenizer != nullptr) {
    for (const std::string_view text : hard_strings()) {
      for (const int32_t id : RoundTrip(*tokenizer, text).ids) {
        if (id >= 0 && id < n_vocab) ids.push_back(id);
      }
    }
    if (ids.size() > kTokens) ids.resize(kTokens);
  }
  for (uint64_t i = 0; ids.size() < kTokens / 4; ++i) {
    ids.push_back(static_cast<int32_t>(philox_uniform(1, i) * static_cast<double>(n_vocab)));
  }
  return ids;
}

}  // namespace

double kl_bound_of(DType type) {
  static constexpr std::array<std::pair<std::string_view, double>, 16> kBounds = {{{"f32", 1e-6},
                                                                                   {"f16", 1e-3},
                                                                                   {"bf16", 1e-3},
                                                                                   {"q8_0", 4e-3},
                                                                                   {"q6_K", 0.016},
                                                                                   {"q5_K", 0.032},
                                                                                   {"q5_1", 0.04},
                                                                                   {"q5_0", 0.05},
                                                                                   {"q4_K", 0.1},
                                                                                   {"iq4_nl", 0.1},
                                                                                   {"iq4_xs", 0.11},
                                                                                   {"q4_1", 0.2},
                                                                                   {"q4_0", 0.2},
                                                                                   {"mxfp4", 0.3},
                                                                                   {"q3_K", 0.4},
                                                                                   {"q2_K", 1.5}}};
  for (const auto& [name, bound] : kBounds) {
    if (name == type.name()) return bound;
  }
  return kBounds.back().second;
}

Verification verify_conversion(std::shared_ptr<const Checkpoint> source, std::shared_ptr<const Checkpoint> result,
                               Runtime& runtime, const std::string& backend, double kl_bound) {
  const Model before(std::move(source)), after(std::move(result));
  Verification verification;
  verification.kl_bound = kl_bound >= 0 ? kl_bound : kl_bound_of(after.main_type());
  const auto tokenizer = tokenizer_of(before), converted = tokenizer_of(after);
  if (tokenizer.has_value() != converted.has_value()) {
    verification.disagreements.emplace_back("only one of the two has a vocabulary");
  } else if (tokenizer) {
    for (const std::string_view text : hard_strings()) {
      ++verification.strings;
      if (RoundTrip(*tokenizer, text) != RoundTrip(*converted, text)) verification.disagreements.emplace_back(text);
    }
  }
  const auto ids = tokens_to_compare(tokenizer ? &*tokenizer : nullptr, before.shape().n_vocab);
  verification.comparison = compare_models(before, after, runtime, backend, ids);
  verification.tokens = verification.comparison.kl.tokens();
  return verification;
}

}  // namespace weft
