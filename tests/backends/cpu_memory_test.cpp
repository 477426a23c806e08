// The backends' memory on the host: zeros that come when touched, and pages of a source that may go.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <numeric>
#include <vector>

#include "backends/cpu/cpu.h"
#include "backends/cuda/cuda.h"
#include "backends/mapped.h"
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

/// Pages of files that this process has.
size_t file_pages() {
  std::ifstream statm("/proc/self/statm");
  size_t all = 0, resident = 0, of_files = 0;
  statm >> all >> resident >> of_files;
  return of_files;
}

/// By the backends that copy weights: what was read of a file is given back.
void check_release(Backend& backend) {
  const MappedFile file("/proc/self/exe");
  const auto bytes = file.bytes();
  const size_t before = file_pages(), pages = bytes.size() / 4096;
  ASSERT_GT(pages, 100u);
  ASSERT_GT(std::accumulate(bytes.begin(), bytes.end(), 0u,
                            [](unsigned sum, std::byte b) { return sum + static_cast<unsigned>(b); }),
            0u);
  const size_t read = file_pages();
  if (read < before + pages / 2) GTEST_SKIP() << "this system does not count the pages of files";
  backend.release_source(bytes.data(), bytes.size());
  EXPECT_LE(file_pages(), read - pages / 2);
}

TEST(CpuMemory, AReleasedSourceLeavesTheProcess) { check_release(*make_cpu_backend(one_thread())); }
TEST(CudaMemory, AReleasedSourceLeavesTheProcess) {
  const auto backend = load_cuda_backend();
  if (backend->devices().empty()) GTEST_SKIP() << backend->absent();
  check_release(*backend);
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

TEST(Mapped, KnowsSharedMappings) {
  const std::string maps =
      "7f0c1000-7f0c9000 r--s 00000000 fe:00 1234   /a file\n7f0c9000-7f0cb000 rw-p 00000000 00:00 0\n";
  EXPECT_TRUE(shared_in(maps, 0x7f0c1000, 0x8000));
  EXPECT_TRUE(shared_in(maps, 0x7f0c8fff, 1));
  EXPECT_FALSE(shared_in(maps, 0x7f0c1000, 0x8001)) << "ends in another";
  EXPECT_FALSE(shared_in(maps, 0x7f0c9000, 1)) << "private";
  EXPECT_FALSE(shared_in(maps, 0x7f0cb000, 1)) << "none";
  EXPECT_FALSE(shared_in("junk\n-\n12\n1-\n", 1, 1));
  int own = 0;
  EXPECT_FALSE(is_shared_mapping(&own, sizeof own));
}

}  // namespace
}  // namespace weft
