#include "models/session/compare.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "models/session/session.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

/// The number of a layer's scope, "blk.7" and what is within; -1 of another scope.
int64_t layer_of(std::string_view scope) {
  if (!scope.starts_with("blk.")) return -1;
  scope.remove_prefix(4);
  int64_t layer = -1;
  std::from_chars(scope.data(), scope.data() + scope.size(), layer);
  return layer;
}

/// Keeps what each layer hands on: the last f32 [T, D] of its scope.
class LayerOutputs final : public StepObserver {
 public:
  void after(const StepView& step) override {
    const Graph& graph = *step.match.graph;
    const Node& node = step.match.last();
    const int64_t layer = layer_of(graph.scope_name(node));
    const TensorType& type = node.out[0];
    if (layer < 0 || type.dtype != DType(quant::f32) || type.shape.rank() != 2 || !step.match.wants(0)) return;
    const auto bytes = step.bytes({const_cast<Graph*>(&graph), step.match.nodes.back(), 0});
    if (rows.size() <= static_cast<size_t>(layer)) rows.resize(static_cast<size_t>(layer) + 1);
    std::vector<float>& kept = rows[static_cast<size_t>(layer)];
    kept.resize(static_cast<size_t>(live_rows(type, step.live) * type.shape[1]));
    std::memcpy(kept.data(), bytes.data(), kept.size() * sizeof(float));
  }
  std::vector<std::vector<float>> rows;  // by layer
};

struct Side {
  Side(const Model& model, Runtime& runtime, const std::string& backend, int64_t n)
      : session(model, runtime,
                {.backend = backend,
                 .precision = Precision::exact,
                 .kv_type = {},
                 .context = std::min<int64_t>(n, model.shape().context_length),
                 .place = {},
                 .observer = &layers}),
        sequence(session.open_sequence()) {}
  LayerOutputs layers;
  Session session;
  int sequence;
};

}  // namespace

Comparison compare_models(const Model& base, const Model& other, Runtime& runtime, const std::string& backend,
                          std::span<const int32_t> ids) {
  const ModelShape &a = base.shape(), &b = other.shape();
  require(a.n_vocab == b.n_vocab && a.n_layer == b.n_layer, "{} has {} layers and a vocabulary of {}, {} has {} and {}",
          base.path(), a.n_layer, a.n_vocab, other.path(), b.n_layer, b.n_vocab);
  require(!ids.empty(), "there are no tokens to compare the models on");
  ids = ids.first(std::min(ids.size(), static_cast<size_t>(std::min(a.context_length, b.context_length))));
  const auto n = static_cast<int64_t>(ids.size());
  Side left(base, runtime, backend, n), right(other, runtime, backend, n);
  const auto layers = static_cast<size_t>(a.n_layer), n_vocab = static_cast<size_t>(a.n_vocab);
  std::vector<double> squares(layers), differences(layers);
  std::vector<float> p(n_vocab), q(n_vocab);
  Comparison result;
  constexpr size_t kChunk = 64;  // tokens; bounds the logits held
  for (size_t at = 0; at < ids.size(); at += kChunk) {
    const auto chunk = ids.subspan(at, std::min(kChunk, ids.size() - at));
    const Feed left_feed{left.sequence, chunk, true}, right_feed{right.sequence, chunk, true};
    const auto left_logits = left.session.step({&left_feed, 1});
    const auto right_logits = right.session.step({&right_feed, 1});
    for (size_t t = 0; t < chunk.size(); ++t) {
      log_softmax(left_logits.subspan(t * n_vocab, n_vocab), p);
      log_softmax(right_logits.subspan(t * n_vocab, n_vocab), q);
      result.kl.add(p, q);
    }
    require(left.layers.rows.size() == layers && right.layers.rows.size() == layers,
            "{}: the layers' outputs could not be seen", other.path());
    for (size_t layer = 0; layer < layers; ++layer) {
      const auto &x = left.layers.rows[layer], &y = right.layers.rows[layer];
      require(x.size() == y.size(), "layer {} of {} is {} wide, of {} {}", layer, base.path(), x.size() / chunk.size(),
              other.path(), y.size() / chunk.size());
      for (size_t i = 0; i < x.size(); ++i) {
        squares[layer] += static_cast<double>(x[i]) * x[i];
        differences[layer] += (static_cast<double>(y[i]) - x[i]) * (static_cast<double>(y[i]) - x[i]);
      }
    }
  }
  for (size_t layer = 0; layer < layers; ++layer) {
    result.layer_error.push_back(squares[layer] > 0 ? std::sqrt(differences[layer] / squares[layer]) : 0);
  }
  return result;
}

}  // namespace weft
