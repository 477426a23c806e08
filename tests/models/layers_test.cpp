#include "models/layers.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/models/rig.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

/// q, k and v of a layer one after the other, in their place.
void stack_qkv(TinyModel& model, int layer, std::string_view kind) {
  const auto name = [&](std::string_view part) { return fmt::format("blk.{}.attn_{}.{}", layer, part, kind); };
  const Tensor parts[] = {model.at(name("q")), model.at(name("k")), model.at(name("v"))};
  Shape shape = parts[0].type.shape;
  shape.set(0, parts[0].dim(0) + parts[1].dim(0) + parts[2].dim(0));
  model.set(name("qkv"), {quant::f32, shape}, 1);
  std::byte* to = model.at(name("qkv")).data;
  for (const Tensor& part : parts) {
    std::memcpy(to, part.data, part.type.bytes());
    to += part.type.bytes();
  }
  for (const char* part : {"q", "k", "v"}) model.drop(name(part));
}

TEST(Layers, QkvMayBeStacked) {
  const auto ids = random_ids(12, 61, 1);
  const auto apart = tiny_model({.architecture = "phi2"}), stacked = tiny_model({.architecture = "phi2"});
  for (const int layer : {0, 1}) {
    for (const char* kind : {"weight", "bias"}) stack_qkv(*stacked, layer, kind);
  }
  EXPECT_LE(difference(Rig(stacked).logits(ids), Rig(apart).logits(ids)), 1e-6);
  const auto torn = tiny_model({.architecture = "phi2"});
  torn->drop("blk.1.attn_k.weight");
  EXPECT_THROW(Model{torn}, Error) << "neither apart nor stacked";
}

}  // namespace
}  // namespace weft
