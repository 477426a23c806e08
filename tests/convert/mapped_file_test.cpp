#include "convert/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(MappedFile, HoldsTheBytesOfTheFile) {
  const TempFolder folder;
  std::string bytes(100'003, '\0');  // several pages, the last one partly filled
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 256);
  const MappedFile file(folder.write("a", bytes));
  EXPECT_EQ(file.text(), bytes);
  EXPECT_EQ(file.bytes().size(), bytes.size());
  EXPECT_EQ(file.path(), folder.file("a"));
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpan) {
  const TempFolder folder;
  EXPECT_TRUE(MappedFile(folder.write("empty", "")).bytes().empty());
  EXPECT_TRUE(MappedFile().bytes().empty());
}

TEST(MappedFile, MovingKeepsTheAddress) {
  const TempFolder folder;
  MappedFile a(folder.write("a", "first"));
  const std::byte* address = a.bytes().data();
  MappedFile b(std::move(a));
  EXPECT_EQ(b.bytes().data(), address);
  MappedFile c(folder.write("c", "second"));
  c = std::move(b);
  EXPECT_EQ(c.bytes().data(), address);
  EXPECT_EQ(c.text(), "first");
  EXPECT_EQ(c.path(), folder.file("a"));
}

TEST(MappedFile, SaysWhyItCannotOpen) {
  const TempFolder folder;
  const auto open = [](const std::string& path) { return error_of([&] { MappedFile{path}; }); };
  EXPECT_EQ(open(folder.file("no")), "cannot open " + folder.file("no") + ": No such file or directory");
  EXPECT_EQ(open(folder.path()), "cannot open " + folder.path() + ": is a directory");
  expect_message(open("/dev/null"), "is not a regular file");
  // Would hang if opening waited for a writer.
  ASSERT_EQ(::mkfifo(folder.file("fifo").c_str(), 0600), 0);
  expect_message(open(folder.file("fifo")), "is not a regular file");
}

}  // namespace
}  // namespace weft
