// Importance matrix: how much each column of a weight matters, as the mean square of what is multiplied with it while
// the model reads a text. Encoders weigh their errors by it. Source: the idea of llama.cpp's imatrix.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/observer.h"

namespace weft {

class ImportanceMatrix {
 public:
  /// Sums of squares of one matrix, or of each matrix of a stack of experts.
  struct Entry {
    std::vector<float> sums;    // [n_matrices * columns]
    std::vector<float> counts;  // rows seen, [n_matrices], or [1] for all alike
  };

  /// Adds rows [n, columns] that matrix `index` of `count` was multiplied with. Throws Error if the sizes change.
  void add(const std::string& weight, std::span<const float> rows, size_t columns, size_t index, size_t count);
  void set(const std::string& weight, Entry entry) { entries_[weight] = std::move(entry); }

  /// By the weight's GGUF name.
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  /// Mean squares of a weight's columns, [n_matrices * columns]; an expert that saw no row gets ones. Empty if the
  /// weight is not there. Throws Error if there are not `columns` of each of `matrices`.
  std::vector<float> means(std::string_view weight, size_t columns, size_t matrices) const;

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

/// Fills a matrix while a session runs. The session must run lowered (SessionOptions::fallback), so that every product
/// with a weight is a step of its own. Products of wanted rows only, that is with the output matrix, are left out: too
/// few rows to judge it by.
class ImportanceObserver final : public StepObserver {
 public:
  explicit ImportanceObserver(ImportanceMatrix& matrix) : matrix_(matrix) {}
  void before(const StepView& step) override;

 private:
  ImportanceMatrix& matrix_;
};

}  // namespace weft
