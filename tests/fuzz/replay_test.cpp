// Every file of the corpus through the functions that the fuzzers run, so that what they once found stays found
// without clang. Files called valid_* must be accepted, all others refused, and none may crash.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/convert/temp_folder.h"
#include "tests/fuzz/entries.h"

namespace weft {
namespace {

struct Target {
  const char* name;
  bool (*run)(std::string_view bytes);

  friend void PrintTo(const Target& target, std::ostream* out) { *out << target.name; }
};
constexpr Target kTargets[] = {{"gguf", fuzz::gguf},
                               {"safetensors", fuzz::safetensors},
                               {"torch_file", fuzz::torch_file},
                               {"tokenizer_json", fuzz::tokenizer_json},
                               {"config_json", fuzz::config_json}};

class Replay : public ::testing::TestWithParam<Target> {
 protected:
  static std::vector<std::string> files() {
    std::vector<std::string> files;
    const std::string folder = std::string(WEFT_SOURCE_DIR) + "/tests/fuzz/corpus/" + GetParam().name;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path().string());
    std::ranges::sort(files);
    return files;
  }
};
INSTANTIATE_TEST_SUITE_P(All, Replay, ::testing::ValuesIn(kTargets), [](const auto& p) { return p.param.name; });

TEST_P(Replay, TheCorpus) {
  ASSERT_GE(files().size(), 10u);
  for (const std::string& file : files()) {
    const std::string name = std::filesystem::path(file).filename().string();
    EXPECT_EQ(GetParam().run(weft::testing::read_file(file)), name.starts_with("valid_")) << file;
  }
}

// Valid inputs with a part cut off, and with one byte changed.
TEST_P(Replay, DamagedFiles) {
  for (const std::string& file : files()) {
    if (std::filesystem::path(file).filename().string().find("valid_") != 0) continue;
    const std::string whole = weft::testing::read_file(file);
    const size_t step = std::max<size_t>(1, whole.size() / 150);
    for (size_t at = 0; at < whole.size(); at += step) {
      GetParam().run(std::string_view(whole).substr(0, at));
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
      GetParam().run(changed);
    }
  }
}

}  // namespace
}  // namespace weft
