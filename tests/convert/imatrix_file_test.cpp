#include "convert/imatrix_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(ImatrixFile, ComesBackAsItWasWritten) {
  const TempFolder folder;
  ImportanceMatrix matrix;
  matrix.set("blk.0.ffn_up.weight", {{1, 2, 3}, {4}});
  matrix.set("blk.0.ffn_up_exps.weight", {{1, 2, 3, 4, 5, 6}, {0, 7}});
  write_imatrix(folder.file("m.gguf"), matrix, {"text", 3, 512});
  const ImportanceMatrix read = read_imatrix(folder.file("m.gguf"));
  ASSERT_EQ(read.entries().size(), 2u);
  for (const auto& [name, entry] : matrix.entries()) {
    EXPECT_EQ(read.entries().find(name)->second.sums, entry.sums);
    EXPECT_EQ(read.entries().find(name)->second.counts, entry.counts);
  }
}

template <typename T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string dat_file(const std::string& name, int32_t calls, const std::vector<float>& values) {
  std::string out;
  put(out, int32_t{1});
  put(out, static_cast<int32_t>(name.size()));
  out += name;
  put(out, calls);
  put(out, static_cast<int32_t>(values.size()));
  for (const float v : values) put(out, v);
  return out;
}

TEST(ImatrixFile, TheOlderFormIsRead) {
  const TempFolder folder;
  std::string bytes = dat_file("w", 2, {4, 6});
  put(bytes, int32_t{99});  // the last call, which nobody needs
  const ImportanceMatrix matrix = read_imatrix(folder.write("m.dat", bytes));
  EXPECT_EQ(matrix.means("w", 2, 1), (std::vector<float>{2, 3}));
  EXPECT_EQ(matrix.means("w", 1, 2), (std::vector<float>{2, 3})) << "experts one after the other";
}

TEST(ImatrixFile, MalformedFilesAreErrorsThatNameThem) {
  const TempFolder folder;
  const std::string whole = dat_file("weight", 2, {4, 6});
  for (size_t n = 0; n < whole.size(); ++n) {
    const std::string path = folder.write("cut", whole.substr(0, n));
    expect_message(error_of([&] { read_imatrix(path); }), path + ": ");
  }
  const auto refused = [&](const std::string& bytes, std::string_view message) {
    const std::string path = folder.write("bad", bytes);
    expect_message(error_of([&] { read_imatrix(path); }), message);
  };
  refused(dat_file("w", 1, {-1}), "w has the value -1");
  refused(dat_file("w", 1, {std::nanf("")}), "w has the value");
  std::string many;
  put(many, INT32_MAX);
  refused(many + std::string(100, '\0'), "the number of entries is 2147483647");
  refused(std::string("GGUF"), "bad: ");
}

}  // namespace
}  // namespace weft
