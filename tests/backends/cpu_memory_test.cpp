// The cpu backend's memory: zeros that come when touched, and pages of a source that may go.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "backends/cpu/cpu.h"
#include "convert/mapped_file.h"
#include "graph/weight_store.h"
#include "ops/quant/all.h"
#include "ops/quant/as_stored.h"

namespace weft {
namespace {

CpuOptions one_thread() {
  CpuOptions options;
  options.threads = 1;
  return options;
}

TEST(CpuMemory, ClearLeavesZerosAndNothingElse) {
  const auto backend = make_cpu_backend(one_thread());
  for (const size_t bytes : {size_t{1}, size_t{5000}, (size_t{4} << 20) + 77}) {
    const Buffer buffer = backend->allocate(0, bytes + 200);
    std::memset(buffer.data(), 7, bytes + 200);
    backend->clear(0, buffer.data() + 100, bytes);
    const auto all = [&](size_t first, size_t n, int value) {
      return std::all_of(buffer.data() + first, buffer.data() + first + n,
                         [&](std::byte b) { return b == static_cast<std::byte>(value); });
    };
    EXPECT_TRUE(all(100, bytes, 0)) << bytes;
    EXPECT_TRUE(all(0, 100, 7) && all(100 + bytes, 100, 7)) << bytes;
  }
}

// Or the next process to load the model would read it from the disk.
TEST(CpuMemory, AReleasedFileStaysInTheSystemsCache) {
  const auto backend = make_cpu_backend(one_thread());
  const MappedFile file("/proc/self/exe");
  const auto bytes = file.bytes();
  const auto resident = [&] {
    std::vector<unsigned char> pages(bytes.size() / 4096 + 1);
    EXPECT_EQ(mincore(const_cast<std::byte*>(bytes.data()), bytes.size(), pages.data()), 0);
    return std::ranges::count_if(pages, [](unsigned char page) { return (page & 1U) != 0; });
  };
  const std::vector<std::byte> copy(bytes.begin(), bytes.end());
  const auto before = resident();
  backend->release_source(bytes.data(), bytes.size());
  EXPECT_GE(resident(), before * 9 / 10);
}

TEST(CpuMemory, AReleasedSourceKeepsItsBytes) {
  const auto backend = make_cpu_backend(one_thread());
  const MappedFile file("/proc/self/exe");
  const std::vector<std::byte> own(file.bytes().begin(), file.bytes().end()), expected = own;
  ASSERT_GT(own.size(), 100'000u);
  for (const auto bytes : {file.bytes(), std::span<const std::byte>(own)}) {
    backend->release_source(bytes.data() + 5, bytes.size() - 9);
    EXPECT_TRUE(std::ranges::equal(bytes, expected));
    backend->release_source(bytes.data() + 1, 0);
    backend->release_source(bytes.data() + 4090, 100);  // within no whole page
  }
}

// A large mapped weight moves to memory of our own; one that is there already would only be there twice.
TEST(CpuMemory, WeightsAsStoredAreCopiedOutOfAMappedFile) {
  const auto backend = make_cpu_backend(one_thread());
  const TensorType type{quant::f16, {1031, 1024}, Rows::all};
  const Layout* layout = quant::as_stored(type);
  ASSERT_NE(layout, nullptr);
  EXPECT_EQ(quant::as_stored({quant::f16, {1023, 1024}, Rows::all}), nullptr);
  std::vector<std::byte> own(type.bytes());
  for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<std::byte>(i * 2654435761u >> 24);
  const auto path = std::filesystem::temp_directory_path() / "weft_as_stored_test";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(own.data()), static_cast<std::streamsize>(own.size()));
  {
    const MappedFile file(path.string());
    auto* mapped = const_cast<std::byte*>(file.bytes().data());
    WeightStore store;
    const Tensor copied = store.get({type, mapped, nullptr}, {backend.get(), 0}, layout);
    EXPECT_NE(copied.data, mapped);
    EXPECT_EQ(copied.layout, nullptr);  // kernels read it as they would the file
    EXPECT_TRUE(std::equal(own.begin(), own.end(), copied.data));
    EXPECT_EQ(store.owned_bytes(), type.bytes());
    EXPECT_EQ(store.get({type, mapped, nullptr}, {backend.get(), 0}, nullptr).data, mapped);
    EXPECT_EQ(store.get({type, own.data(), nullptr}, {backend.get(), 0}, layout).data, own.data());
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace weft
