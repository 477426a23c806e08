// A graph with its inputs at hand, for tests of single ops: the expected values of an op are a few lines.
#pragma once

#include <gtest/gtest.h>

#include <random>

#include "ops/check.h"
#include "tests/support/evaluate.h"

namespace weft::testing {

/// "" if nothing was thrown, else the message of the Error.
template <typename F>
std::string error_of(F&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

#define EXPECT_ERROR(statement, part) EXPECT_THAT_CONTAINS(::weft::testing::error_of([&] { (void)(statement); }), part)
#define EXPECT_THAT_CONTAINS(text, part)                                                        \
  do {                                                                                          \
    const std::string message = text;                                                           \
    EXPECT_NE(message.find(part), std::string::npos) << "the message is \"" << message << "\""; \
  } while (false)

class OpGraph {
 public:
  Graph graph;
  Feeds feeds;
  States states;
  Live live;

  Value f32(Shape shape, const std::vector<float>& values, Rows rows = Rows::all) {
    return input(f32_type(shape, rows), bytes_of(values));
  }
  Value i32(Shape shape, const std::vector<int32_t>& values, Rows rows = Rows::all) {
    return input(i32_type(shape, rows), bytes_of(values));
  }
  /// Normally distributed, the same in every run.
  Value random(Shape shape, float scale = 1, Rows rows = Rows::all) {
    return f32(shape, random_values(shape.elements(), scale), rows);
  }
  std::vector<float> random_values(int64_t n, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = normal(generator_);
    return values;
  }
  Value input(TensorType type, std::vector<std::byte> bytes) {
    const std::string label = fmt::format("in{}", feeds.size());
    feeds[label] = std::move(bytes);
    return graph.input(label, type);
  }

  /// All elements of each value, ids as f32.
  std::vector<std::vector<float>> run(std::vector<Value> values) {
    for (const Value& value : values) graph.output(fmt::format("out{}", n_outputs_++), value);
    const Outputs outputs = evaluate(graph, feeds, states, live);
    std::vector<std::vector<float>> results;
    for (size_t i = n_outputs_ - values.size(); i < n_outputs_; ++i) {
      results.push_back(outputs.at(fmt::format("out{}", i)).values());
    }
    return results;
  }
  std::vector<float> run(Value value) { return run(std::vector{value})[0]; }

 private:
  size_t n_outputs_ = 0;
  std::mt19937 generator_{1};
};

/// Every element within `tolerance` of the largest |expected|, or of 1 if that is less.
inline void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double tolerance = 1e-6) {
  ASSERT_EQ(got.size(), expected.size());
  double scale = 1;
  for (const float value : expected) scale = std::max(scale, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], tolerance * scale) << "element " << i;
}

}  // namespace weft::testing
