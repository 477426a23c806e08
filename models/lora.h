// Low-rank adapters: y = x W^T becomes y = x W^T + (x A^T) B^T for the weights W that an adapter names.
// Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/checkpoint.h"

namespace weft {

class Graph;
class Model;

/// The change to one weight, f32, in the layout of the GGUF tensor: a [r, in] and b [out, r], of experts [n, r, in] and
/// [n, out, r]. b has the adapter's scale in it.
struct LoraPair {
  std::string tensor;  // GGUF name
  LoadedTensor a, b;
};

struct LoraAdapter {
  std::string path;
  std::vector<LoraPair> pairs;  // one a tensor
};

/// Throws Error unless the pair has the shapes that a weight of this type asks for.
void check_lora(const LoraPair& pair, const TensorType& weight);

/// The graph with model.adapters() applied where the weights are used. Ops that use an adapted weight are lowered until
/// the matmul that reads it shows, which gets two small ones beside it; the others stay. Throws Error if a weight is
/// used in any other way.
std::unique_ptr<Graph> with_adapters(const Graph& graph, const Model& model);

}  // namespace weft
