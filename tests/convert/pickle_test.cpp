#include "convert/pickle.h"

#include <gtest/gtest.h>

#include "tests/convert/temp_folder.h"
#include "tests/support/torch_archive.h"

namespace weft {
namespace {

using namespace weft::testing;
using namespace weft::testing::pickled;

std::vector<PickledTensor> read(const std::string& bytes) {
  return read_pickled_tensors(std::as_bytes(std::span(bytes.data(), bytes.size())));
}
std::string refusal(const std::string& bytes) {
  return error_of([&] { read(bytes); });
}

const std::string kFloats = storage("FloatStorage", "0", 12);
const std::string kTensor = tensor(kFloats, 0, {3, 4}, {4, 1});

TEST(Pickle, ReadsAStateDict) {
  const auto tensors = read(state_dict(
      {{"a.weight", tensor(storage("HalfStorage", "7", 100), 40, {3, 4}, {4, 1})},
       {"step", integer(5)},
       {"big", tensor(storage("BFloat16Storage", "8", int64_t{1} << 33), 0, {1 << 20, 1 << 13}, {1 << 13, 1})},
       {"transposed", tensor(kFloats, 0, {4, 3}, {1, 4})},
       {"parameter", call(global("torch._utils", "_rebuild_parameter"), {kTensor, "\x88", ordered_dict()})}}));
  ASSERT_EQ(tensors.size(), 4u) << "a number is not a tensor";
  EXPECT_EQ(tensors[0].name, "a.weight");
  EXPECT_EQ(tensors[0].type->dtype, "float16");
  EXPECT_EQ(tensors[0].storage, "7");
  EXPECT_EQ(tensors[0].storage_bytes, 200u);
  EXPECT_EQ(tensors[0].offset, 40);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{3, 4}));
  EXPECT_TRUE(tensors[0].contiguous());
  EXPECT_EQ(tensors[1].storage_bytes, uint64_t{1} << 34) << "beyond 32 bits";
  EXPECT_TRUE(tensors[2].transposed());
  EXPECT_EQ(tensors[3].name, "parameter");
}

// A module's state_dict(): an OrderedDict filled item by item, with an attribute.
TEST(Pickle, ReadsAnOrderedDictWithMetadata) {
  const std::string metadata = "}" + text("_metadata") + ordered_dict() + "s";
  const auto tensors =
      read("\x80\x02" + ordered_dict() + text("w") + kTensor + "s(" + text("v") + kTensor + "u" + metadata + "b.");
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[1].name, "v");
}

TEST(Pickle, ReadsMemoAndProtocol4) {
  // \x8c short text, \x94 memoize, \x93 global from the stack, h get, \x95 frame.
  const auto name = [](std::string_view s) {
    return "\x8c" + std::string(1, static_cast<char>(s.size())) + std::string(s);
  };
  const std::string pickle = "\x80\x04\x95" + std::string(8, '\0') + "}\x94" + name("w") + "\x94" +
                             name("torch._utils") + "\x94" + name("_rebuild_tensor_v2") + "\x94\x93(" + kFloats +
                             integer(0) + "K\x03K\x04\x86K\x04K\x01\x86\x89" + ordered_dict() + "tRs" + "h\x00" + ".";
  std::string patched = pickle;
  patched.replace(patched.rfind("h"), 4, std::string("0h\0.", 4));  // drops the dict and gets it back
  const auto tensors = read(patched);
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{3, 4}));
}

TEST(Pickle, ReadsUntypedStorages) {
  const std::string bytes =
      tuple({text("storage"), global("torch.storage", "UntypedStorage"), text("0"), text("cpu"), integer(24)}) + "Q";
  const auto tensors = read(state_dict(
      {{"w", call(global("torch._utils", "_rebuild_tensor_v3"), {bytes, integer(2), sizes({10}), sizes({1}), "\x89",
                                                                 ordered_dict(), global("torch", "bfloat16")})}}));
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].type->dtype, "bfloat16");
  EXPECT_EQ(tensors[0].storage_bytes, 24u);
}

std::string dict(const Items& items) {
  std::string out = "}(";
  for (const auto& [name, value] : items) out += text(name) + value;
  return out + "u";
}

// What training loops save: the model's state dict under a name, their own state beside.
TEST(Pickle, ReadsTheStateDictInsideACheckpoint) {
  const std::string model = dict({{"w", kTensor}, {"v", kTensor}});
  const std::string optimizer = dict({{"state", dict({{"0", dict({{"exp_avg", kTensor}})}})}, {"lr", integer(1)}});
  const auto names = [](const Items& items) {
    std::string out;
    for (const PickledTensor& tensor : read(state_dict(items))) out += tensor.name + " ";
    return out;
  };
  EXPECT_EQ(names({{"epoch", integer(3)}, {"state_dict", model}, {"optimizer", optimizer}}), "w v ");
  EXPECT_EQ(names({{"net", model}}), "w v ") << "whatever its name, if it is the only one";
  EXPECT_EQ(names({{"ema", dict({{"other", kTensor}})}, {"model", model}}), "w v ") << "of several by the name";
  EXPECT_EQ(names({{"a", kTensor}, {"state_dict", model}}), "a ") << "tensors of the dict itself come first";
  const auto refused = [](const Items& items) { return refusal(state_dict(items)); };
  expect_message(refused({{"a", model}, {"b", model}}), "several dicts of tensors, none of them called state_dict");
  expect_message(
      refused({{"epoch", integer(3)}, {"optimizer", optimizer}}),
      "has no tensors, neither in its dict nor in one inside it, but epoch (an integer), optimizer (a dict)");
  expect_message(refused({}), "has no tensors, neither in its dict nor in one inside it, but nothing");
  expect_message(refused(Items(20, {"n\x01", integer(0)})), "n? (an integer) and 12 more");
  // Python's: p["self"] = p.
  expect_message(refusal("\x80\x02}q\x01(" + text("self") + "h\x01u."), "but self (a dict)");
}

TEST(Pickle, ContiguousMeansNoHoles) {
  const auto contiguous = [](std::vector<int64_t> shape, std::vector<int64_t> strides) {
    PickledTensor tensor;
    tensor.shape = std::move(shape);
    tensor.strides = std::move(strides);
    return tensor.contiguous();
  };
  EXPECT_TRUE(contiguous({}, {}));
  EXPECT_TRUE(contiguous({2, 3, 4}, {12, 4, 1}));
  EXPECT_TRUE(contiguous({2, 1, 4}, {4, 99, 1})) << "the stride of one element is never used";
  EXPECT_TRUE(contiguous({0, 4}, {7, 7})) << "nothing to read";
  EXPECT_FALSE(contiguous({4, 3}, {1, 4}));
  EXPECT_FALSE(contiguous({3, 4}, {8, 1}));
  EXPECT_FALSE(contiguous({3, 4}, {0, 1})) << "expanded";
  const int64_t huge = int64_t{1} << 40;
  EXPECT_FALSE(contiguous({huge, huge, huge}, {0, huge, 1}));
  const auto transposed = [](std::vector<int64_t> shape, std::vector<int64_t> strides) {
    PickledTensor tensor;
    tensor.shape = std::move(shape);
    tensor.strides = std::move(strides);
    return tensor.transposed();
  };
  EXPECT_TRUE(transposed({4, 3}, {1, 4}));
  EXPECT_FALSE(transposed({4, 3}, {1, 5})) << "with holes";
  EXPECT_FALSE(transposed({4, 3}, {3, 1}));
  EXPECT_FALSE(transposed({2, 4, 3}, {12, 1, 4}));
}

TEST(Pickle, NamesWhatItRefuses) {
  const std::string p = "\x80\x02";
  const std::pair<std::string, std::string> cases[] = {
      {p + call(global("os", "system"), {text("rm -rf /")}) + ".", "pickle names os.system: refused"},
      {p + call(global("builtins", "eval"), {text("1")}) + ".", "names builtins.eval: refused"},
      {p + text("os") + text("system") + "\x93.", "names os.system: refused"},
      {p + global("torch", "load") + ".", "names torch.load: refused"},
      {p + global("torch", "") + ".", "names torch.: refused"},
      {p + global("torch._utils", "_rebuild_qtensor") + ".", "names torch._utils._rebuild_qtensor: refused"},
      {p + global("os\x01", std::string(300, 'a')) + ".", "names os?.aaa"},
      {p + "i" + "os\nsystem\n.", "has opcode 0x69 at byte 2"},  // INST calls at once
      {p + "}\x81.", "has opcode 0x81"},                         // NEWOBJ
      {p + "\x82\x01.", "has opcode 0x82"},                      // an extension registry
      {std::string("\x80\0.", 3), "is of protocol 0"},
      {"\x80\x06.", "is of protocol 6"},
      {"", "truncated at byte 0"},
      {p + "}", "truncated at byte 3"},
      {p + "X\xFF\xFF\xFF\xFF", "truncated at byte 7: 4294967295 bytes are wanted, 0 are left"},
      {p + "cos", "a name has no end"},
      {p + ".", "empty stack"},
      {p + "t.", "has no mark"},
      {p + "(}s.", "empty stack"},
      {p + "}(" + text("a") + "u.", "has a key without a value"},
      {p + "]" + text("a") + text("b") + "s.", "adds items to a list"},
      {p + "h\x05.", "asks for memo entry 5"},
      {p + "}r\xFF\xFF\xFF\xFF.", "has a memo entry 4294967295, at most"},
      {p + "].", "holds a list, expected a dict of tensors"},
      {p + "\x8a\x09" + std::string(9, '\1') + ".", "an integer at byte 4 has 9 bytes"},
      {p + text("storage") + "Q.", "has a string at byte"},
      {p + tuple({text("storage")}) + "Q.", "a persistent id has 1 arguments"},
      {p + tuple({text("module"), global("torch", "FloatStorage"), text("0"), text("cpu"), integer(1)}) + "Q.",
       "is no storage but module"},
      {p + storage("FloatStorage", "0", -1) + ".", "a storage has -1 elements"},
      {p + storage("FloatStorage", "0", INT64_MAX) + ".", "a storage has 9223372036854775807 elements"},
      {p + storage("FloatStorage", std::string(65, '0'), 1) + ".", "a storage's key has 65 bytes"},
      {p + tensor(kFloats, -1, {1}, {1}) + ".", "begins at element -1"},
      {p + tensor(kFloats, 0, {-1}, {1}) + ".", "dimensions are not whole numbers"},
      {p + tensor(kFloats, 0, {1}, {-1}) + ".", "strides are not whole numbers"},
      {p + tensor(kFloats, 0, {1, 1}, {1}) + ".", "has 2 dimensions and 1 strides"},
      {p + tensor(kFloats, 0, std::vector<int64_t>(65, 1), {}) + ".", "has 65 dimensions, at most 64"},
      {p + tensor(kTensor, 0, {1}, {1}) + ".", "argument 0 of a tensor is a tensor, expected a storage"},
      {p + call(global("collections", "OrderedDict"), {"]"}) + ".", "makes an OrderedDict of 1 arguments"},
      {p + call(text("f"), {}) + ".", "where a function is expected"},
      {p + text("a") + "}b.", "sets attributes of a string"},
      {state_dict({{"w", kTensor}, {"w", kTensor}}), "tensor w occurs twice"},
  };
  for (const auto& [bytes, fragment] : cases) {
    const std::string message = refusal(bytes);
    expect_message(message, fragment);
    EXPECT_EQ(message.find("pickle "), 0u) << message;
  }
}

TEST(Pickle, MemoryIsBounded) {
  const std::string p = "\x80\x02";
  expect_message(refusal(p + std::string(3'000'000, ')')), "has more than 2097152 values");
  expect_message(refusal(p + std::string(3'000'000, '(')), "has more than 2097152 values");
  // 64 dimensions, a thousand times over, from a few bytes each.
  std::string many =
      p + global("torch._utils", "_rebuild_tensor_v2") + "q\x01" +
      tuple({kFloats, integer(0), sizes(std::vector<int64_t>(64, 1)), sizes(std::vector<int64_t>(64, 1))}) + "q\x02";
  for (int i = 0; i < 100'000; ++i) many += "h\x01h\x02R";
  expect_message(refusal(many + "."), "has more than 2097152 values");
  // A large dict without tensors, again and again in another, is looked through once.
  std::string wide = p + "}(";
  for (int i = 0; i < 200'000; ++i) wide += "NN";
  wide +=
      "uq\x01"
      "0}(";
  for (int i = 0; i < 200'000; ++i) wide += "Nh\x01";
  expect_message(refusal(wide + "u."), "and 199992 more");
  // Deep nesting costs no stack.
  std::string deep = p;
  for (int i = 0; i < 500'000; ++i) deep += "]";
  deep += std::string(499'999, 'a');
  expect_message(refusal(deep + "."), "holds a list");
}

}  // namespace
}  // namespace weft
