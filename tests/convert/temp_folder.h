// Files for tests, and errors to expect.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "graph/error.h"
#include "tests/support/temp_folder.h"

namespace weft::testing {

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
