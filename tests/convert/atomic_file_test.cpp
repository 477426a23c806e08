#include "convert/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

std::string partial(const TempFolder& folder, const std::string& name) {
  return folder.file("." + name + ".partial-" + std::to_string(::getpid()));
}

TEST(AtomicFile, AppearsOnlyWhenFinished) {
  const TempFolder folder;
  const std::string path = folder.write("out", "old");
  {
    AtomicFile file(path);
    file.write("new ", 4);
    file.write("bytes", 5);
    EXPECT_EQ(read_file(path), "old") << "the target changed before finish()";
    EXPECT_TRUE(std::filesystem::exists(partial(folder, "out")));
    file.finish();
    EXPECT_EQ(read_file(path), "new bytes");
    expect_message(error_of([&] { file.write("x", 1); }), "it is finished");
    expect_message(error_of([&] { file.finish(); }), "it is finished");
  }
  EXPECT_EQ(read_file(path), "new bytes");
  EXPECT_EQ(folder.count(), 1u) << "something was left beside the target";
}

TEST(AtomicFile, LeavesNothingWithoutFinish) {
  const TempFolder folder;
  AtomicFile(folder.file("out")).write("half", 4);
  EXPECT_EQ(folder.count(), 0u);
}

TEST(AtomicFile, RefusesWhatIsNoRegularFile) {
  const TempFolder folder;
  const auto open = [](const std::string& path) { return error_of([&] { AtomicFile{path}; }); };
  EXPECT_EQ(open(folder.path()), "cannot write " + folder.path() + ": is a directory");
  expect_message(open(folder.path() + "/"), "is a directory");
  // A rename would replace the device.
  expect_message(open("/dev/null"), "cannot write /dev/null: is not a regular file");
  expect_message(open(folder.file("no/out")), "no/out: No such file or directory");
  expect_message(open(""), "without a name");
  EXPECT_EQ(folder.count(), 0u);
}

TEST(AtomicFile, KeepsASymbolicLink) {
  const TempFolder folder;
  const std::string real = folder.write("real", "old");
  std::filesystem::create_symlink(real, folder.file("link"));
  AtomicFile file(folder.file("link"));
  file.write("new", 3);
  file.finish();
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
  EXPECT_EQ(read_file(real), "new");
}

TEST(AtomicFile, ReplacesAPartialFileOfAKilledProcessButNotALiveOne) {
  const TempFolder folder;
  folder.write(std::filesystem::path(partial(folder, "out")).filename().string(), "stale");
  {
    AtomicFile file(folder.file("out"));
    expect_message(error_of([&] { AtomicFile{folder.file("out")}; }), "busy");
    file.write("new", 3);
    file.finish();
  }
  EXPECT_EQ(read_file(folder.file("out")), "new");
}

TEST(AtomicFile, TakesTheLongestName) {
  const TempFolder folder;
  const std::string path = folder.file(std::string(255, 'n'));
  AtomicFile file(path);
  file.finish();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(AtomicFile, AFailedWriteIsAnErrorAndCannotBeFinished) {
  const TempFolder folder;
  struct Limit {  // of the size of files: writing fails as on a full disk
    rlimit before{};
    void (*handler)(int) = std::signal(SIGXFSZ, SIG_IGN);
    Limit() {
      ::getrlimit(RLIMIT_FSIZE, &before);
      const rlimit small{4096, before.rlim_max};
      ::setrlimit(RLIMIT_FSIZE, &small);
    }
    ~Limit() {
      ::setrlimit(RLIMIT_FSIZE, &before);
      std::signal(SIGXFSZ, handler);
    }
  };
  std::string message;
  {
    const Limit limit;
    AtomicFile file(folder.file("out"));
    const std::string bytes(10'000, 'x');
    message = error_of([&] { file.write(bytes.data(), bytes.size()); });
    expect_message(error_of([&] { file.finish(); }), "an earlier write failed");
  }
  EXPECT_EQ(message, "cannot write " + folder.file("out") + ": File too large");
  EXPECT_EQ(folder.count(), 0u);
}

TEST(AtomicFile, TheSignalHandlersFunctionRemovesPartialFiles) {
  const TempFolder folder;
  for (int round = 0; round < 3; ++round) {
    AtomicFile finished(folder.file("finished"));
    finished.finish();
    AtomicFile a(folder.file("a"));
    AtomicFile b(folder.file("b"));
    remove_partial_files();
    EXPECT_EQ(folder.count(), 1u);
    expect_message(error_of([&] { a.finish(); }), "No such file");
  }
  for (int i = 0; i < 100; ++i) AtomicFile{folder.file("many")}.write("x", 1);
  AtomicFile last(folder.file("last"));
  remove_partial_files();
  EXPECT_EQ(folder.count(), 1u) << "slots of the table are not given back";
}

}  // namespace
}  // namespace weft
