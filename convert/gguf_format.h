// Numbers of the GGUF container, shared by its reader and writer.
//
//   "GGUF"  u32 version  u64 tensors  u64 keys
//   keys     { string key, u32 type, value }           string: u64 bytes, then the bytes
//   tensors  { string name, u32 n_dims, u64 dims[] (fastest first), u32 type, u64 offset from the start of the data }
//   zeros up to the alignment, then the data, each tensor padded to the alignment
//
// Little-endian throughout. Source: the GGUF format document; where it and ggml's reader differ, as the reader does.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "graph/error.h"

namespace weft::gguf {

static_assert(std::endian::native == std::endian::little, "the readers copy little-endian numbers as they are");

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;    // written; 2 is read as well
inline constexpr uint32_t kArrayType = 9;  // scalar value types are 0 to 8 and 10 to 12
inline constexpr uint32_t kLastType = 12;
inline constexpr size_t kMaxTensorName = 63;               // bytes
inline constexpr size_t kMaxKey = 65535;                   // bytes
inline constexpr uint64_t kMaxString = uint64_t{1} << 30;  // bytes
inline constexpr uint64_t kMaxArray = uint64_t{1} << 30;   // elements
inline constexpr int kMaxDims = 4;
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr uint64_t kMaxAlignment = 64 * 1024;
inline constexpr uint64_t kMinKeyBytes = 8 + 4 + 1;             // the smallest entry: an empty key, a bool
inline constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // an empty name, one dimension
inline constexpr std::string_view kAlignmentKey = "general.alignment";

/// `alignment` as read from the metadata, checked. Throws Error unless it is a power of two up to kMaxAlignment.
inline uint64_t checked_alignment(int64_t alignment) {
  require(alignment > 0 && std::has_single_bit(static_cast<uint64_t>(alignment)) &&
              static_cast<uint64_t>(alignment) <= kMaxAlignment,
          "{} is {}, expected a power of two up to {}", kAlignmentKey, alignment, kMaxAlignment);
  return static_cast<uint64_t>(alignment);
}

/// `bytes` rounded up to `alignment`, a power of two. Throws Error if that overflows.
inline uint64_t padded(uint64_t bytes, uint64_t alignment) {
  uint64_t sum = 0;
  require(!__builtin_add_overflow(bytes, alignment - 1, &sum), "a size of {} bytes is too large", bytes);
  return sum & ~(alignment - 1);
}

}  // namespace weft::gguf
