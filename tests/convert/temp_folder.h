// Files for tests: a folder that goes away, and errors to expect.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "graph/error.h"

namespace weft::testing {

/// A new folder under the system's temporary one, removed with all it holds at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft-test-XXXXXX").string();
    const char* made = ::mkdtemp(pattern.data());
    if (made == nullptr) fail("cannot make {}", pattern);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  /// Writes the file and returns its path.
  std::string write(std::string_view name, std::string_view bytes) const {
    std::ofstream(file(name), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return file(name);
  }
  /// Names in it, hidden ones too.
  size_t count() const {
    const std::filesystem::directory_iterator it(path_);
    return static_cast<size_t>(std::distance(begin(it), end(it)));
  }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The message of the Error that `f` throws; a test failure and "" if it throws none.
template <typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

/// Expects one line that contains `fragment`.
inline void expect_message(const std::string& message, std::string_view fragment) {
  EXPECT_NE(message.find(fragment), std::string::npos) << "message:  " << message << "\nexpected: " << fragment;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

/// ../shared of the project, where golden files lie; it may be absent.
inline std::string shared_folder() { return std::string(WEFT_SOURCE_DIR) + "/../shared"; }

}  // namespace weft::testing
