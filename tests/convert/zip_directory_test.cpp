#include "convert/zip_directory.h"

#include <gtest/gtest.h>

#include "tests/convert/temp_folder.h"
#include "tests/support/torch_archive.h"

namespace weft {
namespace {

using namespace weft::testing;

std::span<const std::byte> bytes_of(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }
std::string text_of(std::span<const std::byte> b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }
std::string refusal(const std::string& archive) {
  return error_of([&] { ZipDirectory{bytes_of(archive)}; });
}

const std::vector<ZipEntry> kTwo = {{"a/one", "first"}, {"a/two", ""}};

TEST(ZipDirectory, FindsStoredEntries) {
  for (const bool zip64 : {false, true}) {
    for (const std::string& comment : {std::string(), std::string("PK\x05\x06 a comment"), std::string(0xFFFF, ' ')}) {
      std::vector<ZipEntry> entries = kTwo;
      for (ZipEntry& e : entries) e.zip64 = zip64;
      const std::string archive = zip_bytes(entries, {.zip64 = zip64, .comment = comment});
      EXPECT_TRUE(ZipDirectory::is_zip(bytes_of(archive)));
      const ZipDirectory zip(bytes_of(archive));
      EXPECT_EQ(zip.entries().size(), 2u);
      EXPECT_EQ(text_of(zip.stored("a/one")), "first");
      EXPECT_EQ(zip.stored("a/one").data(), bytes_of(archive).data() + archive.find("first")) << "not copied";
      EXPECT_TRUE(zip.stored("a/two").empty());
      expect_message(error_of([&] { zip.stored("none"); }), "the archive has no entry none");
    }
  }
  EXPECT_TRUE(ZipDirectory(bytes_of(zip_bytes({}))).entries().empty());
}

TEST(ZipDirectory, CompressedAndEncryptedEntriesAreRefusedWhenAskedFor) {
  const std::string archive = zip_bytes({{"deflated", "x", 8}, {"secret", "x", 0, 1}, {.name = "plain", .bytes = "x"}});
  const ZipDirectory zip(bytes_of(archive));
  EXPECT_EQ(text_of(zip.stored("plain")), "x");
  for (const char* name : {"deflated", "secret"}) {
    expect_message(error_of([&] { zip.stored(name); }), "is compressed or encrypted");
  }
}

TEST(ZipDirectory, RefusesHostileArchives) {
  const auto one = [](ZipEntry entry) { return zip_bytes({entry, {"other", "12345"}}); };
  const std::pair<std::string, std::string> cases[] = {
      {"", "truncated: an archive has at least 22 bytes, this one has 0"},
      {"PK\x03\x04" + std::string(100, '\0'), "has no end record"},
      {zip_bytes(kTwo).substr(1), "entry 0 of the central directory is malformed"},
      {one({.name = "a", .bytes = "1", .offset_by = 1}), "entry a: its local header is not at byte 1"},
      {zip_bytes({{"a", "1"}, {"a", "2"}}), "entry a: occurs twice"},
      {one({.name = "a", .bytes = "1", .local_name = "b"}), "entry a: its local header has another name"},
      {one({.name = "a", .bytes = "1", .packed = 1000}), "truncated: its data of 1000 bytes"},
      {one({.name = "a", .bytes = "1", .zip64 = true, .packed = UINT64_MAX}), "truncated: its data"},
      {one({.name = "a", .bytes = "1", .zip64 = true, .offset_by = INT64_MAX}), "truncated: the local header"},
      {one({.name = "a", .bytes = "1", .packed = 20}), "overlaps the one before it"},
      {zip_bytes({{"a", "12345"}, {.name = "b", .bytes = "1", .packed = 40}}), "overlaps the central directory"},
      {zip_bytes(kTwo, {.entries_by = 1}), "central directory"},
      {zip_bytes(kTwo, {.zip64 = true, .entries_by = INT64_MAX}), "too few for"},
  };
  for (const auto& [archive, fragment] : cases) expect_message(refusal(archive), fragment);

  std::string moved = zip_bytes(kTwo, {.zip64 = true});  // the locator points elsewhere
  moved[moved.size() - 22 - 20 + 8] ^= 1;
  expect_message(refusal(moved), "the zip64 end record is not where its locator says");
  std::string spanned = zip_bytes(kTwo);
  spanned[spanned.size() - 22 + 4] = 1;
  expect_message(refusal(spanned), "spans several disks");
}

TEST(ZipDirectory, EveryTruncationIsAnError) {
  const std::string archive = zip_bytes(kTwo, {.zip64 = true});
  for (size_t n = 0; n < archive.size(); ++n) EXPECT_THROW(ZipDirectory(bytes_of(archive.substr(0, n))), Error) << n;
}

}  // namespace
}  // namespace weft
