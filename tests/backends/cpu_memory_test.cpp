// The cpu backend's memory: zeros that come when touched, and pages of a source that may go.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/cpu/cpu.h"
#include "convert/mapped_file.h"

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

}  // namespace
}  // namespace weft
