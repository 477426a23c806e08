// How the GPU reads the weight formats: a unit is what one thread takes at a time, 32 or 64 columns of a row. load()
// fetches it with 16-byte loads; codes() gives 32 columns of it (`half`: which, of 64) as bytes, four a register, and
// of each group of columns what a code is worth: scale * code + shift. `phase`: the unit's number in its block.
// Bits are laid out as ops/quant/ draws them.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "ops/quant/plane_bytes.h"

namespace weft::cuda {

__device__ inline uint4 load16(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
__device__ inline uint2 load8(const void* p) { return __ldg(static_cast<const uint2*>(p)); }
__device__ inline uint32_t load4(const void* p) { return __ldg(static_cast<const uint32_t*>(p)); }
__device__ inline uint16_t load2(const void* p) { return __ldg(static_cast<const uint16_t*>(p)); }

__device__ inline float half_bits(uint32_t bits) { return __half2float(__ushort_as_half(static_cast<uint16_t>(bits))); }
__device__ inline uint32_t word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
__device__ inline int low4(uint32_t v) { return static_cast<int>(v & 0x0F0F0F0Fu); }
__device__ inline int high4(uint32_t v) { return static_cast<int>((v >> 4) & 0x0F0F0F0Fu); }

/// Bits [4 i, 4 i + 4) of `bits` as bit 4 of four bytes.
__device__ inline int fifth4(uint32_t bits, int i) {
  const uint32_t b = bits >> (4 * i);
  return static_cast<int>((b & 1) << 4 | (b & 2) << 11 | (b & 4) << 18 | (b & 8) << 25);
}

/// Sixteen signed bytes as a table: the entries of the four low nibbles of `indices`'s bytes.
struct Levels {
  uint32_t w[4];
  __device__ int of(uint32_t nibbles) const {
    // A byte permutation has 3-bit indices of 8 bytes: both halves, then bit 3 chooses.
    const uint32_t n = nibbles & 0x07070707u, packed = n | n >> 4;  // indices of bytes 0, 1 and 2, 3
    const uint32_t selector = (packed & 0xFF) | (packed >> 8 & 0xFF00);
    const uint32_t low = __byte_perm(w[0], w[1], selector), high = __byte_perm(w[2], w[3], selector);
    const uint32_t third = (nibbles >> 3 & 0x01010101u) * 0xFFu;
    return static_cast<int>((low & ~third) | (high & third));
  }
};
__device__ inline Levels levels_iq4() { return {{0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u}}; }
__device__ inline Levels levels_mxfp4() { return {{0x03020100u, 0x0C080604u, 0xFDFEFF00u, 0xF4F8FAFCu}}; }

/// Where the planes of a weight are, in the order of ops/quant/planes.h, or of a row of it; loadN reads N bytes. Units
/// are loaded from this or, of rows in shared memory, from what has the same members.
struct PlaneStarts {
  const uint8_t* at[4] = {};

  __device__ uint4 load16(int plane, unsigned offset) const { return cuda::load16(at[plane] + offset); }
  __device__ uint2 load8(int plane, unsigned offset) const { return cuda::load8(at[plane] + offset); }
  __device__ uint32_t load4(int plane, unsigned offset) const { return cuda::load4(at[plane] + offset); }
  __device__ uint16_t load2(int plane, unsigned offset) const { return cuda::load2(at[plane] + offset); }
  __device__ uint8_t load1(int plane, unsigned offset) const { return __ldg(at[plane] + offset); }
};
/// What a block has in each plane.
template <int... kBytes>
struct FieldBytes {
  static constexpr int kPlanes = sizeof...(kBytes);
  __host__ __device__ static constexpr int of(int plane) {
    const int bytes[] = {kBytes...};
    return bytes[plane];
  }
};
/// Of a weight of n_blocks.
template <typename F>
__host__ __device__ PlaneStarts plane_starts(const void* weight, int64_t n_blocks) {
  PlaneStarts starts;
  const auto* p = static_cast<const uint8_t*>(weight);
  for (int i = 0; i < F::Fields::kPlanes; ++i) {
    starts.at[i] = p;
    p += quant::plane_bytes(static_cast<size_t>(n_blocks), static_cast<size_t>(F::Fields::of(i)));
  }
  return starts;
}
/// `blocks` further on.
template <typename F>
__device__ PlaneStarts moved(const PlaneStarts& from, int64_t blocks) {
  PlaneStarts to;
#pragma unroll
  for (int i = 0; i < F::Fields::kPlanes; ++i) to.at[i] = from.at[i] + blocks * F::Fields::of(i);
  return to;
}

/// What the 32-column formats have in common: a block is a unit and a group.
struct Blocks32 {
  static constexpr int kUnit = 32, kGroup = 32, kUnitsPerBlock = 1;
  static constexpr bool kSigned = false;  // whether a code may be negative
};

__device__ inline void nibbles32(const uint4& qs, int (&q)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) q[i] = low4(word(qs, i)), q[4 + i] = high4(word(qs, i));
}

struct FormatQ4_0 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint16_t d;
  };
  using Fields = FieldBytes<16, 2>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load2(1, u * 2)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
    scale[0] = half_bits(u.d);
    shift[0] = -8.0f * scale[0];
  }
};

struct FormatQ4_1 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint32_t dm;
  };
  using Fields = FieldBytes<16, 4>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load4(1, u * 4)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
    scale[0] = half_bits(u.dm);
    shift[0] = half_bits(u.dm >> 16);
  }
};

struct FormatQ5_0 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint32_t qh;
    uint16_t d;
  };
  using Fields = FieldBytes<16, 4, 2>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load4(1, u * 4), p.load2(2, u * 2)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] |= fifth4(u.qh, i);
    scale[0] = half_bits(u.d);
    shift[0] = -16.0f * scale[0];
  }
};

struct FormatQ5_1 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint32_t qh, dm;
  };
  using Fields = FieldBytes<16, 4, 4>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load4(1, u * 4), p.load4(2, u * 4)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] |= fifth4(u.qh, i);
    scale[0] = half_bits(u.dm);
    shift[0] = half_bits(u.dm >> 16);
  }
};

struct FormatQ8_0 : Blocks32 {
  static constexpr bool kSigned = true;
  struct Unit {
    uint4 a, b;
    uint16_t d;
  };
  using Fields = FieldBytes<32, 2>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 32), p.load16(0, u * 32 + 16), p.load2(1, u * 2)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = static_cast<int>(word(u.a, i)), q[4 + i] = static_cast<int>(word(u.b, i));
    scale[0] = half_bits(u.d);
    shift[0] = 0;
  }
};

struct FormatIQ4_NL : Blocks32 {
  static constexpr bool kSigned = true;
  struct Unit {
    uint4 qs;
    uint16_t d;
  };
  using Fields = FieldBytes<16, 2>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load2(1, u * 2)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    const Levels levels = levels_iq4();
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = levels.of(word(u.qs, i)), q[4 + i] = levels.of(word(u.qs, i) >> 4);
    scale[0] = half_bits(u.d);
    shift[0] = 0;
  }
};

struct FormatMXFP4 : Blocks32 {
  static constexpr bool kSigned = true;
  struct Unit {
    uint4 qs;
    uint8_t e;
  };
  using Fields = FieldBytes<16, 1>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load1(1, u)};
  }
  __device__ static void codes(const Unit& u, unsigned, unsigned, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    const Levels levels = levels_mxfp4();
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = levels.of(word(u.qs, i)), q[4 + i] = levels.of(word(u.qs, i) >> 4);
    const uint32_t e = u.e;  // half the scale is 2^(e - 128): subnormal for e < 2
    scale[0] = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    shift[0] = 0;
  }
};

/// A block of 256 is 8 units of 32, each with a scale of its own.
struct FormatIQ4_XS {
  static constexpr int kUnit = 32, kGroup = 32, kUnitsPerBlock = 8;
  static constexpr bool kSigned = true;
  struct Unit {
    uint4 qs;
    uint2 head;  // d, scales_h; scales_l
  };
  using Fields = FieldBytes<128, 8>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    return {p.load16(0, u * 16), p.load8(1, u / 8 * 8)};
  }
  __device__ static void codes(const Unit& u, unsigned phase, unsigned, int (&q)[8], float (&scale)[1],
                               float (&shift)[1]) {
    const Levels levels = levels_iq4();
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = levels.of(word(u.qs, i)), q[4 + i] = levels.of(word(u.qs, i) >> 4);
    const unsigned g = phase;
    const int s = static_cast<int>((u.head.y >> (4 * g) & 15) | (u.head.x >> (16 + 2 * g) & 3) << 4) - 32;
    scale[0] = half_bits(u.head.x) * static_cast<float>(s);
    shift[0] = 0;
  }
};

/// The six-bit scale and min of group g of a q4_K or q5_K block, from its first 16 bytes.
__device__ inline void scale_k(const uint4& head, unsigned g, float (&scale)[1], float (&shift)[1]) {
  const unsigned byte = 8 * (g & 3);
  const uint32_t a = head.y >> byte, b = head.z >> byte, c = head.w >> byte;
  const uint32_t s = g < 4 ? a & 63 : (c & 15) | (a >> 2 & 48);
  const uint32_t m = g < 4 ? b & 63 : (c >> 4 & 15) | (b >> 2 & 48);
  scale[0] = half_bits(head.x) * static_cast<float>(s);
  shift[0] = -half_bits(head.x >> 16) * static_cast<float>(m);
}

/// A unit is the 32 bytes p of quants: groups 2 p (low nibbles) and 2 p + 1 (high).
struct FormatQ4_K {
  static constexpr int kUnit = 64, kGroup = 32, kUnitsPerBlock = 4;
  static constexpr bool kSigned = false;
  struct Unit {
    uint4 head, a, b;
  };
  using Fields = FieldBytes<144>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    const unsigned block = u / 4 * 144, qs = block + 16 + u % 4 * 32;
    return {p.load16(0, block), p.load16(0, qs), p.load16(0, qs + 16)};
  }
  __device__ static void codes(const Unit& u, unsigned phase, unsigned half, int (&q)[8], float (&scale)[1],
                               float (&shift)[1]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = low4(word(u.a, i) >> 4 * half), q[4 + i] = low4(word(u.b, i) >> 4 * half);
    scale_k(u.head, 2 * phase + half, scale, shift);
  }
};

struct FormatQ5_K {
  static constexpr int kUnit = 64, kGroup = 32, kUnitsPerBlock = 4;
  static constexpr bool kSigned = false;
  struct Unit {
    uint4 head, h0, h1, a, b;
  };
  using Fields = FieldBytes<176>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    const unsigned block = u / 4 * 176, qs = block + 48 + u % 4 * 32;
    return {p.load16(0, block), p.load16(0, block + 16), p.load16(0, block + 32), p.load16(0, qs),
            p.load16(0, qs + 16)};
  }
  __device__ static void codes(const Unit& u, unsigned phase, unsigned half, int (&q)[8], float (&scale)[1],
                               float (&shift)[1]) {
    const unsigned g = 2 * phase + half;
    const auto code = [&](uint32_t low, uint32_t high) {
      return low4(low >> 4 * half) | static_cast<int>((high >> g & 0x01010101u) << 4);
    };
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      q[i] = code(word(u.a, i), word(u.h0, i)), q[4 + i] = code(word(u.b, i), word(u.h1, i));
    }
    scale_k(u.head, g, scale, shift);
  }
};

/// Unit u is half u / 2 of the block, and of its 64 low bytes the low nibbles (u even) or the high ones: two units read
/// the same bytes.
struct FormatQ6_K {
  static constexpr int kUnit = 64, kGroup = 16, kUnitsPerBlock = 4;
  static constexpr bool kSigned = false;
  struct Unit {
    uint4 low[4], h0, h1;
    uint32_t scales;  // of the four groups of 16
    uint16_t d;
  };
  using Fields = FieldBytes<128, 64, 16, 2>;
  template <typename Planes>
  __device__ static Unit load(const Planes& p, unsigned u) {
    const unsigned block = u / 4, part = u % 4 / 2, low = block * 128 + part * 64, high = block * 64 + part * 32;
    return {{p.load16(0, low), p.load16(0, low + 16), p.load16(0, low + 32), p.load16(0, low + 48)},
            p.load16(1, high),
            p.load16(1, high + 16),
            p.load4(2, u * 4),
            p.load2(3, block * 2)};
  }
  __device__ static void codes(const Unit& u, unsigned phase, unsigned half, int (&q)[8], float (&scale)[2],
                               float (&shift)[2]) {
    const unsigned nibble = phase % 2 * 4, first = nibble + 2 * half;  // the bits of the low and the high bytes
    const auto code = [&](uint32_t low, uint32_t high) {
      return static_cast<int>((low >> nibble & 0x0F0F0F0Fu) | (high >> first & 0x03030303u) << 4);
    };
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      q[i] = code(word(u.low[2 * half], i), word(u.h0, i));
      q[4 + i] = code(word(u.low[2 * half + 1], i), word(u.h1, i));
    }
    const float d = half_bits(u.d);
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      scale[g] = d * static_cast<float>(static_cast<int8_t>(u.scales >> (2 * half + g) * 8));
      shift[g] = -32.0f * scale[g];
    }
  }
};

/// Calls f with the format of a TypeTraits::id, if it is one of these.
template <typename F>
bool with_format(uint32_t type, F&& f) {
  switch (type) {
    case 2:
      f(FormatQ4_0{});
      return true;
    case 3:
      f(FormatQ4_1{});
      return true;
    case 6:
      f(FormatQ5_0{});
      return true;
    case 7:
      f(FormatQ5_1{});
      return true;
    case 8:
      f(FormatQ8_0{});
      return true;
    case 12:
      f(FormatQ4_K{});
      return true;
    case 13:
      f(FormatQ5_K{});
      return true;
    case 14:
      f(FormatQ6_K{});
      return true;
    case 20:
      f(FormatIQ4_NL{});
      return true;
    case 23:
      f(FormatIQ4_XS{});
      return true;
    case 39:
      f(FormatMXFP4{});
      return true;
    default:
      return false;
  }
}

}  // namespace weft::cuda
