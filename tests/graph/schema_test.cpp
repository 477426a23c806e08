// make_schema: what an op struct says is what the rest of weft hears, and what it leaves out has a sensible default.
#include "graph/schema.h"

#include "ops/check.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

enum class Mood : uint8_t { calm, wild };
std::string_view to_string(Mood mood) { return mood == Mood::calm ? "calm" : "wild"; }

struct Plain {
  static constexpr std::string_view name = "plain", doc = "A primitive with a field of every kind.";
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  float scale = 0.1f;
  int n = 3;
  bool flag = true;
  Mood mood = Mood::wild;
  std::string label = "l";
  std::vector<int64_t> dims = {1, 2};
  DType dtype = quant::f32;
  static constexpr auto fields = field_list(
      field("scale", &Plain::scale), field("n", &Plain::n), field("flag", &Plain::flag), field("mood", &Plain::mood),
      field("label", &Plain::label), field("dims", &Plain::dims), field("dtype", &Plain::dtype));
  std::vector<TensorType> infer(const Types& in) const { return {in[0]}; }
};

struct Rich {
  static constexpr std::string_view name = "rich", doc = "A composite with its own cost.";
  static constexpr std::array inputs = {one("x")};
  static constexpr std::array outputs = {OutputSpec{"y"}};
  static constexpr bool foldable = false;
  static constexpr auto fields = field_list();
  std::vector<TensorType> infer(const Types& in) const { return {in[0]}; }
  std::vector<Value> lower(const Values& in) const { return {in[0]}; }
  Cost cost(const Types&, const std::vector<TensorType>&, const Workload&) const { return {.flops = 42}; }
};

TEST(Schema, AttributesPrintEveryField) {
  const Plain op;
  EXPECT_EQ(schema_of<Plain>().attributes(&op),
            "scale=0.1, n=3, flag=true, mood=wild, label=l, dims=[1, 2], dtype=f32");
  const Rich rich;
  EXPECT_EQ(schema_of<Rich>().attributes(&rich), "");
}

TEST(Schema, LowerMakesAComposite) {
  EXPECT_TRUE(schema_of<Plain>().primitive());
  EXPECT_TRUE(schema_of<Plain>().foldable);
  EXPECT_FALSE(schema_of<Rich>().primitive());
  EXPECT_FALSE(schema_of<Rich>().foldable);
}

TEST(Schema, CostIsTheOpsOwnOrStreaming) {
  const Rich rich;
  EXPECT_EQ(schema_of<Rich>().cost(&rich, {}, {}, {}).flops, 42);
  const Plain plain;
  const TensorType x = f32_type({8, 5}, Rows::tokens);
  const Cost cost = schema_of<Plain>().cost(&plain, Types{x}, {x}, Workload{.tokens = 2});
  EXPECT_EQ(cost.activation_bytes, 2 * 2 * 5 * 4);  // only live rows, in and out
  EXPECT_EQ(cost.flops, 2 * 5);
}

TEST(Schema, OneSchemaAnOp) { EXPECT_EQ(&schema_of<Plain>(), &schema_of<Plain>()); }

TEST(Cost, RowsBeyondTheCapacityAreNotCounted) {
  EXPECT_EQ(live_rows(f32_type({4, 2}, Rows::tokens), Workload{.tokens = 9}), 4);
  EXPECT_EQ(live_rows(f32_type({4, 2}, Rows::logits), Workload{.tokens = 9, .logits = 3}), 3);
  EXPECT_EQ(live_rows(f32_type({4, 2}), Workload{}), 4);
  EXPECT_EQ(live_bytes(f32_type({0, 2}, Rows::tokens), Workload{}), 0);
}

}  // namespace
}  // namespace weft
