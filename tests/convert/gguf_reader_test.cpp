#include "convert/gguf_reader.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "ops/quant/all.h"
#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

// A GGUF file byte by byte, independent of the writer.

template <typename T>
std::string number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string text(const std::string& s) { return number(uint64_t{s.size()}) + s; }

std::string key(const std::string& name, uint32_t type, const std::string& value) {
  return text(name) + number(type) + value;
}
std::string alignment(uint32_t bytes) { return key("general.alignment", 4, number(bytes)); }
std::string array_key(const std::string& name, uint32_t item_type, uint64_t n, const std::string& items) {
  return key(name, 9, number(item_type) + number(n) + items);
}

/// `dims` as the file has them, fastest first.
std::string info(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
  std::string out = text(name) + number(static_cast<uint32_t>(dims.size()));
  for (uint64_t dim : dims) out += number(dim);
  return out + number(type) + number(offset);
}

struct GgufBytes {
  uint32_t version = 3;
  std::vector<std::string> keys = {};
  std::vector<std::string> tensors = {};
  size_t data_bytes = 0;
  size_t data_alignment = 32;
  std::optional<uint64_t> n_tensors = {};
  std::optional<uint64_t> n_keys = {};

  std::string header() const {
    std::string out =
        "GGUF" + number(version) + number(n_tensors.value_or(tensors.size())) + number(n_keys.value_or(keys.size()));
    for (const std::string& k : keys) out += k;
    for (const std::string& t : tensors) out += t;
    return out;
  }
  std::string bytes() const {
    std::string out = header();
    out.resize((out.size() + data_alignment - 1) / data_alignment * data_alignment, '\0');
    for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i + 1);
    return out;
  }
};

/// Every value type, several tensors; the last one ends where the file does.
GgufBytes small_file() {
  return {.keys = {key("general.architecture", 8, text("gpt2")), key("u8", 0, number(uint8_t{200})),
                   key("i8", 1, number(int8_t{-5})), key("u16", 2, number(uint16_t{60000})),
                   key("i16", 3, number(int16_t{-300})), key("u32", 4, number(uint32_t{4000000000})),
                   key("i32", 5, number(int32_t{-7})), key("f32", 6, number(1.5F)), key("bool", 7, "\x02"),
                   key("u64", 10, number(UINT64_MAX)), key("i64", 11, number(INT64_MIN)), key("f64", 12, number(0.1)),
                   array_key("bools", 7, 3, std::string("\0\1\5", 3)), array_key("strings", 8, 2, text("a") + text("")),
                   array_key("floats", 6, 2, number(0.5F) + number(-2.0F)), array_key("none", 5, 0, "")},
          .tensors = {info("a", {3, 2}, 0, 0), info("empty", {0, 4}, 1, 32), info("b", {32, 2}, 2, 32),
                      info("c", {8}, 26, 96)},
          .data_bytes = 128};
}

std::string load_error(const TempFolder& folder, const std::string& bytes) {
  const std::string path = folder.write("hostile.gguf", bytes);
  const std::string message = error_of([&] { GgufFile{path}; });
  EXPECT_EQ(message.rfind(path + ": ", 0), 0u) << "does not begin with the path: " << message;
  return message;
}

TEST(GgufFile, ReadsEveryValueType) {
  const TempFolder folder;
  const GgufFile file(folder.write("a.gguf", small_file().bytes()));
  const Metadata& m = file.metadata();
  EXPECT_EQ(*m.find("u8"), MetaValue(uint8_t{200}));
  EXPECT_EQ(*m.find("i8"), MetaValue(int8_t{-5}));
  EXPECT_EQ(*m.find("u16"), MetaValue(uint16_t{60000}));
  EXPECT_EQ(*m.find("i16"), MetaValue(int16_t{-300}));
  EXPECT_EQ(*m.find("u32"), MetaValue(uint32_t{4000000000}));
  EXPECT_EQ(*m.find("i32"), MetaValue(int32_t{-7}));
  EXPECT_EQ(*m.find("f32"), MetaValue(1.5F));
  EXPECT_EQ(*m.find("bool"), MetaValue(true)) << "any non-zero byte is true";
  EXPECT_EQ(*m.find("general.architecture"), MetaValue(std::string("gpt2")));
  EXPECT_EQ(*m.find("u64"), MetaValue(uint64_t{UINT64_MAX}));
  EXPECT_EQ(*m.find("i64"), MetaValue(int64_t{INT64_MIN}));
  EXPECT_EQ(*m.find("f64"), MetaValue(0.1));
  EXPECT_EQ(*m.find("bools"), MetaValue(MetaArray(std::vector<bool>{false, true, true})));
  EXPECT_EQ(*m.find("strings"), MetaValue(MetaArray(std::vector<std::string>{"a", ""})));
  EXPECT_EQ(*m.find("floats"), MetaValue(MetaArray(std::vector<float>{0.5F, -2.0F})));
  EXPECT_EQ(*m.find("none"), MetaValue(MetaArray(std::vector<int32_t>{})));
  EXPECT_EQ(m.entries()[0].first, "general.architecture") << "file order is lost";
  EXPECT_EQ(file.version(), 3u);
}

TEST(GgufFile, TensorsAreSlowestFirstAndPointAtTheirData) {
  const TempFolder folder;
  GgufBytes bytes = small_file();
  for (uint32_t version : {2U, 3U}) {
    bytes.version = version;
    const GgufFile file(folder.write("a.gguf", bytes.bytes()));
    EXPECT_EQ(file.tensor_names(), (std::vector<std::string>{"a", "empty", "b", "c"}));
    EXPECT_EQ(*file.type("a"), (TensorType{quant::f32, Shape{2, 3}}));
    EXPECT_EQ(*file.type("b"), (TensorType{quant::q4_0, Shape{2, 32}}));
    EXPECT_EQ(*file.type("c"), (TensorType{quant::i32, Shape{8}}));
    EXPECT_EQ(file.type("empty")->bytes(), 0u);
    EXPECT_TRUE(static_cast<bool>(*file.load("empty").operator->()));
    EXPECT_EQ(std::to_integer<int>(*file.load("a")->data), 1);  // data byte i holds i + 1
    EXPECT_EQ(std::to_integer<int>(*file.load("b")->data), 33);
    EXPECT_EQ(std::to_integer<int>(*file.load("c")->data), 97);
    EXPECT_EQ(file.type("d"), nullptr);
    expect_message(error_of([&] { file.load("d"); }), "a.gguf: tensor d is missing");
  }
}

TEST(GgufFile, TensorsAreAlignedWhateverTheFileSays) {
  const TempFolder folder;
  for (uint32_t bytes : {1U, 2U, 4U, 64U, 65536U}) {
    const GgufBytes file_bytes{
        .keys = {alignment(bytes)},
        .tensors = {info("odd", {5}, 24 + 2, 0), info("f", {2}, 0, (20 + bytes - 1) / bytes * bytes)},
        .data_bytes = (20 + bytes - 1) / bytes * bytes + 8,
        .data_alignment = bytes};
    const GgufFile file(folder.write("a.gguf", file_bytes.bytes()));
    for (const char* name : {"odd", "f"}) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(file.load(name)->data) % 4, 0u) << name << " at alignment " << bytes;
    }
    EXPECT_EQ(std::to_integer<int>(*file.load("odd")->data), 1);
  }
}

TEST(GgufFile, AFileOfNothingLoads) {
  const TempFolder folder;
  EXPECT_TRUE(GgufFile(folder.write("a.gguf", GgufBytes{}.header())).tensor_names().empty());
}

TEST(GgufFile, RefusesHostileFilesWithAReason) {
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  const std::string header = "GGUF" + number(3U);
  const auto with_keys = [](std::vector<std::string> keys) { return GgufBytes{.keys = std::move(keys)}.bytes(); };
  const auto with_tensors = [](std::vector<std::string> tensors, size_t data = 4096) {
    return GgufBytes{.tensors = std::move(tensors), .data_bytes = data}.bytes();
  };
  const std::string padding(64, '\0');
  const struct {
    std::string bytes, fragment;
  } cases[] = {
      {"", "truncated at byte 0: the magic number needs 4 bytes, 0 are left"},
      {"GGML" + number(3U), "is not a GGUF file"},
      {"GGUF" + number(0x03000000U) + padding, "big-endian"},
      {"GGUF" + number(1U) + padding, "GGUF version 1"},
      {"GGUF" + number(0U) + padding, "GGUF version 0"},
      {"GGUF" + number(4U) + padding, "GGUF version 4"},
      {header + number(uint64_t{0}), "truncated at byte 16: the key count needs 8 bytes, 0 are left"},
      {GgufBytes{.n_keys = UINT64_MAX}.bytes(), "says it has 18446744073709551615 keys"},
      {GgufBytes{.n_tensors = uint64_t{1} << 40}.bytes(), "says it has 1099511627776 tensors"},

      {with_keys({number(uint64_t{100}) + "short"}), "truncated at byte 32: the name of a key needs 100 bytes"},
      {with_keys({text(std::string(65536, 'k')) + padding}),
       "the name of a key at byte 32 has 65536 bytes, at most 65535"},
      {with_keys({key("k", 13, padding)}), "key k has unknown value type 13"},
      {with_keys({key("k", 8, number(kHuge) + padding)}),
       "the value of key k at byte 45 has 4611686018427387904 bytes"},
      {with_keys({key("k", 8, number(uint64_t{1000}))}), "the value of key k needs 1000 bytes"},
      {with_keys({array_key("k", 4, 1 << 20, padding)}), "the array of key k has 1048576 elements"},
      {with_keys({array_key("k", 12, kHuge, padding)}), "at most 1073741824 are allowed"},
      {with_keys({array_key("k", 8, 3, text("a") + number(UINT64_MAX) + padding)}), "the value of key k at byte"},
      {with_keys({array_key("k", 9, 1, padding)}), "key k is an array of arrays"},
      {with_keys({array_key("k", 99, 1, padding)}), "key k has unknown value type 99"},
      {with_keys({key("k", 0, "1"), key("k", 0, "2")}), "key k occurs twice"},
      {with_keys({key("a\nb", 0, "1"), key("a\nb", 0, "2")}), "key a?b occurs twice"},

      {with_keys({alignment(0)}), "general.alignment is 0, expected a power of two"},
      {with_keys({alignment(24)}), "general.alignment is 24"},
      {with_keys({alignment(131072)}), "general.alignment is 131072"},
      {with_keys({key("general.alignment", 11, number(INT64_MIN))}), "general.alignment is -9223372036854775808"},
      {with_keys({key("general.alignment", 8, text("32"))}), "general.alignment is string"},

      {with_tensors({info(std::string(64, 'n'), {1}, 0, 0)}),
       "the name of a tensor at byte 32 has 64 bytes, at most 63"},
      {with_tensors({info("t", {}, 0, 0)}), "tensor t has 0 dimensions, expected 1 to 4"},
      {with_tensors({info("t", {1, 1, 1, 1, 1}, 0, 0)}), "tensor t has 5 dimensions"},
      {with_tensors({info("t", {uint64_t{1} << 63}, 0, 0)}),
       "tensor t has a dimension of 9223372036854775808, too large"},
      {with_tensors({info("t", {kHuge, 4}, 0, 0)}), "tensor t: the shape [4, 4611686018427387904] has too many"},
      {with_tensors({info("t", {0, kHuge, kHuge}, 0, 0)}), "tensor t: the shape"},
      {with_tensors({info("t", {kHuge}, 0, 0)}), "tensor t: f32 [4611686018427387904] is too large"},
      {with_tensors({info("t", {33}, 2, 0)}), "tensor t: rows of 33 elements are not whole blocks of q4_0 (32 each)"},
      {with_tensors({info("t", {32}, 4, 0)}), "tensor t has type id 4 (q4_2), which the format has removed"},
      {with_tensors({info("t", {256}, 38, 0)}), "tensor t has type id 38"},
      {with_tensors({info("t", {256}, 25, 0)}), "tensor t has type id 25 (i16), which weft does not read"},
      {with_tensors({info("t", {256}, 139, 0)}), "tensor t has type id 139, private to ik_llama.cpp"},
      {with_tensors({info("t", {256}, 9999, 0)}), "tensor t has unknown type id 9999"},
      {with_tensors({info("t", {8}, 0, 0), info("t", {8}, 0, 32)}), "tensor t occurs twice"},
      {with_tensors({info("t", {8}, 0, 32)}), "tensor t is at offset 32 of the data, expected 0"},
      {with_tensors({info("t", {9}, 0, 0), info("u", {1}, 0, 36)}),
       "tensor u is at offset 36 of the data, expected 64"},
      {with_tensors({info("t", {9}, 0, 0), info("u", {1}, 0, 32)}), "tensor u is at offset 32"},
      {with_tensors({info("t", {1}, 0, UINT64_MAX)}), "tensor t is at offset 18446744073709551615"},
      {with_tensors({info("t", {9}, 0, 0)}, 35), "truncated: tensor t has 36 bytes at offset 0"},
      {with_tensors({info("t", {kHuge >> 2}, 0, 0)}), "truncated: tensor t has 4611686018427387904 bytes"},

      {with_keys({key("split.count", 2, number(uint16_t{3}))}),
       "is a shard of 3, but its name is not PREFIX-00001-of-00003"},
      {with_keys({key("split.count", 2, number(uint16_t{0}))}), "split.count is 0"},
      {with_keys({key("split.no", 2, number(uint16_t{1}))}), "split.no is 1, expected 0"},
      {with_keys({key("split.count", 8, text("3"))}), "split.count is string"},
      {with_keys({key("split.tensors.count", 5, number(int32_t{7}))}), "split.tensors.count is 7, the shards hold 0"},
  };
  const TempFolder folder;
  for (const auto& c : cases) {
    SCOPED_TRACE(c.fragment);
    expect_message(load_error(folder, c.bytes), c.fragment);
  }
}

TEST(GgufFile, MissingFilesAreErrors) {
  const TempFolder folder;
  EXPECT_EQ(error_of([&] { GgufFile{folder.file("no.gguf")}; }),
            "cannot open " + folder.file("no.gguf") + ": No such file or directory");
  expect_message(error_of([&] { GgufFile{folder.path()}; }), "is a directory");
}

TEST(GgufFile, EveryTruncationIsAnError) {
  const TempFolder folder;
  const std::string whole = small_file().bytes();
  EXPECT_NO_THROW(GgufFile{folder.write("a.gguf", whole)});
  for (size_t n = 0; n < whole.size(); ++n) {
    const std::string message = load_error(folder, whole.substr(0, n));
    expect_message(message, "truncated");
    if (HasFailure()) FAIL() << "at " << n << " bytes of " << whole.size();
  }
}

/// Reads what a loaded file promises, so that a sanitizer sees bytes out of range.
unsigned touch(const GgufFile& file) {
  unsigned sum = 0;
  for (const std::string& name : file.tensor_names()) {
    const LoadedTensor tensor = file.load(name);
    for (size_t i = 0; i < tensor->type.bytes(); ++i) sum += std::to_integer<unsigned>(tensor->data[i]);
  }
  for (const auto& [name, value] : file.metadata().entries()) sum += static_cast<unsigned>(to_string(value).size());
  return sum;
}

TEST(GgufFile, MutatedFilesLoadOrThrow) {
  const TempFolder folder;
  const std::string whole = small_file().bytes();
  const size_t header = small_file().header().size();
  std::mt19937 random(7);
  size_t loaded = 0;
  size_t refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string bytes = whole;
    bytes[random() % header] = static_cast<char>(random());
    try {
      const GgufFile file(folder.write("a.gguf", bytes));
      touch(file);
      ++loaded;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(loaded, 100u) << "the mutations reach nothing but the checks";
  EXPECT_GT(refused, 100u) << "the mutations reach no check";
}

// Shards.

std::string shard_keys(uint16_t no, uint16_t count, int32_t n_tensors) {
  return key("split.no", 2, number(no)) + key("split.count", 2, number(count)) +
         key("split.tensors.count", 5, number(n_tensors));
}

std::string shard(uint16_t no, uint16_t count, const std::string& tensor, int32_t n_tensors = 2) {
  return GgufBytes{
      .keys = {key("general.name", 8, text("shard " + std::to_string(no))), shard_keys(no, count, n_tensors)},
      .tensors = {info(tensor, {8}, 0, 0)},
      .data_bytes = 32,
      .n_keys = 4}
      .bytes();
}

TEST(GgufShards, ReadAsOneFile) {
  const TempFolder folder;
  const std::string first = folder.write("m-00001-of-00002.gguf", shard(0, 2, "a"));
  folder.write("m-00002-of-00002.gguf", shard(1, 2, "b"));
  const GgufFile file(first);
  EXPECT_EQ(file.path(), first);
  EXPECT_EQ(file.n_shards(), 2u);
  EXPECT_EQ(file.tensor_names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(file.metadata().text("general.name"), "shard 0");
  EXPECT_EQ(file.metadata().entries().size(), 1u) << "split keys would be copied into a converted file";
  EXPECT_EQ(std::to_integer<int>(*file.load("b")->data), 1);
  EXPECT_EQ(file.file_bytes(), 2 * shard(0, 2, "a").size());
}

TEST(GgufShards, RefusesWhatDoesNotFitTogether) {
  const struct {
    std::string second, fragment;
  } cases[] = {
      {"", "m-00002-of-00002.gguf: truncated at byte 0"},
      {shard(0, 2, "b"), "m-00002-of-00002.gguf: split.no is 0, expected 1"},
      {shard(1, 3, "b"), "m-00002-of-00002.gguf: split.count is 3, the first shard says 2"},
      {shard(1, 2, "a"), "m-00002-of-00002.gguf: tensor a occurs twice"},
      {GgufBytes{.tensors = {info("b", {8}, 0, 0)}, .data_bytes = 32}.bytes(), "metadata key split.no is missing"},
  };
  const TempFolder folder;
  const std::string first = folder.write("m-00001-of-00002.gguf", shard(0, 2, "a"));
  const std::string second = folder.file("m-00002-of-00002.gguf");
  const std::string missing = error_of([&] { GgufFile{first}; });
  EXPECT_EQ(missing, first + ": shard 2 of 2 is missing: cannot open " + second + ": No such file or directory");
  for (const auto& c : cases) {
    folder.write("m-00002-of-00002.gguf", c.second);
    expect_message(error_of([&] { GgufFile{first}; }), c.fragment);
  }
  folder.write("m-00002-of-00002.gguf", shard(1, 2, "b"));
  expect_message(error_of([&] { GgufFile{second}; }), "is shard 2 of 2, open the first one: " + first);
  folder.write("m-00001-of-00002.gguf", shard(0, 2, "a", 3));
  expect_message(error_of([&] { GgufFile{first}; }), "split.tensors.count is 3, the shards hold 2");
  folder.write("m-00001-of-00002.gguf", shard(0, 7, "a"));
  expect_message(error_of([&] { GgufFile{first}; }), "split.count is 7, but its name says 2");
  folder.write("m-00001-of-00002.gguf", small_file().bytes());
  expect_message(error_of([&] { GgufFile{first}; }), "split.count is 1, but its name says 2");
}

TEST(GgufFile, ReadsTheGoldenFile) {
  const std::string path = shared_folder() + "/golden/gguf/union-q4_0.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const GgufFile file(path);
  EXPECT_EQ(file.tensor_names().size(), 101u);
  EXPECT_EQ(file.metadata().entries().size(), 17u);
  EXPECT_EQ(file.metadata().text("general.architecture"), "gpt2");
  EXPECT_EQ(file.metadata().integer("gpt2.embedding_length"), 320);
  EXPECT_EQ(file.metadata().texts("tokenizer.ggml.tokens").size(), 4096u);
  EXPECT_EQ(file.type("token_embd.weight")->shape, (Shape{4096, 320}));
  EXPECT_EQ(*file.type("blk.0.attn_qkv.weight"), (TensorType{quant::q4_0, Shape{960, 320}}));
  touch(file);
}

}  // namespace
}  // namespace weft
