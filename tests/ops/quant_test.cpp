// The weight formats: decode bit for bit, encoders' error, and what happens on input nobody wanted.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/quant/all.h"

namespace weft::quant {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Relative RMSE on normal data that each encoder must not exceed: llama.cpp's own, and for the rest what ours reaches.
const std::map<std::string_view, double> kErrorLimit = {
    {"f32", 0},      {"f16", .00021},   {"bf16", .00167},  {"q4_0", .0859}, {"q4_1", .0782}, {"q5_0", .0427},
    {"q5_1", .0378}, {"q8_0", .00535},  {"q2_K", .296},    {"q3_K", .151},  {"q4_K", .0714}, {"q5_K", .0361},
    {"q6_K", .0178}, {"iq4_nl", .0762}, {"iq4_xs", .0768}, {"mxfp4", .113}, {"tq1_0", .437}, {"tq2_0", .437},
};

/// Where each format keeps f16 scales, for making random blocks finite.
const std::map<std::string_view, std::vector<size_t>> kScaleOffsets = {
    {"q4_0", {0}},   {"q4_1", {0, 2}}, {"q5_0", {0}},    {"q5_1", {0, 2}}, {"q8_0", {0}},    {"q2_K", {80, 82}},
    {"q3_K", {108}}, {"q4_K", {0, 2}}, {"q5_K", {0, 2}}, {"q6_K", {208}},  {"iq4_nl", {0}},  {"iq4_xs", {0}},
    {"tq1_0", {52}}, {"tq2_0", {64}},  {"iq1_s", {0}},   {"iq1_m", {54}},  {"iq2_xxs", {0}}, {"iq2_xs", {0}},
    {"iq2_s", {0}},  {"iq3_xxs", {0}}, {"iq3_s", {0}},
};

std::vector<float> normal_data(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

std::vector<std::byte> encode(DType type, const std::vector<float>& x, const float* importance = nullptr) {
  constexpr std::byte kSentinel{0xA5};
  const size_t size = x.size() / type->block_elems * type->block_bytes;
  std::vector<std::byte> bytes(size + 16, kSentinel);
  type->encode(x.data(), bytes.data(), x.size(), importance);
  for (size_t i = size; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], kSentinel) << type.name() << " wrote past its block";
  bytes.resize(size);
  return bytes;
}

std::vector<float> decode(DType type, const std::vector<std::byte>& bytes) {
  constexpr float kSentinel = -12345.0f;
  const size_t n = bytes.size() / type->block_bytes * type->block_elems;
  std::vector<float> x(n + 4, kSentinel);
  type->decode(bytes.data(), x.data(), n);
  for (size_t i = n; i < x.size(); ++i) EXPECT_EQ(x[i], kSentinel) << type.name() << " wrote past its row";
  x.resize(n);
  return x;
}

std::vector<float> round_trip(DType type, const std::vector<float>& x) { return decode(type, encode(type, x)); }

double relative_rmse(const std::vector<float>& x, const std::vector<float>& y, const float* weights = nullptr) {
  double error = 0, power = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = weights ? weights[i] : 1.0, off = double{x[i]} - y[i];
    error += w * off * off;
    power += w * x[i] * double{x[i]};
  }
  return std::sqrt(error / power);
}

bool all_finite(const std::vector<float>& x) {
  return std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
}

class Quant : public ::testing::TestWithParam<const TypeTraits*> {
 protected:
  DType type_ = *GetParam();
};

// --- golden files ----------------------------------------------------------------------------------------------------

/// The arrays of one file of shared/golden/quants or tests/data/quants; the latter are of decode-only types.
struct Golden {
  std::vector<std::byte> bytes;
  std::vector<float> values, sample, reference_rmse;
};

template <class T>
std::vector<T> array_of(const std::vector<char>& file, size_t data, const nlohmann::json& entry) {
  const size_t begin = data + entry["data_offsets"][0].get<size_t>(),
               end = data + entry["data_offsets"][1].get<size_t>();
  std::vector<T> out((end - begin) / sizeof(T));
  std::memcpy(out.data(), file.data() + begin, end - begin);
  return out;
}

bool read_golden(std::string_view name, Golden& golden) {
  std::ifstream in;
  for (const char* folder : {"../shared/golden/quants", "tests/data/quants"}) {
    in = std::ifstream(std::filesystem::path(WEFT_SOURCE_DIR) / folder / (std::string(name) + ".safetensors"),
                       std::ios::binary);
    if (in) break;
  }
  if (!in) return false;
  const std::vector<char> file{std::istreambuf_iterator<char>(in), {}};
  uint64_t header_bytes;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  const auto header =
      nlohmann::json::parse(file.begin() + 8, file.begin() + 8 + static_cast<std::ptrdiff_t>(header_bytes));
  const size_t data = 8 + header_bytes;
  golden.bytes = array_of<std::byte>(file, data, header["bytes"]);
  golden.values = array_of<float>(file, data, header["values"]);
  if (header.contains("sample")) golden.sample = array_of<float>(file, data, header["sample"]);
  if (header.contains("reference_rmse")) golden.reference_rmse = array_of<float>(file, data, header["reference_rmse"]);
  return true;
}

TEST_P(Quant, DecodesGoldenBitForBit) {
  Golden golden;
  if (!read_golden(type_.name(), golden)) GTEST_SKIP() << "no golden file for " << type_.name();
  const std::vector<float> values = decode(type_, golden.bytes);
  ASSERT_EQ(values.size(), golden.values.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(golden.values[i]))
        << "element " << i << ": " << values[i] << " for " << golden.values[i];
}

TEST_P(Quant, EncodesGoldenSampleNoWorseThanReference) {
  if (!type_->encode) GTEST_SKIP() << type_.name() << " is decode-only";
  Golden golden;
  if (!read_golden(type_.name(), golden)) GTEST_SKIP() << "no golden file for " << type_.name();
  double limit = kErrorLimit.at(type_.name());
  if (!golden.reference_rmse.empty()) limit = std::min(limit, double{golden.reference_rmse[0]});
  EXPECT_LE(relative_rmse(golden.sample, round_trip(type_, golden.sample)), 1.01 * limit);
}

// --- layout ----------------------------------------------------------------------------------------------------------

struct WorkedBlock {
  std::string_view type;
  std::vector<std::pair<size_t, uint8_t>>
      bytes;  // the others are 0; 0x3C in the upper byte of an f16 is 1, 0x38 is 0.5
  float rest;
  struct Run {
    size_t first, count;
    float value;
  };
  std::vector<Run> runs;  // later ones override
};

// Worked on paper from the layout tables: one bit out of place changes a value.
const std::vector<WorkedBlock> kWorkedBlocks = {
    {"f16", {{0, 0x01}, {1, 0x3C}}, 0, {{0, 1, 1.0f + 0x1p-10f}}},
    {"bf16", {{0, 0x81}, {1, 0xBF}}, 0, {{0, 1, -(1.0f + 0x1p-7f)}}},
    {"q4_0", {{1, 0x3C}, {2, 0xF1}}, -8, {{0, 1, -7}, {16, 1, 7}}},
    {"q4_1", {{1, 0x3C}, {3, 0x38}, {4, 0xF1}}, 0.5f, {{0, 1, 1.5f}, {16, 1, 15.5f}}},
    {"q5_0", {{1, 0x3C}, {2, 0x01}, {4, 0x02}, {6, 0x21}}, -16, {{0, 1, 1}, {16, 1, -14}, {17, 1, 0}}},
    {"q5_1",
     {{1, 0x3C}, {3, 0x38}, {4, 0x01}, {6, 0x02}, {8, 0x21}},
     0.5f,
     {{0, 1, 17.5f}, {16, 1, 2.5f}, {17, 1, 16.5f}}},
    {"q8_0", {{1, 0x3C}, {2, 0x80}, {33, 0x7F}}, 0, {{0, 1, -128}, {31, 1, 127}}},
    {"q2_K",
     {{81, 0x3C}, {83, 0x38}, {0, 0x23}, {9, 0x01}, {21, 0x02}, {65, 0x03}},
     0,
     {{0, 16, -1}, {5, 1, 5}, {145, 1, 3}}},
    {"q3_K",
     {{109, 0x3C}, {3, 0x20}, {98, 0x50}, {106, 0x20}, {69, 0x0C}},
     128,
     {{160, 16, -20}, {163, 1, 0}, {165, 1, -5}}},
    {"q4_K",
     {{1, 0x3C}, {3, 0x38}, {5, 7}, {9, 4}, {14, 0x31}, {6, 0x80}, {10, 0x40}, {18, 0x50}, {113, 0x02}},
     0,
     {{32, 32, -2}, {34, 1, 33}, {192, 32, -9.5f}, {193, 1, 56.5f}}},
    {"q5_K",
     {{1, 0x3C},
      {3, 0x38},
      {5, 7},
      {9, 4},
      {14, 0x31},
      {6, 0x80},
      {10, 0x40},
      {18, 0x02},
      {50, 0x50},
      {17, 0x40},
      {145, 0x02}},
     0,
     {{32, 32, -2}, {34, 1, 145}, {192, 32, -9.5f}, {193, 1, 584.5f}}},
    {"q6_K", {{209, 0x3C}, {205, 0xFE}, {82, 0x70}, {178, 0x30}}, 0, {{208, 16, 64}, {210, 1, -46}}},
    {"iq4_nl", {{1, 0x3C}, {2, 0xF1}}, -127, {{0, 1, -104}, {16, 1, 113}}},
    {"iq4_xs", {{1, 0x3C}, {6, 0x10}, {3, 0x08}, {92, 0x98}}, 4064, {{160, 32, -127}, {164, 1, 1}, {180, 1, 13}}},
    {"mxfp4", {{0, 128}, {1, 0xF1}, {2, 0x08}}, 0, {{0, 1, 1}, {16, 1, -12}}},
    {"mxfp4", {{0, 0}, {1, 0x12}}, 0, {{0, 1, 0x1p-127f}, {16, 1, 0x1p-128f}}},
    {"mxfp4", {{0, 255}, {1, 0x91}}, 0, {{0, 1, 0x1p127f}, {16, 1, -0x1p127f}}},
    {"tq1_0", {{53, 0x3C}, {7, 181}, {50, 143}}, -1, {{7, 1, 1}, {71, 1, 0}, {242, 1, 0}, {246, 1, 1}}},
    {"tq2_0", {{65, 0x3C}, {35, 0x90}}, -1, {{195, 1, 0}, {227, 1, 1}}},
    // Row 0 of every codebook has code 0 throughout.
    {"iq1_s",
     {{1, 0x3C}, {44, 0x08}, {45, 0xB0}},  // row 256: codes 0 1 2 1 2 0 1 0
     -0.875f,
     {{160, 32, -7.875f}, {169, 1, -0.875f}, {170, 1, 6.125f}, {171, 1, -0.875f}, {172, 1, 6.125f}, {174, 1, -0.875f}}},
    {"iq1_m",
     {{53, 0xC0}, {55, 0x30}, {52, 0xC0}, {42, 0x90}},  // row 256: codes 0 1 2 1 2 0 1 0
     -0.875f,
     {{160, 8, -6.125f},
      {168, 8, -7.875f},
      {169, 1, -0.875f},
      {170, 1, 6.125f},
      {171, 1, -0.875f},
      {172, 1, 6.125f},
      {174, 1, -0.875f}}},
    {"iq2_xxs",
     {{1, 0x3C}, {43, 0x01}, {46, 0x80}, {49, 0x30}},  // row 1: codes 2 0 0 0 0 0 0 0
     1,
     {{160, 32, 7}, {168, 1, -37.625f}, {175, 1, -7}}},
    {"iq2_xs",
     {{1, 0x3C}, {45, 0x03}, {71, 0x13}},  // row 256: codes 2 1 0 0 0 0 0 1
     1,
     {{160, 16, 7}, {176, 16, 3}, {168, 1, -37.625f}, {169, 1, 21.875f}, {175, 1, -21.875f}}},
    {"iq2_s",
     {{1, 0x3C}, {55, 0x81}, {71, 0x04}, {79, 0x13}},  // row 256: codes 1 1 1 1 1 0 1 0
     1,
     {{160, 16, 7}, {176, 16, 3}, {168, 5, 21.875f}, {168, 1, -21.875f}, {174, 1, 21.875f}, {175, 1, -7}}},
    {"iq3_xxs",
     {{1, 0x3C}, {45, 0x01}, {87, 0x08}, {89, 0x30}},  // row 1: codes 2 0 0 0
     1,
     {{160, 32, 7}, {172, 1, -35}, {175, 1, -7}}},
    {"iq3_s",
     {{1, 0x3C}, {71, 0x08}, {95, 0x10}, {108, 0x31}},  // row 256: codes 3 2 4 2
     1,
     {{128, 32, 3}, {160, 32, 7}, {172, 1, -49}, {173, 1, 35}, {174, 1, 63}, {175, 1, 35}}},
};

TEST(QuantLayout, WorkedBlocks) {
  std::set<std::string_view> seen = {"f32"};
  for (const WorkedBlock& worked : kWorkedBlocks) {
    const DType type = find(worked.type);
    ASSERT_TRUE(type) << worked.type;
    seen.insert(worked.type);
    std::vector<std::byte> bytes(type->block_bytes);
    for (const auto& [offset, value] : worked.bytes) bytes[offset] = std::byte{value};
    std::vector<float> expected(type->block_elems, worked.rest);
    for (const auto& run : worked.runs)
      std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(run.first), run.count, run.value);
    const std::vector<float> values = decode(type, bytes);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], expected[i]) << worked.type << " element " << i;
  }
  for (const TypeTraits* type : kAllTypes)
    EXPECT_TRUE(seen.contains(type->name)) << type->name << " has no worked block";
}

// Of the values of 2048 blocks that meet every row of every codebook, decoded by the Python package `gguf`: FNV-1a over
// their bits, one u32 at a time.
const std::map<std::string_view, uint64_t> kCodebookDigests = {
    {"iq1_s", 0xe2f356f04a661785},  {"iq1_m", 0x43ab754a0375f225}, {"iq2_xxs", 0x86139ebf5ea2d735},
    {"iq2_xs", 0xf2bafe4fa76c8e19}, {"iq2_s", 0xe7d599362d2ad1c9}, {"iq3_xxs", 0x1482181a60a7c9ad},
    {"iq3_s", 0xcc5dfe99e9381715},
};

uint8_t mixed_byte(uint32_t i) {
  i = (i ^ i >> 16) * 0x7FEB352Du;
  i = (i ^ i >> 15) * 0x846CA68Bu;
  return static_cast<uint8_t>((i ^ i >> 16) >> 24);
}

TEST(QuantLayout, EveryRowOfEveryCodebook) {
  for (const auto& [name, expected] : kCodebookDigests) {
    const DType type = find(name);
    ASSERT_TRUE(type) << name;
    std::vector<std::byte> bytes(type->block_bytes * 2048);
    for (uint32_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte{mixed_byte(i)};
    const size_t scale = kScaleOffsets.at(name).front();
    for (size_t block = 0; block < bytes.size(); block += type->block_bytes)
      bytes[block + scale + 1] &= std::byte{0xBF};  // finite
    uint64_t digest = 0xCBF29CE484222325u;
    for (const float v : decode(type, bytes)) digest = (digest ^ std::bit_cast<uint32_t>(v)) * 0x100000001B3u;
    EXPECT_EQ(digest, expected) << name;
  }
}

TEST(QuantLayout, NamesAndIdsAreUnique) {
  std::set<std::string_view> names;
  std::set<uint32_t> ids;
  for (const TypeTraits* type : kAllTypes) {
    EXPECT_TRUE(names.insert(type->name).second) << type->name;
    EXPECT_TRUE(ids.insert(type->id).second) << type->name;
    EXPECT_EQ(find(type->name), DType(*type));
    EXPECT_EQ(find(type->id), DType(*type));
  }
  EXPECT_FALSE(find("q9_9"));
  EXPECT_FALSE(find(4u)) << "id 4 was removed from the format";
}

// --- any bytes -------------------------------------------------------------------------------------------------------

TEST_P(Quant, DecodesAnyBytes) {
  std::mt19937 random(11);
  std::vector<std::byte> bytes(type_->block_bytes * 2048);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0xFF);
  decode(type_, bytes);  // for the sanitizers
  const auto scales = kScaleOffsets.find(type_.name());
  if (scales == kScaleOffsets.end()) return;
  for (size_t block = 0; block < bytes.size(); block += type_->block_bytes)
    for (const size_t offset : scales->second) bytes[block + offset + 1] &= std::byte{0xBF};  // exponent below 16
  EXPECT_TRUE(all_finite(decode(type_, bytes)));
}

// --- encoders --------------------------------------------------------------------------------------------------------

TEST_P(Quant, ErrorOnNormalData) {
  if (!type_->encode) GTEST_SKIP() << type_.name() << " is decode-only";
  const std::vector<float> x = normal_data(1 << 17, 5);
  EXPECT_LE(relative_rmse(x, round_trip(type_, x)), kErrorLimit.at(type_.name()));
  // A weight matrix's scale: subnormal f16 block scales begin to cost below about 1e-3.
  std::vector<float> small = x;
  for (float& v : small) v *= 0.02f;
  EXPECT_LE(relative_rmse(small, round_trip(type_, small)), 1.01 * kErrorLimit.at(type_.name()));
}

TEST_P(Quant, BlocksAreIndependentAndRepeatable) {
  if (!type_->encode) GTEST_SKIP() << type_.name() << " is decode-only";
  const size_t n = type_->block_elems;
  const std::vector<float> x = normal_data(8 * n, 6),
                           third(x.begin() + 2 * static_cast<long>(n), x.begin() + 3 * static_cast<long>(n));
  const std::vector<std::byte> all = encode(type_, x), one = encode(type_, third);
  EXPECT_EQ(all, encode(type_, x));
  EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + 2 * static_cast<long>(type_->block_bytes)));
}

TEST_P(Quant, ImportanceLowersWeightedError) {
  if (!type_->encode || type_->is_float || type_.name() == "mxfp4") GTEST_SKIP() << "no freedom to weigh";
  const std::vector<float> x = normal_data(1 << 15, 7);
  std::vector<float> importance = normal_data(x.size(), 8);
  for (float& w : importance) w *= w;
  const double plain = relative_rmse(x, round_trip(type_, x), importance.data());
  EXPECT_LT(relative_rmse(x, decode(type_, encode(type_, x, importance.data())), importance.data()), plain);
}

TEST_P(Quant, UselessImportanceStillGivesAGoodBlock) {
  if (!type_->encode) GTEST_SKIP() << type_.name() << " is decode-only";
  const std::vector<float> x = normal_data(1024, 9);
  for (const float w : {0.0f, -1.0f, kNaN, kInf, 1e-40f, 3e38f}) {
    const std::vector<float> importance(x.size(), w);
    EXPECT_LE(relative_rmse(x, decode(type_, encode(type_, x, importance.data()))), 1.2 * kErrorLimit.at(type_.name()))
        << "importance " << w;
  }
}

TEST_P(Quant, ConstantRows) {
  if (!type_->encode) GTEST_SKIP() << type_.name() << " is decode-only";
  const float tolerance = type_.name() == "mxfp4" ? 0.21f : 0x1p-8f;
  for (const float c : {0.0f, -0.0f, 1.0f, -1.0f, 0.37f, -4.9f, 1000.0f}) {
    for (const float v : round_trip(type_, std::vector<float>(512, c)))
      ASSERT_NEAR(v, c, tolerance * std::abs(c)) << type_.name() << " of constant " << c;
  }
}

TEST_P(Quant, TinyRowsAreNoWorseThanZeros) {
  if (!type_->encode) GTEST_SKIP() << type_.name() << " is decode-only";
  for (const float scale : {1e-3f, 1e-5f, 1e-6f, 1e-7f, 1e-8f, 1e-12f, 1e-20f, 1e-30f, 1e-38f, 1e-44f}) {
    std::vector<float> x = normal_data(512, 10);
    for (float& v : x) v *= scale;
    const std::vector<float> y = round_trip(type_, x);
    double error = 0, power = 0;
    for (size_t i = 0; i < x.size(); ++i) error += std::pow(double{x[i]} - y[i], 2), power += double{x[i]} * x[i];
    EXPECT_LE(std::sqrt(error / 512), 1.001 * std::sqrt(power / 512) + 0x1p-24)
        << type_.name() << " at scale " << scale;
  }
}

TEST_P(Quant, HugeInfiniteAndNaNStayFinite) {
  if (!type_->encode || type_->is_float) GTEST_SKIP() << "floats keep infinities and NaN";
  for (const float bad : {1e6f, 1e10f, 1e30f, 3e38f, -3e38f, kInf, -kInf, kNaN}) {
    std::vector<float> x = normal_data(512, 12);
    for (size_t i = 3; i < 256; i += 5) x[i] = bad;
    const std::vector<float> importance(x.size(), 0.5f);
    EXPECT_TRUE(all_finite(round_trip(type_, x))) << "some " << bad;
    EXPECT_TRUE(all_finite(decode(type_, encode(type_, x, importance.data())))) << "some " << bad << ", weighted";
    EXPECT_TRUE(all_finite(round_trip(type_, std::vector<float>(512, bad)))) << "all " << bad;
  }
  std::vector<float> mixed(512, kInf);
  for (size_t i = 0; i < mixed.size(); i += 2) mixed[i] = -kInf;
  EXPECT_TRUE(all_finite(round_trip(type_, mixed)));
}

TEST_P(Quant, NaNCountsAsZero) {
  if (!type_->encode || type_->is_float) GTEST_SKIP() << "floats keep NaN";
  std::vector<float> with_nan = normal_data(512, 13), with_zero = with_nan;
  for (size_t i = 1; i < 512; i += 7) with_nan[i] = i % 2 ? kNaN : -kNaN, with_zero[i] = 0.0f;
  EXPECT_EQ(encode(type_, with_nan), encode(type_, with_zero));
}

INSTANTIATE_TEST_SUITE_P(AllTypes, Quant, ::testing::ValuesIn(kAllTypes),
                         [](const auto& instance) { return std::string(instance.param->name); });

// --- half precision --------------------------------------------------------------------------------------------------

/// binary16 by its definition.
double value_of_f16(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double sign = h & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa ? kNaN : sign * kInf;
  return sign * std::ldexp(exponent ? mantissa + 1024 : mantissa, std::max(exponent, 1) - 25);
}

TEST(HalfPrecision, EveryBinary16) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    const auto expected = static_cast<float>(value_of_f16(h));
    const float value = f16_to_f32(h);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value)))) << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(expected)) << bits;
    ASSERT_EQ(f32_to_f16(value), h);
  }
}

/// Nearest multiple of the unit in the last place, ties to even, infinite from 65520 up.
double nearest_f16(float value) {
  if (!std::isfinite(value) || value == 0.0f) return value;
  const int unit = std::max(std::ilogb(value), -14) - 10;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(double{value}, -unit)), unit);
  return std::abs(rounded) < 65536.0 ? rounded : std::copysign(double{kInf}, double{value});
}

void expect_nearest_f16(float value) {
  const uint16_t h = f32_to_f16(value);
  ASSERT_EQ(value_of_f16(h), nearest_f16(value)) << value;
  ASSERT_EQ(h >> 15 != 0, std::signbit(value)) << value;
}

// Halfway between neighbours and one step of binary32 to either side, overflow and underflow included.
TEST(HalfPrecision, TiesToEven) {
  for (uint32_t bits = 0; bits <= 0x7C00; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    const float low = f16_to_f32(h), high = bits >= 0x7BFF ? 65536.0f : f16_to_f32(static_cast<uint16_t>(h + 1));
    const float middle = bits == 0x7C00 ? 70000.0f : 0.5f * (low + high);
    for (const float v : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInf)}) {
      expect_nearest_f16(v);
      expect_nearest_f16(-v);
    }
  }
  std::mt19937 random(3);
  for (int i = 0; i < 200000; ++i) {
    const auto v = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isnan(v)) expect_nearest_f16(v);
  }
}

TEST(HalfPrecision, Bf16TiesToEven) {
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808000u)), 0x3F80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F818000u)), 0x3F82);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80) << "overflow";
  EXPECT_EQ(f32_to_bf16(-0.0f), 0x8000);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7F800001u)))));
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    if (std::isnan(bf16_to_f32(h))) continue;
    ASSERT_EQ(f32_to_bf16(bf16_to_f32(h)), h);
  }
}

TEST(Rounding, NearestWithinBoundsTiesToEven) {
  const std::vector<std::pair<float, int>> cases = {{0.5f, 0},   {1.5f, 2},     {2.5f, 2},     {-0.5f, 0},  {-1.5f, -2},
                                                    {6.6f, 7},   {7.6f, 7},     {1e30f, 7},    {kInf, 7},   {-8.6f, -8},
                                                    {-1e7f, -8}, {-1.3e7f, -8}, {-1e30f, -8},  {-kInf, -8}, {3e7f, 7},
                                                    {-2e7f, -8}, {0x1p22f, 7},  {-0x1p22f, -8}};
  for (const auto& [v, expected] : cases) EXPECT_EQ(round_within(v, -8, 7), expected) << v;
}

// d is exactly 1 here, so that the codes show how halves round.
TEST(Rounding, Q8_0Ties) {
  std::vector<float> x(32);
  x[0] = 127, x[1] = 0.5f, x[2] = 1.5f, x[3] = 2.5f, x[4] = -0.5f, x[5] = -1.5f;
  const std::vector<float> y = round_trip(q8_0, x);
  EXPECT_EQ(std::vector<float>(y.begin(), y.begin() + 6), (std::vector<float>{127, 0, 2, 2, 0, -2}));
}

TEST(Rounding, Mxfp4TiesToEvenAndSaturates) {
  std::vector<float> x(32);
  x[0] = 6, x[1] = 0.25f, x[2] = 0.75f, x[3] = 1.25f, x[4] = 1.75f, x[5] = 2.5f, x[6] = 3.5f, x[7] = -5, x[8] = -0.25f;
  const std::vector<float> y = round_trip(mxfp4, x);
  EXPECT_EQ(std::vector<float>(y.begin(), y.begin() + 9), (std::vector<float>{6, 0, 1, 1, 2, 2, 4, -4, 0}));
}

}  // namespace
}  // namespace weft::quant
