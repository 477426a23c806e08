#include "convert/mapped_tensor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "ops/quant/f16.h"
#include "ops/quant/f32.h"
#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

/// A file of the floats 0, 1, 2, ... from byte `at` on, as [rows, columns].
MappedTensor floats(const TempFolder& folder, int64_t rows, int64_t columns, size_t at) {
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  std::string bytes(at + values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data() + at, values.data(), values.size() * sizeof(float));
  const auto file = std::make_shared<MappedFile>(folder.write("a", bytes));
  return {{quant::f32, {rows, columns}}, file->bytes().data() + at, file};
}

/// Whether this process maps the page to memory.
bool is_resident(const std::byte* address) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const int fd = ::open("/proc/self/pagemap", O_RDONLY);
  uint64_t entry = 0;
  const auto offset = static_cast<off_t>(reinterpret_cast<uintptr_t>(address) / page * sizeof entry);
  EXPECT_EQ(::pread(fd, &entry, sizeof entry, offset), static_cast<ssize_t>(sizeof entry));
  ::close(fd);
  return entry >> 63 != 0;
}

TEST(MappedTensor, RowsAreTheMappedBytes) {
  const TempFolder folder;
  const MappedTensor tensor = floats(folder, 7, 5, 4);
  const LoadedTensor all = tensor.load(), part = tensor.rows(2, 5), none = tensor.rows(3, 3);
  EXPECT_EQ(all->type, tensor.type);
  EXPECT_EQ(all->data, tensor.data);
  EXPECT_EQ(part->type, (TensorType{quant::f32, {3, 5}}));
  EXPECT_EQ(part->data, tensor.data + 2 * 5 * sizeof(float));
  EXPECT_EQ(none->type.bytes(), 0u);
}

TEST(MappedTensor, MisalignedRowsAreCopied) {
  const TempFolder folder;
  for (const size_t at : {1u, 2u, 3u}) {
    const MappedTensor tensor = floats(folder, 7, 5, at);
    const LoadedTensor part = tensor.rows(2, 5);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(part->data) % alignof(float), 0u);
    for (int i = 0; i < 15; ++i) EXPECT_EQ(part->as<float>()[i], static_cast<float>(10 + i));
  }
}

TEST(MappedTensor, ATransposedMatrixIsCopiedByRows) {
  const TempFolder folder;
  const MappedTensor tensor = floats(folder, 70, 45, 4).turned();
  EXPECT_EQ(tensor.type, (TensorType{quant::f32, {45, 70}}));
  const LoadedTensor part = tensor.rows(2, 44);
  EXPECT_EQ(part->type, (TensorType{quant::f32, {42, 70}}));
  for (int r = 0; r < 42; ++r) {
    for (int c = 0; c < 70; ++c) ASSERT_EQ(part->as<float>()[r * 70 + c], static_cast<float>(c * 45 + r + 2));
  }
  EXPECT_EQ(tensor.turned().rows(3, 4)->data, tensor.data + 3 * 45 * sizeof(float)) << "and back";
}

TEST(MappedTensor, TheEndOfALeaseLetsThePagesGo) {
  const TempFolder folder;
  const MappedTensor tensor = floats(folder, 64, 4096, 0);  // 1 MiB
  const std::byte* middle = tensor.data + tensor.type.bytes() / 2;
  {
    const LoadedTensor lease = tensor.load(), second = lease;
    EXPECT_EQ(*reinterpret_cast<const float*>(middle), 32 * 4096);
    EXPECT_TRUE(is_resident(middle));
  }
  EXPECT_FALSE(is_resident(middle)) << "a converter's memory would grow with the file";
  EXPECT_EQ(*reinterpret_cast<const float*>(middle), 32 * 4096) << "and come back";
}

TEST(MappedTensor, ALeaseOutlivesItsFile) {
  const TempFolder folder;
  LoadedTensor lease;
  {
    const MappedTensor tensor = floats(folder, 2, 3, 0);
    lease = tensor.load();
  }
  EXPECT_EQ(lease->as<float>()[5], 5);
}

}  // namespace
}  // namespace weft
