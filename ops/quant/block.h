// Helpers shared by the weight formats: half-precision conversion, correct for every bit pattern, and the loop over
// blocks that turns a block struct into a TypeTraits record.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "graph/dtype.h"

/// A table that decode() looks things up in: a device has its own copy.
#ifdef __CUDACC__
#define WEFT_TABLE static __device__ constexpr
#else
#define WEFT_TABLE inline constexpr
#endif

namespace weft::quant {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie in the file");

/// IEEE 754 binary16 -> binary32, exact, subnormals, infinities and NaN included. Masks and no branches, so that loops
/// vectorize.
constexpr float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = h & 0x7C00u, mantissa = h & 0x3FFu;
  const uint32_t is_special = 0u - static_cast<uint32_t>(exponent == 0x7C00u);
  const uint32_t is_subnormal = 0u - static_cast<uint32_t>(exponent == 0);
  const uint32_t bias = 112u << 23;  // 127 - 15; once more makes exponent 31 into 255
  const uint32_t normal = (static_cast<uint32_t>(h & 0x7FFFu) << 13) + bias + (bias & is_special);
  const uint32_t subnormal = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(mantissa)) * 0x1p-24f);
  return std::bit_cast<float>(sign | (subnormal & is_subnormal) | (normal & ~is_subnormal));
}

/// binary32 -> binary16, round to nearest even; overflow to infinity, NaN stays NaN.
inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return sign | 0x7E00u | static_cast<uint16_t>((magnitude >> 13) & 0x3FFu);
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24; adding 0.5 makes the FPU round it
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(rounded) - 0x3F000000u);
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return sign | static_cast<uint16_t>((magnitude - 0x38000000u + 0xFFFu + odd) >> 13);
}

constexpr float bf16_to_f32(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

/// binary32 -> bfloat16, round to nearest even, NaN stays NaN.
inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/// The bits of the finite binary16 nearest to `scale`: out of range saturates, NaN gives 0, so that blocks stay finite.
inline uint16_t f16_scale(float scale) {
  constexpr float kLargest = 65504.0f;
  if (!(scale == scale)) return 0;
  return f32_to_f16(scale < -kLargest ? -kLargest : scale > kLargest ? kLargest : scale);
}

/// 32 4-bit codes in 16 bytes: byte j holds element j in its low nibble and element j + 16 in its high nibble.
constexpr int nibble(const uint8_t* qs, size_t i) { return i < 16 ? qs[i] & 0xF : qs[i - 16] >> 4; }

template <class Code>
void pack_nibbles(uint8_t* qs, const Code& code) {  // code(i) in 0..15
  for (size_t j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>(code(j) | code(j + 16) << 4);
}

/// A block struct is its bytes in the file and says `kElems`, `decode(float*)` and, if it can be written,
/// `encode(const float*, const float* importance)`, which gives finite blocks whatever the input: NaN counts as 0,
/// infinities and values beyond the format's range as the largest it holds.
template <class Block>
concept Encodable = requires(Block block, const float* in) {
  block.encode(in, in);
};

/// Of a block whose kGroups groups of equally many elements can be decoded one by one: decode_group(float*, size_t g).
template <class Block>
constexpr void decode_groups(const Block& block, float* y) {
  for (size_t g = 0; g < Block::kGroups; ++g) block.decode_group(y + g * (Block::kElems / Block::kGroups), g);
}

template <class Block>
void decode_blocks(const std::byte* in, float* out, size_t n) {
  for (size_t b = 0; b < n / Block::kElems; ++b) {
    Block block;
    std::memcpy(&block, in + b * sizeof block, sizeof block);
    block.decode(out + b * Block::kElems);
  }
}

template <class Block>
void encode_blocks(const float* in, std::byte* out, size_t n, const float* importance) {
  for (size_t b = 0; b < n / Block::kElems; ++b) {
    Block block;
    block.encode(in + b * Block::kElems, importance ? importance + b * Block::kElems : nullptr);
    std::memcpy(out + b * sizeof block, &block, sizeof block);
  }
}

template <class Block>
constexpr TypeTraits block_traits(std::string_view name, uint32_t id) {
  TypeTraits traits{.name = name,
                    .id = id,
                    .block_elems = Block::kElems,
                    .block_bytes = sizeof(Block),
                    .is_float = false,
                    .is_quantized = true,
                    .decode = decode_blocks<Block>,
                    .encode = nullptr};
  if constexpr (Encodable<Block>) traits.encode = encode_blocks<Block>;
  return traits;
}

}  // namespace weft::quant
