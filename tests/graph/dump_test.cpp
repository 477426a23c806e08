// Dumps: what a reader of WEFT_DUMP=graph sees. Names, attributes, types and fallbacks must all be there.
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "tests/support/gpt_graph.h"
#include "tests/support/op_fixture.h"

namespace weft {
namespace {

TEST(Dump, TextNamesEverything) {
  Graph graph;
  const std::vector<float> ones(6, 1);
  const Value x = graph.input("x", f32_type({4, 2}, Rows::tokens));
  const Value w =
      graph.weight("head.weight", {f32_type({3, 2}), reinterpret_cast<std::byte*>(const_cast<float*>(ones.data()))});
  neg(x);  // dead: not shown
  const Graph::Scope scope(graph, "head");
  const Value h = graph.add(LayerNorm{.eps = 0.5f}, {x, graph.input("gamma", f32_type({2})), {}})[0];
  graph.output("y", linear(h, {w, w}, {}));
  EXPECT_EQ(dump_text(graph),
            "# head\n"
            "%4 = layer_norm(x=$x, gamma=$gamma) {eps=0.5} : f32[T=4, 2]\n"
            "%5 = linear(x=%4, weight=head.weight|head.weight) : f32[T=4, 6]\n"
            "output y = %5\n");
}

TEST(Dump, LoweredNodesSayFromWhat) {
  Graph graph;
  const Value x = graph.input("x", f32_type({1}));
  {
    const Graph::Lowering lowering(graph, schema_of<LayerNorm>(), 0, true);
    graph.output("y", neg(x));
  }
  EXPECT_THAT_CONTAINS(dump_text(graph), "%1 = neg(x=$x) : f32[1]   <- layer_norm lowered\n");
  EXPECT_THAT_CONTAINS(dump_dot(graph), "style=dashed");
}

TEST(Dump, DotHasANodeForEachLiveNodeAndState) {
  const testing::GptGraph gpt;
  const std::string dot = dump_dot(gpt.graph);
  EXPECT_TRUE(dot.starts_with("digraph weft {")) << dot;
  EXPECT_TRUE(dot.ends_with("}\n"));
  EXPECT_THAT_CONTAINS(dot, "qkv_gemm\\nblk.1");
  EXPECT_THAT_CONTAINS(dot, "@k_cache.0");
  EXPECT_EQ(dot.find("token_embd"), std::string::npos) << "weights would drown the picture";
}

}  // namespace
}  // namespace weft
