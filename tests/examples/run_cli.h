// Runs the executables as a user does: output, exit status.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft::testing {

using Args = std::vector<std::string>;

inline constexpr std::string_view kPrompt = "Fellow-Citizens of the Senate and House of Representatives:";
inline const std::string kData = std::string(WEFT_SOURCE_DIR) + "/tests/data";
inline const std::string kBundled = std::string(WEFT_SOURCE_DIR) + "/examples/data/union-q8_0.gguf";

struct Outcome {
  int status = -1;  // of exit(), or minus the signal
  std::string out, err;
};

/// Runs a program to its end. `stdout_path` takes its output, if given; `environment` is added to this process's.
inline Outcome run_program(const char* program, const Args& args, const Args& environment = {},
                           const std::string& stdout_path = "") {
  const TempFolder folder;
  const std::string out = stdout_path.empty() ? folder.file("out") : stdout_path, err = folder.file("err");
  std::vector<char*> argv = {const_cast<char*>(program)};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("XDG_CACHE_HOME", folder.file("cache").c_str(), 1);
    for (const std::string& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    ::execv(program, argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status),
          stdout_path.empty() ? read_file(out) : std::string(), read_file(err)};
}

inline Outcome weft(const Args& args, const Args& environment = {}, const std::string& stdout_path = "") {
  return run_program(WEFT_CLI, args, environment, stdout_path);
}

/// Expects exit status 0 and returns what was printed.
inline std::string output_of(const Args& args, const Args& environment = {}) {
  const Outcome outcome = weft(args, environment);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return outcome.out;
}

/// Expects exit status 1 and one line `weft: error: ...` that contains `fragment`.
inline void expect_error(const Outcome& outcome, std::string_view fragment) {
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_EQ(outcome.err.find("weft: error: "), 0u) << outcome.err;
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find(fragment), std::string::npos) << outcome.err << "expected: " << fragment;
}

inline void expect_error(const Args& args, std::string_view fragment, const Args& environment = {}) {
  expect_error(weft(args, environment), fragment);
}

inline std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  const size_t begin = text.rfind('\n', end);
  return text.substr(begin + 1, end - begin);
}

/// A tiny model as GGUF.
inline std::string write_tiny(const TempFolder& folder, const TinyOptions& options = {}, DType type = {}) {
  const auto tiny = tiny_model(options);
  write_gguf(*tiny, plan_conversion(*tiny, {.type = type ? std::string(type.name()) : ""}), folder.file("tiny.gguf"));
  return folder.file("tiny.gguf");
}

/// A whole GGUF file with `bytes` put at the place of `what`, which must occur.
inline std::string patched(std::string file, std::string_view what, std::string_view bytes, size_t offset = 0) {
  const size_t at = file.find(what);
  if (at == std::string::npos) fail("the file has no {}", what);
  return file.replace(at + what.size() + offset, bytes.size(), bytes);
}

template <typename T>
inline std::string number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace weft::testing
