// WeightStore: one copy per (tensor, layout, device), shared by every plan; a second copy of a model is out of memory.
#include "graph/weight_store.h"

#include "ops/vector_matmul.h"
#include "tests/support/op_fixture.h"
#include "tests/support/plan_check.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

/// Rows of each tile of 4 in reverse, the last tile as far as it goes.
constexpr Layout kReversed = {.name = "reversed",
                              .bytes = [](const TensorType& type) { return type.bytes(); },
                              .pack =
                                  [](const Tensor& source, std::byte* packed, int64_t first, int64_t last) {
                                    const size_t row = source.type.row_bytes();
                                    for (int64_t tile = first; tile < last; tile += 4) {
                                      const int64_t end = std::min(tile + 4, source.type.shape.rows());
                                      for (int64_t r = tile; r < std::min(end, last); ++r) {
                                        std::memcpy(packed + static_cast<size_t>(tile + end - 1 - r) * row,
                                                    source.data + static_cast<size_t>(r) * row, row);
                                      }
                                    }
                                  },
                              .tile_rows = 4};

class WeightStoreTest : public ::testing::Test {
 protected:
  std::vector<float> values = [] {
    std::vector<float> all(11 * 2);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(i);
    return all;
  }();
  Tensor host{f32_type({11, 2}), reinterpret_cast<std::byte*>(values.data()), nullptr};
  std::unique_ptr<TestBackend> backend = test_backend(2);
  Device first{backend.get(), 0}, second{backend.get(), 1};
};

TEST_F(WeightStoreTest, OneCopyForEachTensorLayoutAndDevice) {
  WeightStore store;
  const Tensor plain = store.get(host, first, nullptr), packed = store.get(host, first, &kReversed);
  const Tensor elsewhere = store.get(host, second, nullptr);
  EXPECT_EQ(store.get(host, first, nullptr).data, plain.data);
  EXPECT_EQ(store.get(host, first, &kReversed).data, packed.data);
  EXPECT_EQ((std::set<std::byte*>{host.data, plain.data, packed.data, elsewhere.data}).size(), 4u);
  EXPECT_EQ(packed.layout, &kReversed);
  EXPECT_EQ(plain.layout, nullptr);
  EXPECT_EQ(store.owned_bytes(), 3 * host.type.bytes());
  EXPECT_EQ(backend->used[0], 2 * host.type.bytes());
}

TEST_F(WeightStoreTest, AHostDeviceUsesTheMappedFile) {
  DeviceInfo info = test_device("host");
  info.host_memory = true;
  TestBackend on_host({info});
  WeightStore store;
  EXPECT_EQ(store.get(host, {&on_host, 0}, nullptr).data, host.data);
  EXPECT_EQ(store.owned_bytes(), 0u);
}

TEST_F(WeightStoreTest, WhatWasCopiedIsReleasedUnlessItIsReadInPlace) {
  DeviceInfo info = test_device("host");
  info.host_memory = true;
  TestBackend on_host({info});
  WeightStore store;
  store.get(host, first, nullptr);
  store.get(host, first, nullptr);
  EXPECT_EQ(backend->sources_released, std::vector<const std::byte*>{host.data}) << "once, after the upload";
  store.get(host, {&on_host, 0}, nullptr);
  store.get(host, second, nullptr);
  store.get(host, {&on_host, 0}, &kReversed);
  EXPECT_EQ(backend->sources_released.size(), 1u);
  EXPECT_TRUE(on_host.sources_released.empty()) << "a host device reads it mapped";
}

TEST_F(WeightStoreTest, PackingIsTheWholeTensorInTiles) {
  WeightStore store;
  const float* rows = store.get(host, first, &kReversed).as<float>();
  const int expected[] = {3, 2, 1, 0, 7, 6, 5, 4, 10, 9, 8};
  for (int r = 0; r < 11; ++r) EXPECT_EQ(rows[2 * r], values[static_cast<size_t>(2 * expected[r])]) << "row " << r;
}

TEST_F(WeightStoreTest, AFailedUploadLeavesNothingBehind) {
  TestBackend tiny({test_device("tiny", 10)});
  WeightStore store;
  EXPECT_ERROR(store.get(host, {&tiny, 0}, nullptr), "no memory for 88 bytes");
  EXPECT_ERROR(store.get(host, {&tiny, 0}, nullptr), "no memory for 88 bytes");
  EXPECT_EQ(store.owned_bytes(), 0u);
}

TEST_F(WeightStoreTest, AKernelGetsTheLayoutItAskedFor) {
  Kernel kernel = TestBackend::kernel("vector_matmul.reversed", {"vector_matmul"}, [](const Call& call) {
    const Tensor w = call.inputs(VectorMatmul::kWeight)[0], x = call.input(VectorMatmul::kX);
    ASSERT_EQ(w.layout, &kReversed);
    ASSERT_EQ(x.layout, nullptr) << "activations are not packed";
    for (int64_t n = 0; n < 11; ++n) {
      const int64_t tile = n / 4 * 4, end = std::min<int64_t>(tile + 4, 11), r = tile + end - 1 - n;
      const float* row = w.as<float>() + 2 * r;
      call.out[0].as<float>()[n] = row[0] * x.as<float>()[0] + row[1] * x.as<float>()[1];
    }
  });
  kernel.layout = [](const Match&, size_t, size_t slot, const TensorType&) -> const Layout* {
    return slot == VectorMatmul::kWeight ? &kReversed : nullptr;
  };
  const auto packing = test_backend(1, {kernel});
  Graph graph;
  graph.output("y", vector_matmul(graph.input("x", f32_type({1, 2})), {graph.weight("w", host)}));
  Runtime runtime(Env{}, {});
  Memory memory;
  for (int i = 0; i < 2; ++i) {  // the second plan finds the copy of the first
    Runner runner(compile(graph, devices_of(*packing)), runtime, memory);
    runner.write("x", std::span<const float>(std::vector<float>{1, 10}));
    runner.run({});
    const auto y = read(runner, "y");
    for (size_t n = 0; n < 11; ++n) EXPECT_EQ(y[n], values[2 * n] + 10 * values[2 * n + 1]);
    EXPECT_EQ(memory.weights.owned_bytes(), host.type.bytes());
  }
}

TEST(StateStore, IsZeroAtFirstAndKeepsItsTypeAndPlace) {
  const auto backend = test_backend(2);
  StateStore states;
  const Device first{backend.get(), 0}, second{backend.get(), 1};
  EXPECT_EQ(states.where("k").backend, nullptr);
  const Tensor k = states.get("k", f32_type({3}), first);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(k.as<float>()[i], 0);
  EXPECT_EQ(states.get("k", f32_type({3}), first).data, k.data);
  EXPECT_EQ(states.where("k").index, 0);
  EXPECT_EQ(states.bytes(), 12u);
  EXPECT_FALSE(states.find("k")) << "its bytes are not on the host";
  EXPECT_ERROR(states.get("k", f32_type({4}), first), "state k is f32[3], a plan wants f32[4]");
  EXPECT_ERROR(states.get("k", f32_type({3}), second), "state k lives on test:0, a plan wants it on test:1");
}

TEST(MemoryArena, GrowsAndTells) {
  const auto backend = test_backend(1);
  Memory memory;
  const Device device{backend.get(), 0};
  std::byte* small = memory.arena(device, 100);
  const int generation = memory.generation;
  EXPECT_EQ(memory.arena(device, 50), small);
  EXPECT_EQ(memory.generation, generation);
  memory.arena(device, 1000);
  EXPECT_NE(memory.generation, generation);
  EXPECT_EQ(backend->used[0], 1000u) << "the old arena is given back";
}

}  // namespace
}  // namespace weft::testing
