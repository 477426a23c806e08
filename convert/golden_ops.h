// Golden files of the fused ops (one case a file; ../shared/ops.md says what they hold) as graphs to run: what to feed,
// step by step, and what must come out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "convert/safetensors.h"
#include "graph/graph.h"

namespace weft {

class GoldenCase {
 public:
  struct Feed {
    std::string input;
    std::vector<std::byte> bytes;  // leading rows of the input
  };
  struct Expected {
    std::string output;
    std::vector<float> values;  // leading rows of the output; ids are held as f32 too
  };
  /// One run of the graph with `tokens` rows live. State carries over to the next.
  struct Step {
    int tokens = 0;
    std::vector<Feed> feeds;
    std::vector<Expected> expected;
  };

  /// Throws Error, the path in front, if the file is not a case of an op of weft.
  explicit GoldenCase(const std::string& path);

  const std::string& name() const { return name_; }  // "qkv_gemm.rms.bias.0"
  const std::string& op() const { return op_; }
  const std::vector<Step>& steps() const { return steps_; }

  /// Writes the op, its inputs, weights, states and outputs into an empty graph. The weights are views of the case.
  void build(Graph& graph) const;

 private:
  void load();
  void load_softmax_context();
  void build_softmax_context(Graph& graph) const;
  std::vector<std::string> parts_of(std::string_view name) const;

  const Tensor& tensor(const std::string& name) const;

  std::shared_ptr<const SafetensorsFile> file_;
  std::map<std::string, LoadedTensor, std::less<>> tensors_;
  std::string name_, op_, attrs_;
  std::vector<Step> steps_;
};

/// The cases of a folder, by name.
std::vector<std::string> golden_files(const std::string& folder);

/// Largest |got - expected| as a share of the largest |expected|; infinite if anything is not finite.
double golden_error(const TensorType& type, const std::byte* got, const GoldenCase::Expected& expected);

}  // namespace weft
