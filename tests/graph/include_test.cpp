// The direction of the include lines: examples, tests -> convert -> models -> ops -> graph, backends -> ops -> graph.
// One line against it and a folder can no longer be read, built or replaced alone.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace weft {
namespace {

/// What stands between `open` and `close` of an include line; "" of any other line.
std::string included(const std::string& line, char open, char close) {
  const std::string start = std::string("#include ") + open;
  if (!line.starts_with(start)) return "";
  return line.substr(start.size(), line.find(close, start.size()) - start.size());
}

TEST(Includes, FollowTheDirectionOfTheFolders) {
  const std::map<std::string, std::set<std::string>> may_include = {
      {"graph", {"graph"}},
      {"ops", {"ops", "graph"}},
      {"backends", {"backends", "ops", "graph"}},
      {"models", {"models", "ops", "graph"}},
      {"convert", {"convert", "models", "ops", "graph"}},
  };
  int n_files = 0;
  for (const auto& [folder, allowed] : may_include) {
    for (const auto& file : std::filesystem::recursive_directory_iterator(WEFT_SOURCE_DIR "/" + folder)) {
      const std::string extension = file.path().extension();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      ++n_files;
      std::ifstream in(file.path());
      for (std::string line; std::getline(in, line);) {
        const std::string header = included(line, '"', '"');
        if (header.empty()) continue;
        EXPECT_TRUE(allowed.contains(header.substr(0, header.find('/')))) << file.path() << ": " << line;
      }
    }
  }
  EXPECT_GT(n_files, 100) << "the source tree was not found";
}

TEST(Includes, TheGraphKnowsOnlyTheStandardLibraryAndFmt) {
  // Other libraries come as <folder/name.h> or <name.h>; of those, only fmt and what POSIX gives.
  const std::set<std::string> posix = {"unistd.h", "fnmatch.h"};
  for (const auto& file : std::filesystem::recursive_directory_iterator(WEFT_SOURCE_DIR "/graph")) {
    if (!file.is_regular_file()) continue;
    std::ifstream in(file.path());
    for (std::string line; std::getline(in, line);) {
      const std::string header = included(line, '<', '>');
      if (header.empty()) continue;
      const bool standard = header.find('.') == std::string::npos;
      EXPECT_TRUE(standard || header.starts_with("fmt/") || posix.contains(header)) << file.path() << ": " << line;
    }
  }
}

}  // namespace
}  // namespace weft
